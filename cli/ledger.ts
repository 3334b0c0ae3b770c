// `atoll ledger`: keeps what guardians ship, says what it holds, and is looked at with keys of one's own.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { LIMITS, arrayFrom, closed, parseJson, stringFrom } from "../kernel/contracts/contracts.ts";
import { signerFromPem, verifierFromPem } from "../kernel/crypto/crypto.ts";
import type { Verifier } from "../kernel/crypto/crypto.ts";
import { NOT_PROVED } from "../kernel/evidence/evidence.ts";
import { parseTrustRoots } from "../kernel/trust/trust.ts";
import {
  REGISTRY,
  auditLedger,
  createLedger,
  openStore,
  registryEvents,
  serveLedger,
} from "../operator/ledger/ledger.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";
import { inLittleMemory } from "./pack.ts";
import { BY, signatures } from "./signatures/signatures.ts";

const USAGE = `usage: atoll ledger serve  --store PLACE --key FILE --guardians FILE [--listen HOST:PORT] [--cert FILE --cert-key FILE]
       atoll ledger status --store PLACE [--json]
       atoll ledger verify --store PLACE --trust roots.pem [--json]
       atoll ledger registry --store PLACE          the trust registry's events, a line each
  --store      a folder, or \`postgres://…\`; else the environment's ATOLL_LEDGER_URL
  --key        the ledger's Ed25519 key, of role \`ledger\`
  --guardians  JSON: [{pod, token, key}]; key is a guardian's public key in PEM
  --listen     127.0.0.1:8444 when not given; other addresses need a certificate
exit 0 done or valid, 1 not valid, 2 usage`;

export async function ledger(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      store: { type: "string" },
      key: { type: "string" },
      guardians: { type: "string" },
      listen: { type: "string", default: "127.0.0.1:8444" },
      cert: { type: "string" },
      "cert-key": { type: "string" },
      trust: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [what, ...more] = positionals;
  const place = values.store ?? io.env["ATOLL_LEDGER_URL"];
  if (what === undefined || more.length > 0)
    throw new UsageError("serve, status, verify or registry is needed", USAGE);
  if (place === undefined || place === "") throw new UsageError("`--store` is needed", USAGE);
  if (what === "serve") return serve(place, values, io);
  const store = await openStore(place);
  try {
    if (what === "status") {
      const shelves = (await store.shelves()).filter((s) => s.pod !== "" && s.pod !== REGISTRY);
      if (values.json === true)
        io.stdout.write(`${JSON.stringify(shelves.map((s) => ({ pod: s.pod, count: s.count })))}\n`);
      else for (const { pod, count } of shelves) io.stdout.write(`${pod}: ${count} records\n`);
      return 0;
    }
    if (what === "registry") {
      for (const { text } of await registryEvents(store)) io.stdout.write(`${text}\n`);
      return 0;
    }
    if (what !== "verify")
      throw new UsageError(`\`${what}\` is none of serve, status, verify and registry`, USAGE);
    if (values.trust === undefined)
      throw new UsageError("`--trust` is needed: a ledger never vouches for itself", USAGE);
    const checked = signatures();
    inLittleMemory();
    const audit = await auditLedger(store, parseTrustRoots(readFileSync(values.trust, "utf8")), checked.of);
    if (values.json === true)
      io.stdout.write(
        `${JSON.stringify(
          audit.ok
            ? { valid: true, ...audit, signatures_by: checked.by, not_proved: NOT_PROVED }
            : { valid: false, ...audit.finding, signatures_by: checked.by },
        )}\n`,
      );
    else if (audit.ok)
      io.stdout.write(
        `VALID ${audit.pods.length} guardians, ${audit.checkpoints} checkpoints of the ledger\n${audit.pods
          .map((p) => `  ${p.pod}: ${p.records} records, tree of ${p.tree_size} nodes, root ${p.root_hash}\n`)
          .join(
            "",
          )}  signatures of nodes checked by ${BY[checked.by]}\nnot proved by this:\n${NOT_PROVED.map((line) => `  - ${line}\n`).join("")}`,
      );
    else {
      const f = audit.finding;
      io.stdout.write(`INVALID ${f.file} record ${f.line}: ${f.code}: ${f.reason}\n`);
    }
    return audit.ok ? 0 : 1;
  } finally {
    await store.close();
  }
}

interface ServeValues {
  readonly key?: string | undefined;
  readonly guardians?: string | undefined;
  readonly listen: string;
  readonly cert?: string | undefined;
  readonly "cert-key"?: string | undefined;
}

async function serve(place: string, values: ServeValues, io: Io): Promise<number> {
  if (values.key === undefined || values.guardians === undefined)
    throw new UsageError("`--key` and `--guardians` are needed", USAGE);
  const at = /^(.+):(\d{1,5})$/.exec(values.listen);
  const host = (at?.[1] ?? "").replace(/^\[(.*)\]$/, "$1");
  if (at === null) throw new UsageError("`--listen` is HOST:PORT", USAGE);
  const tls =
    values.cert === undefined || values["cert-key"] === undefined
      ? undefined
      : { cert: readFileSync(values.cert, "utf8"), key: readFileSync(values["cert-key"], "utf8") };
  if (tls === undefined && host !== "127.0.0.1" && host !== "::1")
    throw new UsageError("tokens go over TLS: `--cert` and `--cert-key` are needed", USAGE);
  const guardians = guardiansIn(readFileSync(values.guardians));
  const store = await openStore(place);
  const server = await serveLedger({
    ledger: createLedger({
      store,
      signer: signerFromPem(readFileSync(values.key, "utf8")),
      keysOf: async (pod) => guardians.flatMap((g) => (g.pod === pod ? [g.key] : [])),
      clock: Date.now,
      random: (n) => randomBytes(n),
    }),
    podOf: async (token) => guardians.find((g) => g.token === token)?.pod,
    host,
    port: Number(at[2]),
    ...(tls === undefined ? {} : { tls }),
    log: (line) => io.stderr.write(`${line}\n`),
  });
  io.stderr.write(`serving the ledger on ${host}:${server.port}\n`);
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => resolve());
  });
  await server.stop();
  await store.close();
  return 0;
}

interface Guardian {
  readonly pod: string;
  readonly token: string;
  readonly key: Verifier;
}
function guardiansIn(bytes: Uint8Array): readonly Guardian[] {
  return arrayFrom(parseJson(bytes, LIMITS.policy), "guardians").map((each) => {
    const o = closed(each, "guardian", ["pod", "token", "key"]);
    return {
      pod: stringFrom(o["pod"], "pod", 253),
      token: stringFrom(o["token"], "token"),
      key: verifierFromPem(stringFrom(o["key"], "key")),
    };
  });
}
