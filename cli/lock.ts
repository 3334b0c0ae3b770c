// `atoll lock`: the egress lock of a network namespace: its rules as text, loading them, and what they have counted.
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import {
  type LoadedLock,
  lockDifferences,
  lockRules,
  LOCK_TABLE,
  nextGeneration,
  readListing,
} from "../sidecar/lock/lock.ts";

export const LOCK_USAGE = `usage: atoll lock rules [--generation N]      print the rule set, as \`nft -f\` reads it
       atoll lock apply [--pid PID]           load it; a lock already there is replaced by its next generation
       atoll lock status [--pid PID] [--json] compare what is loaded with the rule set, and print its counters
\`--pid\` names a process whose network namespace is meant (a pod's, seen from its node). apply and status need
NET_ADMIN there and the program nft. status exits 0 when the lock is whole, 1 when it is missing or altered.`;

type Output = { write(text: string): unknown };
export type LockIo = { readonly stdout: Output; readonly stderr: Output };

class Usage extends Error {}

const integer = (name: string, value: string): number => {
  if (!/^[0-9]{1,9}$/.test(value)) throw new Usage(`--${name} \`${value}\` is not a whole number`);
  return Number(value);
};

const nft = (pid: number | undefined, args: readonly string[], input = ""): string => {
  const [program = "", ...rest] = [
    ...(pid === undefined ? [] : ["nsenter", `--net=/proc/${pid}/ns/net`, "--"]),
    "nft",
    ...args,
  ];
  return execFileSync(program, rest, { input, stdio: ["pipe", "pipe", "pipe"], timeout: 10_000 }).toString();
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
    execFileSync("unshare", ["--net", "sh", "-c", `nft -f - && nft -j list table inet ${LOCK_TABLE}`], {
      input: lockRules({ generation }),
      stdio: ["pipe", "pipe", "pipe"],
      timeout: 10_000,
    }).toString(),
  );

const status = (pid: number | undefined, json: boolean, io: LockIo): number => {
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

const run = (argv: readonly string[], io: LockIo): number => {
  const [verb, ...rest] = argv;
  const { values } = parseArgs({
    args: rest,
    options: { pid: { type: "string" }, generation: { type: "string" }, json: { type: "boolean" } },
  });
  const pid = values.pid === undefined ? undefined : integer("pid", values.pid);
  switch (verb) {
    case "rules":
      io.stdout.write(lockRules({ generation: integer("generation", values.generation ?? "0") }));
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
      throw new Usage("what to do is missing");
    default:
      throw new Usage(`\`${verb}\` is none of rules, apply, status`);
  }
};

/** Exit code 0 done, 1 the lock is not whole or could not be loaded or read, 2 wrong use. */
export const lock = async (argv: readonly string[], io: LockIo): Promise<number> => {
  try {
    return run(argv, io);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const misuse =
      error instanceof Usage ||
      error instanceof RangeError ||
      (error instanceof TypeError && "code" in error);
    io.stderr.write(misuse ? `atoll lock: ${message}\n${LOCK_USAGE}\n` : `atoll lock: ${message.trim()}\n`);
    return misuse ? 2 : 1;
  }
};
