// `atoll canonicalize`: the canonical form of one JSON text.

import { parseArgs } from "node:util";
import { canonicalize } from "../kernel/canonicalize/canonicalize.ts";
import { LIMITS, parseJson } from "../kernel/contracts/contracts.ts";
import { readAll } from "./io.ts";
import type { Io } from "./io.ts";

const USAGE = `usage: atoll canonicalize < in.json > out.json
Writes the canonical form (RFC 8785) without a line break. What I-JSON forbids (duplicate keys, lone surrogates,
a byte order mark, integers beyond ±(2^53−1)), a depth above 64 and more than 16 MiB end with exit code 2, the
reason and the byte offset.`;

export async function canonicalizeStdin(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({ args: [...argv], options: { help: { type: "boolean", short: "h" } } });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const bytes = await readAll(io.stdin, LIMITS.policy.bytes);
  io.stdout.write(canonicalize(parseJson(bytes, LIMITS.policy)));
  return 0;
}
