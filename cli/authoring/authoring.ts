// The door of policy authoring: `atoll bundle lint | schema`, and the strict reading of sources that `build` shares.

import { parseArgs } from "node:util";
import type { JsonValue, PolicyDoc } from "../../kernel/contracts/contracts.ts";
import { lintPolicy } from "../../kernel/policy/lint.ts";
import { readPolicySource, show, SourceError } from "./read.ts";
import type { Finding, Source } from "./read.ts";
import { policyReference, policySchema } from "./schema.ts";

export { mergeSources, readPolicySource, readYaml, show, SourceError } from "./read.ts";
export type { Finding, Place, Source } from "./read.ts";
export { policySchema } from "./schema.ts";

export interface Io {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

export const LINT_USAGE = `usage: atoll bundle lint DIR|FILE [--ceiling DIR|FILE] [--json]
  --ceiling  the P0 document above a P1 (budgets are compared), or the P1 below a P0 (its bans are matched)
exit 0 clean, 1 findings (warnings too), 2 unreadable
`;

/** `atoll bundle lint`: what the compiler would accept and a person would regret. */
export function lint(argv: readonly string[], io: Io): number {
  const args = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ceiling: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  const [path] = args.positionals;
  if (args.values.help === true || path === undefined) {
    (args.values.help === true ? io.stdout : io.stderr).write(LINT_USAGE);
    return args.values.help === true ? 0 : 2;
  }
  try {
    const source = readPolicySource(path);
    const doc = documentOf(source);
    const other =
      args.values.ceiling === undefined ? undefined : documentOf(readPolicySource(args.values.ceiling));
    const found = lintPolicy(doc, other).map((f) => ({ ...f, ...source.place(f.path) }));
    if (args.values.json === true) io.stdout.write(`${JSON.stringify({ findings: found }, null, 2)}\n`);
    else {
      for (const f of found)
        io.stdout.write(
          `${show({ place: f, path: f.path, message: `${f.severity}: ${f.message} [${f.lint}]`, hint: f.hint })}\n`,
        );
      io.stdout.write(
        found.length === 0 ? "no findings\n" : `${found.length} finding${found.length === 1 ? "" : "s"}\n`,
      );
    }
    return found.length === 0 ? 0 : 1;
  } catch (e) {
    return explain(e, args.values.json === true, io);
  }
}

export const SCHEMA_USAGE = `usage: atoll bundle schema [--reference]
  prints the JSON Schema of a policy document; name it in a policy's first line:
  # yaml-language-server: $schema=policy.schema.json
  --reference  the reference page instead
`;

export function schema(argv: readonly string[], io: Io): number {
  const args = parseArgs({
    args: [...argv],
    options: { reference: { type: "boolean" }, help: { type: "boolean", short: "h" } },
  });
  if (args.values.help === true) io.stdout.write(SCHEMA_USAGE);
  else
    io.stdout.write(
      args.values.reference === true ? policyReference() : `${JSON.stringify(policySchema, null, 2)}\n`,
    );
  return 0;
}

/** The document, as far as its outermost shape; the compiler reads the rest strictly. */
function documentOf(source: Source): PolicyDoc {
  const value = source.value;
  if (isPolicy(value)) return value;
  throw new SourceError([
    {
      place: source.place(""),
      path: "",
      message: "this is no policy document",
      hint: "it starts with `apiVersion: atoll.dev/policy/v1`, `name` and `layer`",
    },
  ]);
}

const isPolicy = (v: JsonValue): v is JsonValue & PolicyDoc =>
  typeof v === "object" &&
  v !== null &&
  "apiVersion" in v &&
  v["apiVersion"] === "atoll.dev/policy/v1" &&
  (v["layer"] === "P0" || v["layer"] === "P1");

function explain(e: unknown, json: boolean, io: Io): number {
  const findings: readonly Finding[] = e instanceof SourceError ? e.findings : [];
  if (findings.length === 0 && !(e instanceof Error && "code" in e)) throw e;
  if (json)
    io.stdout.write(
      `${JSON.stringify({ error: e instanceof Error ? e.message : "", findings: findings.map((f) => ({ ...f.place, path: f.path, message: f.message, hint: f.hint })) }, null, 2)}\n`,
    );
  else io.stderr.write(`${e instanceof Error ? e.message : ""}\n`);
  return 2;
}
