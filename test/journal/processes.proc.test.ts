// Several processes on one journal: one writes, the others are told and end.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { signerFromPem } from "../../kernel/crypto/crypto.ts";
import { bundledWorker } from "./kill/points.ts";
import { newFolder, newPem, open } from "./scene.ts";

const worker = bundledWorker();

test("of eight processes one writes; the others end with a sentence; after a kill the next takes over at once", async () => {
  const home = newFolder();
  const dir = join(home, "journal");
  mkdirSync(dir, { mode: 0o700 });
  const pem = newPem();
  writeFileSync(join(dir, "guardian.pem"), pem, { mode: 0o400 });
  const first = spawn(process.execPath, [worker, "run", dir, "100000", "1"], {
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
  // Read on, so that it is not held up.
  await new Promise<void>((resolve) => first.stdio[3]?.on("data", () => resolve()));
  const others = await Promise.all(
    Array.from({ length: 7 }, () => {
      const child: ChildProcess = spawn(process.execPath, [worker, "run", dir, "10", "1"], {
        stdio: ["ignore", "ignore", "pipe", "ignore"],
      });
      let text = "";
      child.stderr?.on("data", (part: Buffer) => (text += part.toString("utf8")));
      return new Promise<{ code: number | null; text: string }>((resolve) =>
        child.once("close", (code) => resolve({ code, text })),
      );
    }),
  );
  for (const other of others) {
    expect(other.code).toBe(1);
    expect(other.text).toContain("another process writes the journal in");
  }
  expect(first.exitCode).toBeNull();
  const over = new Promise((resolve) => first.once("exit", resolve));
  first.kill("SIGKILL");
  await over;
  const begun = performance.now();
  const journal = await open({
    dir,
    signer: signerFromPem(readFileSync(join(dir, "guardian.pem"), "utf8")),
    podUid: "pod",
    segmentBytes: 48 << 10,
  });
  const took = performance.now() - begun;
  console.log(`taken over in ${took.toFixed(0)} ms, ${journal.records} records`);
  expect(took).toBeLessThan(2000);
  expect(journal.records).toBeGreaterThan(2);
  await journal.close();
});
