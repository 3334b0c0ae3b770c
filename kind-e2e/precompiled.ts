// A program in three files: its text as one function (NAME.cjs), the code that V8 made of it while building
// (NAME.cache), and a module that joins the two (NAME.js). A process then starts without reading two megabytes first:
// where the code is another Node's, or of another text, V8 says so and reads as always. Same sources, same bytes, the
// code included. Whoever can write beside a program can write the program: the code is trusted as the text is.

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Script } from "node:vm";
import { setFlagsFromString } from "node:v8";
import { build } from "esbuild";
import type { BuildOptions, BuildResult, Plugin } from "esbuild";
import { Failure } from "./failure.ts";

/**
 * What a guardian has no use for: it speaks through one pool of undici's, HTTP/1 in its servers and there, gives fastify
 * no schema, no logger and no plugin of a certain version, and counts nothing of its process by itself.
 */
const UNUSED = 'throw new Error("this part is left out of the build")';
const LEAN: ReadonlyMap<string, string> = new Map([
  ["undici", 'exports.Pool = require("undici/lib/dispatcher/pool.js");'],
  [
    "prom-client",
    ["Counter", "Gauge", "Histogram", "Registry"]
      .map((name) => `exports.${name} = require("prom-client/lib/${name.toLowerCase()}");`)
      .join(""),
  ],
  ["node:http2", "exports.constants = {};"],
  ["semver", "exports.satisfies = () => false;"],
  ["pino", "exports.symbols = {};"],
  ["@fastify/ajv-compiler", UNUSED],
  ["@fastify/fast-json-stringify-compiler", UNUSED],
  ["light-my-request", UNUSED],
]);
const lean = (resolveDir: string): Plugin => ({
  name: "lean",
  setup(builder) {
    // Our own sources have a use for all that they name.
    builder.onResolve({ filter: /^[^./]/ }, ({ path, importer }) =>
      LEAN.has(path) && (path !== "node:http2" || importer.includes("node_modules"))
        ? { path, namespace: "lean" }
        : undefined,
    );
    builder.onLoad({ filter: /./, namespace: "lean" }, ({ path }) => ({
      contents: LEAN.get(path) ?? UNUSED,
      resolveDir,
    }));
  },
});

export interface Program {
  readonly name: string;
  /** What is exported, by the file that exports it. */
  readonly exports: Readonly<Record<string, string>>;
}

/** Writes the three files into a folder. */
export async function buildPrecompiled(
  { name, exports }: Program,
  root: string,
  folder: string,
): Promise<BuildResult<{ metafile: true }>> {
  const at = (suffix: string): string => join(folder, `${name}.${suffix}`);
  const options = {
    absWorkingDir: root,
    stdin: {
      contents: Object.entries(exports)
        .map(([what, from]) => `export { ${what} } from "./${from}";`)
        .join("\n"),
      resolveDir: root,
      loader: "ts",
    },
    outfile: at("cjs"),
    bundle: true,
    platform: "node",
    target: "node26",
    format: "cjs",
    // Text of one byte a character is held once; names stay, so that a stack can be read.
    charset: "ascii",
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "eof",
    metafile: true,
    logLevel: "error",
    define: { "import.meta.url": "__ownUrl", "import.meta.dirname": "__ownFolder" },
    banner: {
      js: "(function(require,__ownUrl,__ownFolder){const module={exports:{}};let exports=module.exports;",
    },
    footer: { js: "return module.exports})" },
    plugins: [lean(root)],
  } as const satisfies BuildOptions;
  const done = await build(options);
  // It is read as one byte a character, and esbuild leaves regular expressions as they are.
  const text = readFileSync(at("cjs"), "utf8");
  writeFileSync(
    at("cjs"),
    text.replace(/[^\0-\x7f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`),
  );
  const made = spawnSync(
    process.execPath,
    // The seeds that a process otherwise draws order tables in the code, and threads of V8 decide when it is made.
    ["--predictable", "--hash-seed=42", "--random-seed=42", import.meta.filename, at("cjs"), at("cache")],
    // What the machine sets for its own Node is not the program's.
    { encoding: "utf8", env: { ...process.env, NODE_OPTIONS: "" } },
  );
  if (made.status !== 0) throw new Failure(`no code was made of ${name}: ${made.stderr}`);
  writeFileSync(at("js"), loader(name, Object.keys(exports)));
  return done;
}

const loader = (name: string, exports: readonly string[]): string =>
  `// ${name}.cjs with the code made of it at build (${name}.cache).
const part = (name) => process.getBuiltinModule(name);
const { readFileSync } = part("node:fs");
const file = part("node:url").fileURLToPath(new URL("./${name}.cjs", import.meta.url));
const script = new (part("node:vm").Script)(readFileSync(file, "latin1"), {
  filename: file,
  cachedData: readFileSync(file.replace(/cjs$/, "cache")),
});
const program = script.runInThisContext()(
  part("node:module").createRequire(import.meta.url),
  import.meta.url,
  import.meta.dirname,
);
${exports.map((e) => `export const ${e} = program.${e};`).join("\n")}
`;

/** What V8 makes of a program when it reads it. Code of functions that ran would be more, and differ from run to run. */
function precompile(from: string, to: string): void {
  // No path of this machine goes into the code.
  const script = new Script(readFileSync(from, "latin1"), { filename: basename(from) });
  // The seeds of an ordinary process: code made under other settings is not taken.
  setFlagsFromString("--hash-seed=0");
  setFlagsFromString("--random-seed=0");
  writeFileSync(to, script.createCachedData());
}

if (import.meta.main) {
  const [, , from = "", to = ""] = process.argv;
  precompile(from, to);
}
