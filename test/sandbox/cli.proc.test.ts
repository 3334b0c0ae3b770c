// `atoll wasm` from source: the same bytes and the same gas each time, and words for what went wrong.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { atoll } from "../../cli/atoll.ts";
import { guest, print, wat } from "./wat.ts";

const folder = mkdtempSync(join(tmpdir(), "atoll-wasm-"));
const file = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const echo = file(
  "echo.wasm",
  guest({
    imports: ["fd_read", "fd_write"],
    body: `(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      ${print(64, "(i32.load (i32.const 8))")}`,
  }),
);
const forbidden = file("forbidden.wasm", wat('(module (import "env" "f" (func)) (func (export "_start")))'));
const input = file("input", '{"x":1}');

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const text = (t: string | Uint8Array): string => (typeof t === "string" ? t : new TextDecoder().decode(t));
  const code = await atoll(["wasm", ...argv], {
    stdin: (async function* () {
      yield "from standard input";
    })(),
    stdout: { write: (t) => out.push(text(t)) },
    stderr: { write: (t) => err.push(text(t)) },
    env: {},
  });
  return { code, out: out.join(""), err: err.join("") };
}

test("run gives the guest's output, from a file or from standard input", async () => {
  expect(await run("run", echo, "--stdin", input)).toEqual({ code: 0, out: '{"x":1}', err: "" });
  expect(await run("run", echo, "--stdin", "-")).toMatchObject({ code: 0, out: "from standard input" });
});

test("run --json gives the numbers of a receipt, twice the same", async () => {
  const first = await run("run", echo, "--stdin", input, "--json");
  expect(JSON.parse(first.out)).toMatchObject({
    ok: true,
    gas_schedule: 1,
    peak_pages: 1,
    stdout: '{"x":1}',
  });
  expect(await run("run", echo, "--stdin", input, "--json")).toEqual(first);
  const short = await run("run", echo, "--stdin", input, "--json", "--gas", "1100");
  expect(short.code).toBe(1);
  expect(JSON.parse(short.out)).toMatchObject({ ok: false, code: "ERR_COMPUTE_GAS_EXHAUSTED", gas: 1100 });
});

test("a refused module is refused by name, in run and inspect", async () => {
  expect(await run("run", forbidden)).toMatchObject({
    code: 1,
    err: expect.stringContaining("ERR_COMPUTE_MODULE_REJECTED"),
  });
  expect(await run("inspect", forbidden)).toMatchObject({ code: 1, out: expect.stringContaining("env.f") });
  expect(await run("inspect", echo)).toMatchObject({ code: 0, out: expect.stringContaining("fd_read") });
});

test("wrong use is exit 2", async () => {
  expect((await run("run")).code).toBe(2);
  expect((await run("run", echo, "--gas", "much")).code).toBe(2);
  expect((await run("run", join(folder, "absent"))).code).toBe(2);
});
