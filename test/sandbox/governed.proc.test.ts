// A WASM tool as an agent meets it: called over MCP by a real client and over REST, judged, metered, recorded, and its
// receipts computed again from the exported pack to the same gas and the same output.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { atoll } from "../../cli/atoll.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { scene } from "../surfaces/scene.ts";
import type { Scene } from "../surfaces/scene.ts";
import { assembly } from "./assembly.ts";
import { guest } from "./wat.ts";

/** Reads \`{"value":n}\`; sums the squares up to n with floats on the way, and adds a byte of chance. */
const SOURCE = `
@external("wasi_snapshot_preview1", "random_get")
declare function random_get(at: usize, length: i32): i32;
const input = memory.data(1024);
export function _start(): void {
  store<u32>(io, <u32>input); store<u32>(io, 1024, 4); fd_read(0, io, 1, io + 8);
  let n = 0; const length = load<i32>(io + 8);
  for (let i = 0; i < length; i++) { const c = load<u8>(input + i); if (c >= 48 && c <= 57) n = n * 10 + c - 48; }
  if (n == 13) unreachable();
  if (n == 14) while (true) {}
  let sum: i64 = 0, roots: f64 = 0;
  for (let i = 1; i <= n; i++) { sum += i * i; roots += Math.sqrt(<f64>i); }
  random_get(input, 1);
  const text = '{"sum":' + sum.toString() + ',"roots":' + (<i64>roots).toString() + ',"chance":' + load<u8>(input).toString() + '}';
  const utf8 = String.UTF8.encode(n == 15 ? 'not JSON' : text); writeBytes(changetype<usize>(utf8), utf8.byteLength);
}`;

const folder = mkdtempSync(join(tmpdir(), "atoll-governed-"));
const modules = join(folder, "modules");
let s: Scene;
beforeAll(async () => {
  const module = await assembly(SOURCE, { runtime: "minimal" });
  mkdirSync(modules);
  // As a mounted ConfigMap has it: any name, found by its hash.
  writeFileSync(join(modules, "calc.wasm"), module);
  const tool = (name: string, hash: string) => ({
    name: `tool:calc/${name}`,
    effect: "E0",
    sideEffect: "read_only",
    sandbox: "restricted",
    trust: "trusted",
    module: hash,
    timeoutMs: 100_000,
    limits: { gas: 50_000_000, memoryBytes: 16_777_216, outputBytes: 65_536, timeMs: 60_000 },
    input: { type: "object", required: ["value"], properties: { value: { type: "integer" } } },
    ...(name === "squares" ? { output: { type: "object", required: ["sum"] } } : {}),
  });
  s = await scene({
    modules,
    policy: (document) => {
      const add = (key: string, value: unknown): void => {
        const list = document[key];
        if (Array.isArray(list)) list.push(value);
      };
      const { connectors, toolsets } = document;
      if (typeof connectors === "object") Object.assign(connectors ?? {}, { calc: { kind: "wasm" } });
      add("tools", tool("squares", sha256(module)));
      add("tools", tool("absent", sha256(guest({ body: "" }))));
      add("rules", { id: "sums", tools: ["tool:calc/squares", "tool:calc/absent"], then: "allow" });
      if (
        typeof toolsets === "object" &&
        toolsets !== null &&
        "work" in toolsets &&
        Array.isArray(toolsets.work)
      )
        toolsets.work.push("tool:calc/squares", "tool:calc/absent");
    },
  });
}, 120_000);
afterAll(async () => {
  await s.close();
  rmSync(folder, { recursive: true, force: true });
});

