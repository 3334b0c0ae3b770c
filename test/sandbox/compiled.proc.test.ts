// Programs in C and Rust, compiled here by what the machine has: real libraries, and the same text as the native build.

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSandbox } from "../../kernel/runtime/sandbox/sandbox.ts";
import type { Sandbox } from "../../kernel/runtime/sandbox/sandbox.ts";
import { buildExecutor } from "./built.ts";
import { textOf } from "./here.ts";

const folder = mkdtempSync(join(tmpdir(), "atoll-compiled-"));
const built = buildExecutor();
let sandbox: Sandbox;
beforeAll(() => {
  sandbox = createSandbox({ entry: built.entry });
});
afterAll(async () => {
  await sandbox.close();
  built.remove();
  rmSync(folder, { recursive: true, force: true });
});

const C = `
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
static int order(const void *a, const void *b) {
  int x = *(const int *)a, y = *(const int *)b;
  return (x > y) - (x < y);
}
int main(int argc, char **argv) {
  char line[256];
  long sum = 0;
  int lines = 0, n = 5000, *a = malloc(n * sizeof *a);
  unsigned x = 1;
  double s = 0;
  while (fgets(line, sizeof line, stdin)) { sum += strtol(line, NULL, 10); lines++; }
  for (int i = 0; i < n; i++) { x = x * 1664525u + 1013904223u; a[i] = (int)(x >> 3); }
  qsort(a, n, sizeof *a, order);
  for (int i = 1; i < 1000; i++) s += sin(i) / i + log(i);
  printf("%d lines, sum %ld, %d %d, %.6f, %s\\n", lines, sum, a[0], a[n - 1], s, argv[1]);
#ifdef __wasm__
  FILE *f = fopen("/etc/passwd", "r");
  fprintf(stderr, "%ld %s %s\\n", (long)time(NULL), getenv("HOME") ? "home" : "no home", f ? "open" : strerror(errno));
#endif
  free(a);
  return lines == 2 ? 0 : 9;
}
`;

const RUST = `
use std::collections::BTreeMap;
use std::io::{self, BufRead};
fn main() {
    let mut words: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = 0;
    for line in io::stdin().lock().lines() {
        lines += 1;
        for word in line.unwrap().split_whitespace() { *words.entry(word.to_string()).or_insert(0) += 1; }
    }
    let roots: f64 = (1..1000).map(|i| (i as f64).sqrt()).sum();
    println!("{} lines, {:?}, {:.6}, {}", lines, words, roots, std::env::args().nth(1).unwrap());
    if cfg!(target_family = "wasm") {
        eprintln!("{}", if std::fs::read("/etc/passwd").is_ok() { "open" } else { "refused" });
        eprintln!("{}", if std::net::TcpStream::connect("127.0.0.1:1").is_ok() { "connected" } else { "no network" });
    }
    if lines != 2 { panic!("not two lines"); }
}
`;

const INPUT = new TextEncoder().encode("30 b\n12 b\n");
const file = (name: string): string => join(folder, name);

async function same(wasm: string, native: string): Promise<string> {
  const expected = execFileSync(native, ["one"], { input: INPUT, encoding: "utf8" });
  const module = new Uint8Array(readFileSync(wasm));
  const call = (stdin: Uint8Array) =>
    sandbox.run({ module, stdin, args: ["program", "one"], seed: "s", clock: 0 });
  const first = await call(INPUT);
  expect(first.ok ? textOf(first.stdout) : first.code).toBe(expected);
  expect(await call(INPUT)).toEqual(first);
  const other = await call(new Uint8Array(0));
  expect(other.ok).toBe(false);
  return textOf(first.stderr);
}

test("C with the system's libc prints what the native build prints, and reaches no file", async () => {
  writeFileSync(file("program.c"), C);
  const clang = (...args: string[]) =>
    spawnSync("clang", [...args, file("program.c"), "-lm"], { encoding: "utf8" });
  const probe = clang("--target=wasm32-wasi", "-o", file("probe.wasm"));
  if (probe.error !== undefined || probe.status !== 0) {
    console.log("no clang for wasm32-wasi with its libc on this machine: C was not compiled");
    return;
  }
  expect(clang("-O2", "-o", file("native")).status).toBe(0);
  for (const flags of [["-O0"], ["-O3", "-msimd128"]]) {
    const wasm = file(`c${flags.join("")}.wasm`);
    expect(clang("--target=wasm32-wasi", ...flags, "-o", wasm).status).toBe(0);
    expect(await same(wasm, file("native"))).toBe("0 no home Capabilities insufficient\n");
  }
});

/** A compiler and a target whose library it has. */
function rust(): { readonly rustc: string; readonly target: string } | undefined {
  for (const rustc of [process.env["ATOLL_RUSTC"] ?? "rustc", "/usr/bin/rustc"])
    for (const target of ["wasm32-wasip1", "wasm32-wasi"]) {
      const asked = spawnSync(rustc, ["--print", "target-libdir", "--target", target], { encoding: "utf8" });
      if (asked.error === undefined && asked.status === 0 && existsSync(asked.stdout.trim()))
        return { rustc, target };
    }
  return undefined;
}

test("Rust prints what the native build prints, and reaches no file and no network", async () => {
  const found = rust();
  if (found === undefined) {
    console.log("no Rust for wasm32-wasip1 on this machine: Rust was not compiled");
    return;
  }
  writeFileSync(file("program.rs"), RUST);
  const rustc = (...args: string[]) => execFileSync(found.rustc, [...args, file("program.rs")]);
  rustc("-O", "-o", file("native-rust"));
  rustc("-O", "--target", found.target, "-o", file("rust.wasm"));
  expect(await same(file("rust.wasm"), file("native-rust"))).toBe("refused\nno network\n");
});
