// `atoll wasm run|inspect|replay`: a module run by hand as the guardian would run it, or looked at; calls of a pack
// computed again.

import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { CODES } from "../kernel/contracts/contracts.ts";
import { sha256 } from "../kernel/crypto/crypto.ts";
import { createSandbox, DEFAULT_LIMITS, MOST, REASONS } from "../kernel/runtime/sandbox/sandbox.ts";
import type { ComputeResult } from "../kernel/runtime/sandbox/sandbox.ts";
import { readAll, UsageError } from "./io.ts";
import type { Io } from "./io.ts";
import { recompute } from "./recompute.ts";

const USAGE = `usage: atoll wasm run MODULE [--stdin FILE] [--gas N] [--memory BYTES] [--time MS] [--output BYTES]
                      [--seed TEXT] [--clock TIME] [--arg VALUE]… [--env NAME=VALUE]… [--json]
       atoll wasm inspect MODULE [--json]
       atoll wasm replay PACK --modules DIR [--trust roots.pem] [--json]
Runs a WASI preview 1 command in the sandbox; \`--stdin -\` passes standard input on. Seed and clock are fixed
unless given, so that the same call gives the same bytes and the same gas. \`inspect\` says what a module imports
and why it would be refused. \`replay\` computes every WASM call of a pack again, with modules found by their hash in
DIR (files, or an OCI image layout), and compares gas, pages, output and ending with the receipts.
Exit codes: 0 it ended well, is admitted or came out the same, 1 it did not or is not, 2 wrong use.`;

export async function wasm(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      stdin: { type: "string" },
      gas: { type: "string" },
      memory: { type: "string" },
      time: { type: "string" },
      output: { type: "string" },
      seed: { type: "string" },
      clock: { type: "string" },
      arg: { type: "string", multiple: true },
      env: { type: "string", multiple: true },
      modules: { type: "string" },
      trust: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [verb, path, ...more] = positionals;
  if ((verb !== "run" && verb !== "inspect" && verb !== "replay") || path === undefined || more.length > 0)
    throw new UsageError("expected `run MODULE`, `inspect MODULE` or `replay PACK`", USAGE);
  if (verb === "replay") {
    const { modules, trust, json = false } = values;
    if (modules === undefined) throw new UsageError("`--modules DIR` is needed", USAGE);
    return recompute({ pack: path, modules, trust, json }, io);
  }
  const module = new Uint8Array(await readFile(path));
  if (verb === "inspect") return inspect(module, values.json === true, io);

  const number = (name: string, text: string | undefined, otherwise: number, most: number): number => {
    const value = text === undefined ? otherwise : Number(text);
    if (!Number.isSafeInteger(value) || value < 1 || value > most)
      throw new UsageError(`--${name} is an integer between 1 and ${most}`, USAGE);
    return value;
  };
  const limits = {
    gas: number("gas", values.gas, DEFAULT_LIMITS.gas, MOST.gas),
    memoryBytes: number("memory", values.memory, DEFAULT_LIMITS.memoryBytes, MOST.memoryBytes),
    timeMs: number("time", values.time, DEFAULT_LIMITS.timeMs, MOST.timeMs),
    outputBytes: number("output", values.output, DEFAULT_LIMITS.outputBytes, MOST.outputBytes),
  };
  const clock = values.clock === undefined ? 0 : Date.parse(values.clock);
  if (!Number.isSafeInteger(clock) || clock < 0) throw new UsageError("--clock is a time (RFC 3339)", USAGE);
  const env = (values.env ?? []).map((entry): [string, string] => {
    const at = entry.indexOf("=");
    if (at < 1) throw new UsageError("--env is NAME=VALUE", USAGE);
    return [entry.slice(0, at), entry.slice(at + 1)];
  });
  const stdin = await input(values.stdin, io);
  const sandbox = createSandbox({ workers: 1 });
  try {
    const result = await sandbox.run({
      module,
      stdin,
      args: [path, ...(values.arg ?? [])],
      env: Object.fromEntries(env),
      limits,
      seed: values.seed ?? "atoll",
      clock,
    });
    if (values.json === true) io.stdout.write(`${JSON.stringify(reportOf(module, result, limits.gas))}\n`);
    else say(result, io);
    return result.ok ? 0 : 1;
  } finally {
    await sandbox.close();
  }
}

const INPUT_BYTES = 64 * 1024 * 1024;

async function input(path: string | undefined, io: Io): Promise<Uint8Array> {
  if (path === undefined) return new Uint8Array(0);
  return path === "-" ? readAll(io.stdin, INPUT_BYTES) : new Uint8Array(await readFile(path));
}

function say(result: ComputeResult, io: Io): void {
  if (result.stderr.length > 0) io.stderr.write(result.stderr);
  if (result.ok) {
    io.stdout.write(result.stdout);
    return;
  }
  const exit = result.code === "ERR_COMPUTE_EXIT_NONZERO" ? ` (${result.exit})` : "";
  const reason = result.reason === "" ? "" : `: ${REASONS[result.reason]}`;
  io.stderr.write(`${result.code}: ${CODES[result.code]}${exit}${reason}\n`);
}

function reportOf(module: Uint8Array, result: ComputeResult, limit: number): object {
  const stdout = result.ok ? result.stdout : new Uint8Array(0);
  const text = asText(stdout);
  return {
    module: sha256(module),
    ok: result.ok,
    code: result.ok ? "" : result.code,
    reason: result.ok ? "" : result.reason,
    exit: result.ok ? 0 : result.exit,
    gas: result.gas,
    gas_limit: limit,
    gas_schedule: result.gasSchedule,
    peak_pages: result.peakPages,
    stdout_hash: sha256(stdout),
    ...(text === undefined ? { stdout_base64: Buffer.from(stdout).toString("base64") } : { stdout: text }),
  };
}

function asText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

async function inspect(module: Uint8Array, json: boolean, io: Io): Promise<number> {
  const sandbox = createSandbox({ workers: 1 });
  try {
    const found = await sandbox.inspect(module);
    if (found === undefined) {
      io.stderr.write("the sandbox failed while it looked at the module\n");
      return 1;
    }
    const { sentence, ...rest } = found;
    if (json) io.stdout.write(`${JSON.stringify({ module: sha256(module), ...rest, sentence })}\n`);
    else {
      io.stdout.write(`module     ${sha256(module)}, ${found.bytes} bytes\n`);
      io.stdout.write(
        `verdict    ${found.admitted ? "admitted" : `refused (${found.reason}): ${sentence}`}\n`,
      );
      for (const name of found.imports) io.stdout.write(`import     ${name}\n`);
      if (found.admitted) {
        io.stdout.write(`functions  ${found.functions}\n`);
        io.stdout.write(`memory     ${found.memoryPages} pages, at most ${found.memoryPagesMost}\n`);
        io.stdout.write(`metered    ${found.rewrittenBytes} bytes, schedule ${found.gasSchedule}, `);
        io.stdout.write(`${found.entryGas} gas before it starts\n`);
      }
    }
    return found.admitted ? 0 : 1;
  } finally {
    await sandbox.close();
  }
}
