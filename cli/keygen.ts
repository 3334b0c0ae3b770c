// `atoll keygen`: a new key pair, as `openssl genpkey -algorithm ed25519` would make it.

import { generateKeyPairSync } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { signerFromPem } from "../kernel/crypto/crypto.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";

const USAGE = `usage: atoll keygen --out KEY
Writes the private key to KEY (PKCS#8 PEM, mode 0600) and the public key to KEY.pub (SPKI PEM), and prints the
key id. A file that exists is never overwritten.
exit 0 made, 2 wrong use, or one of the files exists`;

export async function keygen(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { out: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (values.out === undefined || values.out === "") throw new UsageError("--out is missing", USAGE);
  // Before anything is written: a private key whose public one has no place would be left behind.
  for (const path of [values.out, `${values.out}.pub`])
    if (existsSync(path)) throw new UsageError(`\`${path}\` exists and is not overwritten`, USAGE);
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" });
  writeFileSync(values.out, pem, { mode: 0o600, flag: "wx" });
  writeFileSync(`${values.out}.pub`, publicKey.export({ type: "spki", format: "pem" }), {
    mode: 0o644,
    flag: "wx",
  });
  io.stdout.write(`${signerFromPem(pem).keyId}\n`);
  return 0;
}
