// `atoll bundle …`: each verb in a file of its own.

import { UsageError } from "../io.ts";
import type { Command, Io } from "../io.ts";

const VERBS: Readonly<Record<string, () => Promise<Command>>> = {
  build: async () => (await import("./build.ts")).build,
  verify: async () => (await import("./verify.ts")).verify,
  lint: async () => (await import("../authoring/authoring.ts")).lint,
  test: async () => (await import("../authoring/authoring.ts")).test,
  diff: async () => (await import("./diff.ts")).diff,
  schema: async () => (await import("../authoring/authoring.ts")).schema,
};
const USAGE = `usage: atoll bundle ${Object.keys(VERBS).join("|")} …
\`atoll bundle VERB --help\` says more.`;

export async function bundle(argv: readonly string[], io: Io): Promise<number> {
  const [verb, ...rest] = argv;
  if (verb === "--help" || verb === "-h") {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const load = verb !== undefined && Object.hasOwn(VERBS, verb) ? VERBS[verb] : undefined;
  if (load === undefined)
    throw new UsageError(verb === undefined ? "a verb is missing" : `\`${verb}\` is no verb`, USAGE);
  return (await load())(rest, io);
}

export { readBundleFile, writeBundleFile } from "./file.ts";
