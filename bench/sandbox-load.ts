// node bench/sandbox-load.ts [memory] [kills]: the sandbox for longer than a test has time. A thousand guests of 64 MiB
// must not make executor or guardian grow; an executor killed at random under load answers every call once and has no
// call run twice. Exit 1 where that does not hold.

import { readFileSync } from "node:fs";
import { createSandbox } from "../kernel/runtime/sandbox/sandbox.ts";
import { buildExecutor } from "../test/sandbox/built.ts";
import { killedUnderLoad } from "../test/sandbox/killed.ts";
import { asked, someOf } from "../kind-e2e/asked.ts";
import { guest, print } from "../test/sandbox/wat.ts";

let missed = 0;
function hold(what: string, holds: boolean): void {
  if (!holds) missed++;
  console.log(`${holds ? "ok    " : "MISSED"} ${what}`);
}

const BIG = guest({
  pages: 1024,
  body: "(memory.fill (i32.const 0) (i32.const 1) (i32.const 67108864))",
});
const ECHO = guest({
  imports: ["fd_read", "fd_write"],
  body: `(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    ${print(64, "(i32.load (i32.const 8))")}`,
});

async function memory(entry: string): Promise<void> {
  const sandbox = createSandbox({ entry, workers: 2 });
  const mebibytes = (pid: number | "self"): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  const times = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const result = await sandbox.run({ module: BIG, stdin: new Uint8Array(0), seed: "", clock: 0 });
      if (!result.ok) throw new Error(result.code);
    }
  };
  try {
    await times(50);
    const { pid } = sandbox;
    const [executor, guardian] = [mebibytes(pid), mebibytes("self")];
    await times(950);
    hold("the executor is the same after 1,000 guests of 64 MiB", sandbox.pid === pid);
    const [after, own] = [mebibytes(pid), mebibytes("self")];
    const words = (a: number, b: number): string =>
      `${b.toFixed(0)} MiB after 1,000, ${a.toFixed(0)} after 50`;
    hold(`executor: ${words(executor, after)}, at most 1.5 times`, after <= executor * 1.5);
    hold(`guardian: ${words(guardian, own)}, at most 1.5 times`, own <= guardian * 1.5);
  } finally {
    await sandbox.close();
  }
}

async function kills(entry: string): Promise<void> {
  for (let seed = 1; seed <= 5; seed++) {
    const found = await killedUnderLoad({ entry, module: ECHO, calls: 2_000, kills: 20, seed });
    console.log(`       seed ${seed}: ${JSON.stringify(found)}`);
    hold("every call finished or was a fault of the host", found.finished + found.faults === 2_000);
    hold("not more faults than calls under way", found.faults <= found.kills * 2);
    hold("no call reached an executor twice", found.twice === 0 && found.sent > 1_900);
  }
}

const { only } = asked("usage: node bench/sandbox-load.ts [--only memory,kills]", {
  only: someOf("memory", "kills"),
});
const built = buildExecutor();
try {
  if (only.includes("memory")) await memory(built.entry);
  if (only.includes("kills")) await kills(built.entry);
} finally {
  built.remove();
}
console.log(missed === 0 ? "everything holds" : `${missed} do not hold`);
process.exitCode = missed === 0 ? 0 : 1;
