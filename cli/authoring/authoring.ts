// The door of policy authoring: `atoll bundle lint | test | schema`, and the strict reading of sources that `build` shares.

import { readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { ContractError, isObject } from "../../kernel/contracts/contracts.ts";
import type { PolicyDoc } from "../../kernel/contracts/contracts.ts";
import { lintPolicy } from "../../kernel/policy/policy.ts";
import type { LintFinding as KernelFinding } from "../../kernel/policy/policy.ts";
import { UsageError } from "../io.ts";
import type { Io } from "../io.ts";
import { load, shaped } from "./load.ts";
import { readPolicySource, show, SourceError } from "./read.ts";
import type { Finding, Place, Source } from "./read.ts";
import { policyReference, policySchema } from "./schema.ts";
import { junit, runSuite } from "./suite.ts";
import type { SuiteResult } from "./suite.ts";

export { mergeSources, readPolicySource, readYaml, show, SourceError } from "./read.ts";
export type { Finding, Place, Source } from "./read.ts";
export { load } from "./load.ts";
export { policySchema } from "./schema.ts";
export { runSuite } from "./suite.ts";
export { changes, compare } from "./changes.ts";
export type { Change, Comparison, Turned } from "./changes.ts";

const LINT_USAGE = `usage: atoll bundle lint DIR|FILE [--ceiling DIR|FILE] [--json]
  --ceiling  the P0 document above a P1 (budgets are compared), or the P1 below a P0 (its bans are matched)
exit 0 clean, 1 findings (warnings too), 2 unreadable`;

/** `atoll bundle lint`: what the compiler refuses, and what it would accept and a person would regret. */
export async function lint(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ceiling: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (args.values.help === true) {
    io.stdout.write(`${LINT_USAGE}\n`);
    return 0;
  }
  const [path, ...more] = args.positionals;
  if (path === undefined || more.length > 0) throw new UsageError("one folder or file is needed", LINT_USAGE);
  try {
    const above = args.values.ceiling === undefined ? undefined : readPolicySource(args.values.ceiling);
    const found = lintSource(readPolicySource(path), above);
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

/** What `atoll bundle lint` finds, each with its place. */
export function lintSource(source: Source, above?: Source): readonly (LintFinding | Unloadable)[] {
  const other = above === undefined ? undefined : sound(above);
  const doc = sound(source);
  const linted =
    doc === undefined ? [] : lintPolicy(doc, other).map((f) => ({ ...f, ...source.place(f.path) }));
  return [...unloadable(source, above, new Set(linted.map((f) => f.path))), ...linted];
}

/** The document if all of it has the shape of one; what is wrong with the rest is said by the compiler. */
function sound(source: Source): PolicyDoc | undefined {
  outermost(source);
  try {
    return shaped(source);
  } catch (error) {
    if (error instanceof SourceError) return undefined;
    throw error;
  }
}

const TEST_USAGE = `usage: atoll bundle test DIR [--policy DIR|FILE] [--junit FILE] [--json]
  runs every *.test.yaml of DIR against the policy in DIR (or --policy); a test file may name its \`ceiling:\`
exit 0 all as expected, 1 a difference or a rule that no test reaches, 2 unreadable`;

/** `atoll bundle test`: calls and facts to expected verdicts, with the rules that were reached. */
export async function test(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      policy: { type: "string" },
      junit: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (args.values.help === true) {
    io.stdout.write(`${TEST_USAGE}\n`);
    return 0;
  }
  const [folder, ...more] = args.positionals;
  if (folder === undefined || more.length > 0) throw new UsageError("one folder is needed", TEST_USAGE);
  try {
    const files = testFiles(folder);
    if (files.length === 0) throw new ContractError(folder, "has no *.test.yaml");
    const source = readPolicySource(args.values.policy ?? folder);
    outermost(source);
    const ruleIds = (shaped(source).rules ?? []).map((r) => r.id);
    const suites: { readonly file: string; readonly result: SuiteResult }[] = [];
    for (const file of files) {
      const tests = readPolicySource(file).value;
      const named = isObject(tests) ? tests["ceiling"] : undefined;
      const above = typeof named === "string" ? readPolicySource(join(dirname(file), named)) : undefined;
      const policy = load(source, above);
      suites.push({ file, result: inFile(file, () => runSuite(policy, ruleIds, tests)) });
    }
    if (args.values.junit !== undefined) writeFileSync(args.values.junit, junit(suites));
    const reached = new Set(suites.flatMap((s) => s.result.coverage.covered));
    const uncovered = ruleIds.filter((r) => !reached.has(r));
    const cases = suites.flatMap((s) => s.result.cases);
    const wrong = cases.filter((c) => c.difference !== "");
    if (args.values.json === true) io.stdout.write(`${JSON.stringify({ suites, uncovered }, null, 2)}\n`);
    else {
      for (const s of suites)
        for (const c of s.result.cases)
          if (c.difference !== "") io.stdout.write(`${s.file}: ${c.name}: ${c.difference}\n`);
      for (const r of uncovered) io.stdout.write(`rule ${r}: no test reaches it\n`);
      io.stdout.write(
        `${cases.length - wrong.length} of ${cases.length} as expected, ${ruleIds.length - uncovered.length} of ${ruleIds.length} rules reached\n`,
      );
    }
    return wrong.length === 0 && uncovered.length === 0 ? 0 : 1;
  } catch (e) {
    return explain(e, args.values.json === true, io);
  }
}

/** What is wrong with a test says its path in the file; here, in which file. */
function inFile<T>(file: string, run: () => T): T {
  try {
    return run();
  } catch (e) {
    throw e instanceof ContractError ? new ContractError(file, e.message) : e;
  }
}

const testFiles = (folder: string): readonly string[] =>
  statSync(folder).isDirectory()
    ? readdirSync(folder, { recursive: true, encoding: "utf8" })
        .filter((f) => /\.test\.ya?ml$/.test(f))
        .sort()
        .map((f) => join(folder, f))
    : [folder];

const SCHEMA_USAGE = `usage: atoll bundle schema [--reference]
  prints the JSON Schema of a policy document; name it in a policy's first line:
  # yaml-language-server: $schema=policy.schema.json
  --reference  the reference page instead`;

export async function schema(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArgs({
    args: [...argv],
    options: { reference: { type: "boolean" }, help: { type: "boolean", short: "h" } },
  });
  if (args.values.help === true) io.stdout.write(`${SCHEMA_USAGE}\n`);
  else
    io.stdout.write(
      args.values.reference === true ? policyReference() : `${JSON.stringify(policySchema, null, 2)}\n`,
    );
  return 0;
}

/** What the compiler refuses, unless a lint has said it better. */
function unloadable(source: Source, other: Source | undefined, said: ReadonlySet<string>): Unloadable[] {
  try {
    const isCeiling = isObject(source.value) && source.value["layer"] === "P0";
    load(source, isCeiling ? undefined : other);
    if (isCeiling && other !== undefined) shaped(other);
    return [];
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    return error.findings
      .filter((f) => !said.has(f.path))
      .map(({ place, ...f }) => ({ lint: "does-not-load", severity: "error", ...f, ...place }));
  }
}
interface Unloadable extends Place, Omit<Finding, "place"> {
  readonly lint: "does-not-load";
  readonly severity: "error";
}
type LintFinding = KernelFinding & Place;

/** Refuses what is no policy at all, before a single field is looked at. */
function outermost(source: Source): void {
  const { value } = source;
  if (
    isObject(value) &&
    value["apiVersion"] === "atoll.dev/policy/v1" &&
    (value["layer"] === "P0" || value["layer"] === "P1")
  )
    return;
  throw new SourceError([
    {
      place: source.place(""),
      path: "",
      message: "this is no policy document",
      hint: "it starts with `apiVersion: atoll.dev/policy/v1`, `name` and `layer`",
    },
  ]);
}

function explain(e: unknown, json: boolean, io: Io): number {
  const findings: readonly Finding[] = e instanceof SourceError ? e.findings : [];
  if (findings.length === 0 && !(e instanceof ContractError) && !(e instanceof Error && "code" in e)) throw e;
  if (json)
    io.stdout.write(
      `${JSON.stringify({ error: e instanceof Error ? e.message : "", findings: findings.map((f) => ({ ...f.place, path: f.path, message: f.message, hint: f.hint })) }, null, 2)}\n`,
    );
  else io.stderr.write(`${e instanceof Error ? e.message : ""}\n`);
  return 2;
}
