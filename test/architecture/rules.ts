// The rules of the tree, as functions from sources to violations, so that a planted violation can be tried on each.

import { stripTypeScriptTypes } from "node:module";
import { basename, dirname, join, normalize } from "node:path";

/** Path from the project's root → text. */
export type Sources = ReadonlyMap<string, string>;

export const TCB = [
  "kernel/contracts",
  "kernel/crypto",
  "kernel/guardian",
  "kernel/executor",
  "kernel/proofgraph",
  "kernel/trust",
  "kernel/receipts",
  "kernel/runtime/sandbox",
  "kernel/canonicalize",
  "kernel/manifest",
] as const;
const SANDBOX = "kernel/runtime/sandbox";

/** Doors beside the one that is named like its folder. */
export const SECOND_DOORS: ReadonlySet<string> = new Set([
  "kernel/policy/bundle.ts",
  "kernel/crypto/noble.ts",
  "cli/authoring/read.ts",
  "cli/bundle/file.ts",
  "operator/bundle/fetch.ts",
  "operator/control/desk.ts",
  "operator/control/identity.ts",
  "sidecar/govern/outcomes.ts",
]);

/** Files that are longer than their kind may be, each with the length that it may have and not exceed. */
export const LONGER: ReadonlyMap<string, number> = new Map([["kernel/runtime/sandbox/flow.ts", 310]]);

/** The instrumenter: bytes to bytes, counted apart. */
const INSTRUMENTER =
  /\/(appended|body|bytes|events|flow|gas|inspect|limits|module|opcodes|preview1|refusal|rewrite|scan)\.ts$/;

const isIn = (folder: string, path: string): boolean => path.startsWith(`${folder}/`);
const inTcb = (path: string): boolean => TCB.some((folder) => isIn(folder, path));
const product = (path: string): boolean => /^(kernel|sidecar|operator|cli)\//.test(path);

export interface Import {
  readonly from: string;
  /** A path from the root for a file of the tree, else the specifier. */
  readonly to: string;
  readonly own: boolean;
}

const withoutComments = (text: string): string =>
  text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/^\s*\/\/.*$/gm, "");

export function imports(sources: Sources): readonly Import[] {
  const all: Import[] = [];
  for (const [from, text] of sources) {
    const found = withoutComments(text).matchAll(
      /(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+|\bnew URL\(\s*)"([^"]+)"/g,
    );
    for (const [, specifier = ""] of found) {
      const own = specifier.startsWith(".");
      if (own && !specifier.endsWith(".ts")) continue;
      all.push({ from, to: own ? normalize(join(dirname(from), specifier)) : specifier, own });
    }
  }
  return all;
}

export const doorRule = (sources: Sources): string[] =>
  imports(sources)
    .filter(({ from, to, own }) => own && product(from) && !isIn(dirname(to), from))
    .filter(({ to }) => basename(to, ".ts") !== basename(dirname(to)) && !SECOND_DOORS.has(to))
    .map(({ from, to }) => `${from} imports ${to}, which is no door`);

export const nameRule = (sources: Sources): string[] =>
  [...sources.keys()]
    .filter((path) => /(^|\/)(index|utils?|helpers?|types|common[^/]*)\.ts$/.test(path))
    .map((path) => `${path} is named after nothing`);

export function layerRule(sources: Sources): string[] {
  const top = (path: string): string => path.split("/")[0] ?? "";
  const forbidden: Readonly<Record<string, readonly string[]>> = {
    kernel: ["sidecar", "operator", "cli", "test", "bench"],
    sidecar: ["operator", "cli", "test", "bench"],
    operator: ["sidecar", "cli", "test", "bench"],
    cli: ["test", "bench"],
  };
  return imports(sources)
    .filter(({ from, to, own }) => own && (forbidden[top(from)] ?? []).includes(top(to)))
    .map(({ from, to }) => `${from} imports ${to}`);
}

export const baseRule = (sources: Sources): string[] =>
  imports(sources)
    .filter(({ from, to, own }) => own && inTcb(from) && !inTcb(to))
    .map(({ from, to }) => `${from} is in the trusted base and imports ${to}, which is not`);

