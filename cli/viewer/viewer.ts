// `atoll view`: one static page that verifies a pack in the browser, with the second implementation of the
// cryptography, and shows what is in it. It works from `file://`, without a server and without a network.

import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { UsageError } from "../io.ts";
import type { Io } from "../io.ts";

const USAGE = `usage: atoll view [PACK --trust roots.pem] -o evidence.html
  with PACK and --trust the page holds both; without, it asks for the two files
  the page judges for itself: what it says does not rest on this command`;

export async function view(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      trust: { type: "string" },
      out: { type: "string", short: "o" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [pack] = positionals;
  if (values.out === undefined) throw new UsageError("`-o FILE` is needed", USAGE);
  if ((pack === undefined) !== (values.trust === undefined))
    throw new UsageError("PACK and --trust go together", USAGE);
  const data =
    pack === undefined || values.trust === undefined
      ? null
      : {
          name: basename(pack),
          pack: readFileSync(pack).toString("base64"),
          trust: readFileSync(values.trust, "utf8"),
        };
  writeFileSync(values.out, await viewerPage(data));
  io.stdout.write(`wrote ${values.out}: open it in a browser\n`);
  return 0;
}

export interface PageData {
  readonly name: string;
  /** The tar, in base64. */
  readonly pack: string;
  readonly trust: string;
}

/** The whole page as text. */
export async function viewerPage(data: PageData | null): Promise<string> {
  const { build } = await import("esbuild");
  const here = import.meta.dirname;
  const bundle = await build({
    entryPoints: [join(here, "page.ts")],
    bundle: true,
    write: false,
    format: "iife",
    platform: "browser",
    target: "es2022",
    minify: true,
    logLevel: "silent",
    plugins: [
      {
        name: "second implementation",
        setup: (b) => {
          b.onResolve({ filter: /crypto\/crypto\.ts$/ }, () => ({ path: join(here, "crypto.ts") }));
        },
      },
    ],
  });
  const script = bundle.outputFiles[0]?.text ?? "";
  const embedded = data === null ? "null" : JSON.stringify(data);
  const template = readFileSync(join(here, "page.html"), "utf8");
  // In a script element only `</` and `<!--` end the text; neither survives this.
  const inert = (text: string): string => text.replace(/</g, "\\u003c");
  return template
    .replace("/*data*/", () => `window.atollPack = ${inert(embedded)};`)
    .replace("/*script*/", () => script.replace(/<(?=\/script|!--)/gi, "\\x3c"));
}
