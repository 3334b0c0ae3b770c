// `atoll bundle verify`: what a guardian would say to this bundle, given these roots.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ContractError, oneOf, timestampFrom, timestampOf } from "../../kernel/contracts/contracts.ts";
import { LEVELS, verifyBundle } from "../../kernel/policy/bundle.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { UsageError } from "../io.ts";
import type { Io } from "../io.ts";
import { readBundleFile } from "./file.ts";
import type { BundleFile } from "./file.ts";

const USAGE = `usage: atoll bundle verify bundle.yaml --trust roots.pem [--level L1|L2|L3] [--at TIME] [--json]
Checks hash, signatures and roles, times and level. Exit 0 valid, 1 not valid, 2 wrong use or unreadable.
--trust is mandatory: a bundle never vouches for itself.`;

export async function verify(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      trust: { type: "string" },
      level: { type: "string" },
      at: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new UsageError("one bundle file is needed", USAGE);
  if (values.trust === undefined) throw new UsageError("--trust is mandatory", USAGE);
  const roots = parseTrustRoots(readFileSync(values.trust, "utf8"));
  let file: BundleFile;
  try {
    file = readBundleFile(path);
  } catch (error) {
    // Readable, and no bundle: that is an answer and not a wrong use.
    if (!(error instanceof ContractError)) throw error;
    const reason = error.message;
    const code = "POLICY_SIGNATURE_INVALID";
    io.stdout.write(
      values.json === true
        ? `${JSON.stringify({ valid: false, code, problem: "malformed", reason })}\n`
        : `not valid: ${code}: ${reason}\n`,
    );
    return 1;
  }
  const verdict = verifyBundle(file.manifest, roots, {
    now: values.at === undefined ? timestampOf(Date.now()) : timestampFrom(values.at, "--at"),
    conformanceLevel: oneOf(values.level ?? "L1", "--level", LEVELS),
    requireSignature: true,
    ...(file.content === undefined ? {} : { content: file.content }),
  });
  const { bundleId, version, layer, contentHash } = file.bundle.signed;
  if (values.json === true)
    io.stdout.write(
      `${JSON.stringify({
        valid: verdict.ok,
        bundleId,
        version,
        layer,
        contentHash,
        ...(verdict.ok
          ? { digest: verdict.digest, signedBy: verdict.signedBy }
          : { code: verdict.code, problem: verdict.problem, reason: verdict.reason }),
      })}\n`,
    );
  else if (verdict.ok)
    io.stdout.write(
      `valid: ${bundleId} version ${version}, ${layer}, signed by ${verdict.signedBy.join(", ")}\n`,
    );
  else io.stdout.write(`not valid: ${verdict.code}: ${verdict.reason}\n`);
  return verdict.ok ? 0 : 1;
}