/** Started by name and not by an import: containers' commands, and a demonstration's own processes. */
export const PROGRAMS: readonly string[] = [
  "sidecar/gate",
  "sidecar/resolve",
  "cli/demo",
  "kernel/escalation/ceremony",
];

/** Every folder of the product is reached from something that runs. */
export function callerRule(sources: Sources, entries: readonly string[]): string[] {
  const edges = new Map<string, string[]>();
  for (const { from, to, own } of imports(sources))
    if (own) edges.set(from, [...(edges.get(from) ?? []), to]);
  const seen = new Set<string>();
  const open = [...entries];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    open.push(...(edges.get(path) ?? []));
  }
  const folders = new Set([...sources.keys()].filter(product).map(dirname));
  for (const folder of PROGRAMS) folders.delete(folder);
  return [...folders]
    .filter((folder) => ![...seen].some((path) => dirname(path) === folder))
    .map((folder) => `${folder} is reached from nothing that runs`);
}

/** What only tests call; each a part of a contract that others hold us to, or of the oracle that tests need. */
export const UNCALLED: readonly string[] = [
  "kernel/budget/pool.ts createPool",
  "kernel/crypto/noble.ts verifySignature",
  "kernel/proofgraph/checkpoint.ts writeNote",
  "kernel/proofgraph/checkpoint.ts readNote",
  "kernel/proofgraph/merkle.ts verifyConsistency",
  "kernel/receipts/nodes.ts parseNode",
  "kernel/receipts/nodes.ts nodeHash",
  "kernel/receipts/nodes.ts verifyNode",
];

/** Nothing is exported whose name stands nowhere but where it is declared. Names are counted, so a common one is missed. */
export function exportRule(sources: Sources): string[] {
  const counts = new Map<string, number>();
  const declared: (readonly [path: string, name: string])[] = [];
  for (const [path, text] of sources) {
    const used = text
      .replaceAll(/^\s*(?:\/\*[^]*?\*\/|\/\/.*$)/gm, "")
      .replaceAll(/^(?:import|export) (?:type )?\{[^}]*\}[^;]*;/gm, "")
      .replaceAll(/^import [^(].*$/gm, "");
    for (const [name] of used.matchAll(/[A-Za-z_]\w*/g)) counts.set(name, (counts.get(name) ?? 0) + 1);
    const own = /^export (?:async )?(?:const|function\*?|class|interface|type|let) (\w+)/gm;
    for (const [, name = ""] of used.matchAll(own)) declared.push([path, name]);
  }
  return declared
    .filter(([path, name]) => product(path) && counts.get(name) === 1)
    .map(([path, name]) => `${path} ${name}`);
}

/** Compiled code from elsewhere, with the one file that may load it. */
const NATIVE: readonly (readonly [RegExp, string])[] = [[/\bsodium[-\w]*/, "cli/signatures/signatures.ts"]];
export const nativeRule = (sources: Sources): string[] =>
  [...sources]
    .filter(([path]) => product(path))
    .flatMap(([path, text]) =>
      NATIVE.filter(([name, door]) => path !== door && name.test(withoutComments(text))).map(
        ([name]) => `${path} names ${name.exec(withoutComments(text))?.[0]}`,
      ),
    );

const PURE_MODULES = new Set(["node:url", "node:path", "node:util"]);
const MODULES_OF: readonly (readonly [string, RegExp])[] = [
  ["kernel/crypto", /^node:crypto$/],
  [SANDBOX, /^node:(child_process|worker_threads)$/],
];
const TCB_PACKAGES =
  /^(ajv(\/.*)?|re2js|@noble\/(ed25519|hashes)(\/.*)?|@bufbuild\/cel(\/.*)?|@bufbuild\/protobuf(\/.*)?)$/;

/** What runs: a package that only lends its types is not there any more. */
const running = (sources: Sources): Sources =>
  new Map(
    [...sources]
      .filter(([path]) => isIn("kernel", path))
      .map(([path, text]) => [path, stripTypeScriptTypes(text)]),
  );

