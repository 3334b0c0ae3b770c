// `atoll lock`: the egress lock of a network namespace: its rules as text, loading them, and what they have counted.
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import {
  GENERATIONS,
  type LoadedLock,
  lockDifferences,
  lockRules,
  LOCK_TABLE,
  nextGeneration,
  readListing,
} from "../sidecar/lock/lock.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";

const USAGE = `usage: atoll lock rules [--generation N]      print the rule set, as \`nft -f\` reads it
       atoll lock apply [--pid PID]           load it; a lock already there is replaced by its next generation
       atoll lock status [--pid PID] [--json] compare what is loaded with the rule set, and print its counters
\`--pid\` names a process whose network namespace is meant (a pod's, seen from its node). apply and status need
NET_ADMIN there and the program nft.
exit 0 printed, loaded or whole; 1 missing, altered, or not to be read or loaded; 2 wrong use`;

const numberOf = (name: string, text: string, most: number): number => {
  if (!/^[0-9]{1,9}$/.test(text) || Number(text) > most)
    throw new UsageError(`\`--${name}\` is a whole number up to ${most}`, USAGE);
  return Number(text);
};

/** A program that is missing or fails is no wrong use: what it said, and nothing of how it was called. */
const ran = (program: string, args: readonly string[], input: string): string => {
  const { error, status, stdout, stderr } = spawnSync(program, args, {
    input,
    encoding: "utf8",
    timeout: 10_000,
  });
  if (error !== undefined)
    throw new Error(`the program \`${program}\` does not run: ${error.message}; it is needed, and NET_ADMIN`);
  if (status !== 0) throw new Error(stderr.trim() || `\`${program}\` ended with ${status}`);
  return stdout;
};

const nft = (pid: number | undefined, args: readonly string[], input = ""): string => {
  const [program = "", ...rest] = [
    ...(pid === undefined ? [] : ["nsenter", `--net=/proc/${pid}/ns/net`, "--"]),
    "nft",
    ...args,
  ];
  return ran(program, rest, input);
};

/** The loaded lock, or undefined when this namespace has none. */
const loadedLock = (pid: number | undefined): LoadedLock | undefined => {
  const tables = nft(pid, ["list", "tables", "inet"]);
  return tables.split("\n").includes(`table inet ${LOCK_TABLE}`)
    ? readListing(nft(pid, ["-j", "list", "table", "inet", LOCK_TABLE]))
    : undefined;
};

/** The rule set as the kernel would list it: loaded into a namespace that exists only for this. */
const expectedLock = (generation: number): LoadedLock =>
  readListing(
    ran(
      "unshare",
      ["--net", "sh", "-c", `nft -f - && nft -j list table inet ${LOCK_TABLE}`],
      lockRules({ generation }),
    ),
  );

const status = (pid: number | undefined, json: boolean, io: Io): number => {
  const loaded = loadedLock(pid);
  const differences =
    loaded === undefined
      ? ["no lock is loaded"]
      : lockDifferences(loaded, expectedLock(loaded.generation ?? 0));
  const whole = differences.length === 0;
  if (json) {
    const rules = (loaded?.rules ?? []).map(({ chain, comment, verdict, packets, bytes }) => ({
      chain,
      comment,
      verdict,
      packets,
      bytes,
    }));
    io.stdout.write(
      `${JSON.stringify({ whole, generation: loaded?.generation ?? null, differences, rules }, undefined, 2)}\n`,
    );
    return whole ? 0 : 1;
  }
  for (const { chain, verdict, packets, bytes, comment } of loaded?.rules ?? [])
    io.stdout.write(
      `${chain.padEnd(9)}${verdict.padEnd(7)}${`${packets}`.padStart(10)} packets ${`${bytes}`.padStart(13)} bytes  ${comment}\n`,
    );
  for (const difference of differences) io.stdout.write(`lock: ${difference}\n`);
  io.stdout.write(
    whole ? `lock: whole, generation ${loaded?.generation ?? "unknown"}\n` : "lock: NOT whole\n",
  );
  return whole ? 0 : 1;
};

export async function lock(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      pid: { type: "string" },
      generation: { type: "string", default: "0" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [verb, ...more] = positionals;
  if (more.length > 0) throw new UsageError("one of rules, apply and status", USAGE);
  const pid = values.pid === undefined ? undefined : numberOf("pid", values.pid, 4_194_304);
  switch (verb) {
    case "rules":
      io.stdout.write(lockRules({ generation: numberOf("generation", values.generation, GENERATIONS - 1) }));
      return 0;
    case "apply": {
      const loaded = loadedLock(pid);
      const generation = loaded === undefined ? 0 : nextGeneration(loaded.generation ?? 0);
      nft(pid, ["-f", "-"], lockRules({ generation }));
      io.stdout.write(`lock: loaded, generation ${generation}\n`);
      return 0;
    }
    case "status":
      return status(pid, values.json === true, io);
    case undefined:
      throw new UsageError("rules, apply or status is needed", USAGE);
    default:
      throw new UsageError(`\`${verb}\` is none of rules, apply and status`, USAGE);
  }
}
