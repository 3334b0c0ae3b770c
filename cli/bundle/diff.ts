// `atoll bundle diff`: what a change of policy changes.

import { parseArgs } from "node:util";
import { changes } from "../authoring/authoring.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { documentAt } from "../document.ts";
import { UsageError } from "../io.ts";
import type { Io } from "../io.ts";

const USAGE = `usage: atoll bundle diff OLD NEW [--json]
  OLD, NEW  a PolicyBundle, or a policy document (a file or a folder of YAML or JSON)
exit 0 the same, 1 they differ, 2 unreadable`;

export async function diff(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { json: { type: "boolean" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [before, after] = positionals;
  if (before === undefined || after === undefined || positionals.length > 2)
    throw new UsageError("two policies are compared", USAGE);
  const found = changes(documentAt(before), documentAt(after));
  if (values.json === true) io.stdout.write(`${JSON.stringify({ changes: found }, null, 2)}\n`);
  else for (const c of found) io.stdout.write(`${c.path}\n${line("-", c.before)}${line("+", c.after)}`);
  return found.length === 0 ? 0 : 1;
}

const line = (sign: string, value: JsonValue | undefined): string =>
  value === undefined ? "" : `  ${sign} ${canonicalize(value)}\n`;