export const moduleRule = (sources: Sources): string[] =>
  imports(running(sources))
    .filter(({ from, to, own }) => !own && isIn("kernel", from) && !PURE_MODULES.has(to))
    .filter(({ from, to }) =>
      to.startsWith("node:")
        ? !MODULES_OF.some(([folder, modules]) => isIn(folder, from) && modules.test(to))
        : inTcb(from) && !TCB_PACKAGES.test(to),
    )
    .map(({ from, to }) => `${from} imports ${to}`);

const withoutStrings = (text: string): string =>
  withoutComments(text)
    .replaceAll(/"(?:[^"\\\n]|\\.)*"/g, '""')
    .replaceAll(/'(?:[^'\\\n]|\\.)*'/g, "''")
    .replaceAll(/\/\/.*$/gm, "");

const IMPURE: readonly (readonly [RegExp, string])[] = [
  [/\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\b|\bprocess\.(hrtime|uptime)\b/, "a clock"],
  [/\bMath\.random\b|\bgetRandomValues\b|\brandom(Bytes|UUID|Int)\b/, "randomness"],
  [/\bprocess\.env\b|\bimport\.meta\.env\b/, "the environment"],
  [/\beval\b|\bnew Function\b|\bimport\s*\(/, "dynamic code"],
  [/\bfetch\s*\(|\bconsole\.|\bprocess\.(stdout|stderr|stdin)\b|\bXMLHttpRequest\b/, "input or output"],
  [/\bset(Timeout|Interval|Immediate)\b/, "a timer"],
  [/\bglobalThis\b/, "the global object"],
];
/** Its child process and its threads need these; what they compute does not. */
const SANDBOX_MAY = new Set([
  "a clock",
  "a timer",
  "the environment",
  "input or output",
  "the global object",
]);

export function purityRule(sources: Sources): string[] {
  const found: string[] = [];
  for (const [path, text] of sources) {
    if (!inTcb(path)) continue;
    const code = withoutStrings(text);
    for (const [pattern, what] of IMPURE)
      if (pattern.test(code) && !(isIn(SANDBOX, path) && SANDBOX_MAY.has(what)))
        found.push(`${path} uses ${what}`);
  }
  return found;
}

/** `as`, `!` and `any` would let a value pass for what nobody has checked. */
export function castRule(sources: Sources): string[] {
  const found: string[] = [];
  for (const [path, text] of sources) {
    if (!inTcb(path) || path.endsWith(".d.ts")) continue;
    const code = withoutStrings(text)
      .replaceAll(/`(?:[^`\\]|\\.)*`/g, "``")
      .replaceAll(/\bimport\b[^;]*;/g, "")
      .replaceAll(/\bexport \* as\b/g, "");
    if (/\bas (?!const\b)[A-Za-z{[(]/.test(code)) found.push(`${path} casts with \`as\``);
    if (/:\s*any\b|<any>|\bany\[\]/.test(code)) found.push(`${path} uses \`any\``);
    if (/[\w)\]]!(?=[.;,)\]\s[])(?!=)/.test(code)) found.push(`${path} uses a non-null \`!\``);
  }
  return found;
}

const lines = (text: string): number => text.split("\n").length - 1;

export const lengthRule = (sources: Sources): string[] =>
  [...sources]
    .filter(([path]) => product(path))
    .map(([path, text]) => ({ path, n: lines(text), most: LONGER.get(path) ?? (inTcb(path) ? 300 : 450) }))
    .filter(({ n, most }) => n > most)
    .map(({ path, n, most }) => `${path} has ${n} lines, ${most} are allowed`);

/** Lines that run: what is left without types, imports, comments and empty lines. */
export function trustedLines(sources: Sources): number {
  let n = 0;
  for (const [path, text] of sources) {
    if (!inTcb(path) || path.endsWith(".d.ts")) continue;
    if (isIn(SANDBOX, path) && INSTRUMENTER.test(path)) continue;
    const code = withoutComments(stripTypeScriptTypes(text)).replaceAll(
      /^(?:import|export)\b[^;]*?\bfrom\s+"[^"]+";/gms,
      "",
    );
    n += code.split("\n").filter((line) => line.trim() !== "").length;
  }
  return n;
}
