// One run of a module, original or rewritten, and everything that can be seen of it. As a program: for every module of
// a folder and every input, what the original and the result did, one JSON line each; under another engine or tier
// the lines must be the same. Builds into one file that also runs on older Node.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Host, Stop } from "../../kernel/runtime/sandbox/host.ts";
import { LIMITS } from "../../kernel/runtime/sandbox/limits.ts";
import { rewrite } from "../../kernel/runtime/sandbox/rewrite.ts";

export interface Sight {
  /** How it ended: "" well, otherwise the trap's own words within one engine. */
  readonly end: string;
  readonly calls: string;
  readonly stdout: string;
  readonly memory: string;
  readonly gas: number;
}

const GAS = 50_000_000n;
const sha = (...parts: (string | Uint8Array)[]): string => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex").slice(0, 16);
};

/** The original runs against a host whose gas is a counter of its own. */
export function observe(wasm: Uint8Array, rewritten: boolean, stdin: Uint8Array): Sight {
  const host = new Host({
    stdin,
    args: ["a", "b"],
    env: { K: "v" },
    seed: "s",
    clock: 1,
    outputBytes: 1 << 20,
  });
  const calls: string[] = [];
  const imports = host.imports();
  for (const [name, call] of Object.entries(imports))
    imports[name] = (...args: never[]) => {
      calls.push(`${name}(${args.join()})`);
      const result = call(...args);
      calls.push(String(result));
      return result;
    };
  let end = "";
  let memory: unknown;
  let gas = new WebAssembly.Global({ value: "i64", mutable: true }, GAS);
  try {
    const module = new WebAssembly.Module(new Uint8Array(wasm));
    const { exports } = new WebAssembly.Instance(module, { wasi_snapshot_preview1: imports });
    memory = exports["memory"];
    if (rewritten && exports["gas"] instanceof WebAssembly.Global) {
      gas = exports["gas"];
      gas.value = GAS;
      if (exports["stack"] instanceof WebAssembly.Global) exports["stack"].value = 1n << 18n;
      if (exports["cap"] instanceof WebAssembly.Global) exports["cap"].value = LIMITS.memoryPages;
    }
    host.bind(memory instanceof WebAssembly.Memory ? memory : undefined, gas);
    if (rewritten && typeof exports["start"] === "function") exports["start"]();
    if (typeof exports["_start"] === "function") exports["_start"]();
  } catch (error) {
    end = error instanceof Stop ? `${error.what} ${error.status}` : String(error);
    if (rewritten && BigInt(gas.value) < 0n) end = "gas";
  }
  return {
    end,
    calls: sha(calls.join("\n")),
    stdout: sha(host.stdout.taken()),
    memory: memory instanceof WebAssembly.Memory ? sha(new Uint8Array(memory.buffer)) : "",
    gas: rewritten ? Number(GAS - BigInt(gas.value)) : 0,
  };
}

/** Whether two sights are of the same run, their gas aside. */
export const same = (a: Sight, b: Sight): boolean =>
  a.end === b.end && a.calls === b.calls && a.stdout === b.stdout && a.memory === b.memory;

export interface Line {
  readonly module: string;
  readonly input: number;
  readonly same: boolean;
  readonly ended: boolean;
  readonly outOfGas: boolean;
  readonly seen: string;
}

export function compare(name: string, original: Uint8Array, inputs: number): Line[] {
  const { wasm } = rewrite(original, LIMITS);
  return Array.from({ length: inputs }, (_, input) => {
    const stdin = new Uint8Array(64);
    new DataView(stdin.buffer).setUint32(0, input, true);
    const seen = observe(wasm, true, stdin);
    const outOfGas = seen.end === "gas";
    // Words of a trap differ between engines; that it trapped does not.
    const kind = seen.end === "" || outOfGas || /^(exit|output) /.test(seen.end) ? seen.end : "trap";
    return {
      module: name,
      input,
      same: outOfGas || same(seen, observe(original, false, stdin)),
      ended: seen.end === "",
      outOfGas,
      seen: [kind, seen.calls, seen.stdout, seen.memory, seen.gas].join(" "),
    };
  });
}

const folder = process.argv[2];
if (process.argv[3] === "--observe" && folder !== undefined)
  for (const name of readdirSync(folder).sort())
    for (const line of compare(name, readFileSync(join(folder, name)), 6))
      process.stdout.write(`${JSON.stringify(line)}\n`);
