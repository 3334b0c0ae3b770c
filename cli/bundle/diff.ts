// `atoll bundle diff`: what a change of policy changes, in its text and, with a pack, in what was done.

import { parseArgs } from "node:util";
import { changes, compare } from "../authoring/authoring.ts";
import type { Comparison } from "../authoring/authoring.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { packContents } from "../../kernel/evidence/evidence.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { recordedCalls } from "../../kernel/replay/replay.ts";
import { documentAt } from "../document.ts";
import { UsageError } from "../io.ts";
import type { Io } from "../io.ts";
import { withPack } from "../pack.ts";

const USAGE = `usage: atoll bundle diff OLD NEW [--against PACK] [--ceiling FILE] [--json]
  OLD, NEW   a PolicyBundle, or a policy document (a file or a folder of YAML or JSON)
  --against  an evidence pack: every call recorded in it whose verdict or code would change from OLD to NEW
  --ceiling  the P0 that stands above both (with --against)
exit 0 the same, 1 they differ, 2 unreadable`;

export async function diff(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      against: { type: "string" },
      ceiling: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [before, after] = positionals;
  if (before === undefined || after === undefined || positionals.length > 2)
    throw new UsageError("two policies are compared", USAGE);
  const [a, b] = [documentAt(before), documentAt(after)];
  const found = changes(a, b);
  const above = values.ceiling === undefined ? {} : { ceiling: documentAt(values.ceiling) };
  const calls =
    values.against === undefined
      ? undefined
      : withPack(values.against, (files) =>
          compare(compilePolicy(a, above), compilePolicy(b, above), recordedCalls(packContents(files))),
        );
  if (values.json === true)
    io.stdout.write(
      `${JSON.stringify({ changes: found, ...(calls === undefined ? {} : { calls }) }, null, 2)}\n`,
    );
  else {
    for (const c of found) io.stdout.write(`${c.path}\n${line("-", c.before)}${line("+", c.after)}`);
    if (calls !== undefined) io.stdout.write(inWords(calls));
  }
  return found.length === 0 ? 0 : 1;
}

const line = (sign: string, value: JsonValue | undefined): string =>
  value === undefined ? "" : `  ${sign} ${canonicalize(value)}\n`;

function inWords({ turned, judged, redacted }: Comparison): string {
  const head = `${turned.length} of ${judged} recorded calls would come out otherwise`;
  const unknown = redacted === 0 ? "" : `; ${redacted} were recorded redacted and cannot be judged`;
  const rows = turned.map(
    (t) => `  ${t.session_id} lamport ${t.lamport} ${t.tool}: ${t.before} -> ${t.after}\n`,
  );
  return `${head}${unknown}\n${rows.join("")}`;
}
