// `atoll bundle build`: a policy from YAML, hashed, signed and wrapped for `kubectl apply`.

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { objectFrom, oneOf, timestampFrom } from "../../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem } from "../../kernel/crypto/crypto.ts";
import { LEVELS, bundleManifest, parseBundle, signBundle } from "../../kernel/policy/bundle.ts";
import { load, readPolicySource } from "../authoring/authoring.ts";
import { UsageError } from "../io.ts";
import type { Io } from "../io.ts";
import { writeBundleFile } from "./file.ts";

const USAGE = `usage: atoll bundle build DIR|FILE --bundle-id ID --version N [--sign KEY]… [-o bundle.yaml]
  --level L1|L2|L3      conformance level that the policy claims (L1); from L2 on --expires-at is mandatory
  --not-before TIME     UTC with milliseconds, 2026-11-20T08:17:06.123Z
  --expires-at TIME     likewise
  --name NAME           metadata.name (ID-vN)
  --namespace NAME      of the ConfigMap that holds a content above 128 KiB (atoll-system)
  --ceiling FILE        the P0 that it will stand under: what asks for more is refused here already
Without -o the manifest goes to standard output. A folder is merged by path.`;

export async function build(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      "bundle-id": { type: "string" },
      version: { type: "string" },
      sign: { type: "string", multiple: true },
      output: { type: "string", short: "o" },
      level: { type: "string" },
      "not-before": { type: "string" },
      "expires-at": { type: "string" },
      name: { type: "string" },
      namespace: { type: "string" },
      ceiling: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new UsageError("one folder or file is needed", USAGE);
  const bundleId = values["bundle-id"];
  if (bundleId === undefined) throw new UsageError("--bundle-id is missing", USAGE);
  if (!/^[1-9][0-9]{0,14}$/.test(values.version ?? ""))
    throw new UsageError("--version is a whole number from 1", USAGE);
  const time = (name: "not-before" | "expires-at") =>
    values[name] === undefined ? "" : timestampFrom(values[name], `--${name}`);
  const conformanceLevel = oneOf(values.level ?? "L1", "--level", LEVELS);
  if (conformanceLevel !== "L1" && values["expires-at"] === undefined)
    throw new UsageError(`--expires-at is mandatory at level ${conformanceLevel}`, USAGE);

  const source = readPolicySource(path);
  const above = values.ceiling === undefined ? undefined : readPolicySource(values.ceiling);
  // Nobody signs what no guardian could load.
  load(source, above);
  const content = objectFrom(source.value, path);
  const signed = signBundle(
    {
      type: "atoll.dev/bundle/v1",
      bundleId,
      version: Number(values.version),
      layer: oneOf(content["layer"], "layer", ["P0", "P1"]),
      contentHash: hashJson(content),
      conformanceLevel,
      notBefore: time("not-before"),
      expiresAt: time("expires-at"),
    },
    (values.sign ?? []).map((file) => signerFromPem(readFileSync(file, "utf8"))),
  );
  const name = values.name ?? `${bundleId.replaceAll("_", "-")}-v${signed.version}`;
  // What we write, we can read: the same parser judges names and times here as at the other end.
  parseBundle(bundleManifest({ signed, content, source: undefined }, name));
  const text = writeBundleFile(signed, content, { name, namespace: values.namespace ?? "atoll-system" });
  if (values.output === undefined || values.output === "-") io.stdout.write(text);
  else {
    writeFileSync(values.output, text);
    io.stdout.write(`${values.output}: ${bundleId} version ${signed.version}, ${signed.contentHash}\n`);
  }
  return 0;
}
