#!/usr/bin/env node
// The command line: finds the command, runs it, turns what it throws into a sentence and an exit code.

import { ContractError, JsonError } from "../kernel/contracts/contracts.ts";
import { COMMANDS } from "./commands.ts";
import { UsageError, messageOf } from "./io.ts";
import type { Io } from "./io.ts";

const usage = (): string => {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length)) + 2;
  const lines = Object.entries(COMMANDS).map(([name, c]) => `  ${name.padEnd(width)}${c.summary}`);
  return `usage: atoll COMMAND [ARGUMENT…]

${lines.join("\n")}

\`atoll COMMAND --help\` says more. Exit codes: 0 done or allowed, 1 not valid or failed, 2 wrong use or bad
input, 3 denied, 4 escalated.
`;
};

/** The exit code of one command line. */
export async function atoll(argv: readonly string[], io: Io): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined) {
    io.stderr.write(usage());
    return 2;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    io.stdout.write(usage());
    return 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    io.stderr.write(`atoll: \`${name}\` is no command\n${usage()}`);
    return 2;
  }
  try {
    const run = await command.load();
    return await run(rest, io);
  } catch (e) {
    if (e instanceof UsageError) io.stderr.write(`atoll ${name}: ${e.message}\n${e.usage}\n`);
    else if (isMisspelt(e))
      io.stderr.write(`atoll ${name}: ${firstSentence(e)}; \`atoll ${name} --help\` lists them\n`);
    else io.stderr.write(`atoll ${name}: ${messageOf(e)}\n`);
    return isBadInput(e) ? 2 : 1;
  }
}

/** An option that there is not, or one without its value. */
const isMisspelt = (e: unknown): e is Error =>
  e instanceof Error && "code" in e && String(e.code).startsWith("ERR_PARSE_ARGS");

/** Node goes on with advice about `--` that is wrong for a misspelt option. */
const firstSentence = (e: Error): string => e.message.split(/\.\s/, 1)[0] ?? e.message;

const isBadInput = (e: unknown): boolean =>
  e instanceof UsageError ||
  e instanceof ContractError ||
  e instanceof JsonError ||
  isMisspelt(e) ||
  (e instanceof Error &&
    (e.name === "SourceError" || ("code" in e && /^(ENOENT|EISDIR|EACCES)/.test(String(e.code)))));

if (import.meta.main) {
  // A reader that closes the pipe early (`| head`) is no failure of ours.
  process.stdout.on("error", (e: NodeJS.ErrnoException) => {
    if (e.code === "EPIPE") process.exit(0);
    throw e;
  });
  process.exitCode = await atoll(process.argv.slice(2), process);
}