async function mcp(value: unknown, name = "calc__squares") {
  const client = new Client({ name: "agent", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${s.base}/mcp`)));
  try {
    return await client.callTool({ name, arguments: { value } });
  } finally {
    await client.close();
  }
}
async function rest(value: unknown): Promise<JsonObject> {
  const answer = await fetch(`${s.base}/mcp/v1/execute`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tool: "tool:calc/squares", arguments: { value } }),
  });
  const body: unknown = await answer.json();
  return isObject(body as JsonObject) ? (body as JsonObject) : {};
}

/** EFFECT receipts of WASM calls, as the journal has them. */
const effects = (): JsonObject[] =>
  [...s.guardian.journal.entries()]
    .flatMap((entry) => (entry.kind === "node" ? [entry.sealed.node] : []))
    .filter((node) => node.kind === "EFFECT" && node.body["source"] === "wasm")
    .map((node) => node.body);

function gasOf(receipt: JsonObject | undefined): unknown {
  const usage = receipt?.["usage"];
  return usage !== undefined && isObject(usage) ? usage["gas"] : undefined;
}

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const text = (t: string | Uint8Array): string => (typeof t === "string" ? t : new TextDecoder().decode(t));
  const code = await atoll(argv, {
    stdin: (async function* () {})(),
    stdout: { write: (t) => out.push(text(t)) },
    stderr: { write: (t) => err.push(text(t)) },
    env: {},
  });
  return { code, out: out.join(""), err: err.join("") };
}

describe("a WASM tool", () => {
  test("is called over MCP and REST, and the same call gives the same bytes and the same gas", async () => {
    const first = await mcp(100);
    expect(first).not.toMatchObject({ isError: true });
    expect(first.structuredContent).toMatchObject({ sum: 338_350, roots: 671 });
    const second = await rest(100);
    expect(second).toMatchObject({
      verdict: "ALLOW",
      result: { structuredContent: first.structuredContent },
    });
    const [a, b] = effects();
    expect(a).toMatchObject({
      status: "SUCCEEDED",
      source: "wasm",
      usage: { gas_limit: 50_000_000, gas_schedule: 1 },
    });
    expect(b?.["output_hash"]).toBe(a?.["output_hash"]);
    expect(gasOf(a)).toBeGreaterThan(1_000);
    expect(gasOf(b)).toBe(gasOf(a));
  });

  test("that traps, spins, breaks its contract or is missing fails with its code", async () => {
    expect(await mcp(13)).toMatchObject({ isError: true, _meta: { "dev.atoll/reason": "ERR_COMPUTE_TRAP" } });
    expect(await rest(14)).toMatchObject({ reason_code: "ERR_COMPUTE_GAS_EXHAUSTED", result: null });
    expect(await rest(15)).toMatchObject({ reason_code: "ERR_CONNECTOR_CONTRACT_DRIFT", result: null });
    expect(await mcp(1, "calc__absent")).toMatchObject({
      isError: true,
      _meta: { "dev.atoll/reason": "ERR_COMPUTE_HOST_FAULT" },
    });
    expect(await mcp("no number")).toMatchObject({
      isError: true,
      _meta: { "dev.atoll/reason": "DENY_SCHEMA_MISMATCH" },
    });
  });

  test("comes out the same when its receipts are computed again from the pack", async () => {
    const pack = join(folder, "pack.tar");
    expect((await run("export", "--journal", join(s.folder, "journal"), "-o", pack)).code).toBe(0);
    const { code, out } = await run("wasm", "replay", pack, "--modules", modules, "--json");
    const report = JSON.parse(out);
    expect(report).toMatchObject({ reproduced: true, same: 5, machine: 1, differs: 0 });
    expect(code).toBe(0);
    // An OCI layout serves as well, and a folder without the module does not.
    const oci = join(folder, "oci");
    mkdirSync(join(oci, "blobs", "sha256"), { recursive: true });
    const bytes = readFileSync(join(modules, "calc.wasm"));
    writeFileSync(join(oci, "blobs", "sha256", sha256(new Uint8Array(bytes)).slice(7)), bytes);
    expect((await run("wasm", "replay", pack, "--modules", oci)).code).toBe(0);
    expect(await run("wasm", "replay", pack, "--modules", folder)).toMatchObject({
      code: 1,
      out: expect.stringContaining("not in the folder"),
    });
    expect((await run("wasm", "replay", pack)).code).toBe(2);

    // A receipt that claims another gas is found out, even by whoever looks at no signature.
    const lie = readFileSync(pack, "latin1").replace(
      /"gas":(\d)(\d+),"gas_limit":50000000/,
      (_, first, rest) => `"gas":${first === "9" ? 8 : Number(first) + 1}${rest},"gas_limit":50000000`,
    );
    writeFileSync(join(folder, "lie.tar"), lie, "latin1");
    expect(await run("wasm", "replay", join(folder, "lie.tar"), "--modules", modules)).toMatchObject({
      code: 1,
      out: expect.stringMatching(/usage\.gas is `\d+` and came out as `\d+`/),
    });
  });
});
