// The Ed25519 vectors, and whatever of them is judged wrongly.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { vectorsFolder } from "../vectors.ts";

/** Each implementation's word on a signature: over text, or over bytes that are no text, which we never sign. */
export interface Verdicts {
  readonly ofText: (key: Uint8Array, text: string, sig: string) => readonly boolean[];
  readonly ofBytes: (key: Uint8Array, bytes: Uint8Array, sig: string) => readonly boolean[];
}

/** All 151 come out as the vectors say. */
export function expectVectors({ ofText, ofBytes }: Verdicts): void {
  const folder = vectorsFolder();
  if (folder === undefined) return;
  const file = JSON.parse(readFileSync(join(folder, "ed25519", "ed25519_test.json"), "utf8"));
  const wrong: string[] = [];
  let count = 0;
  for (const group of file.testGroups)
    for (const t of group.tests) {
      count++;
      const raw = Buffer.from(group.publicKey.pk, "hex");
      const message = Buffer.from(t.msg, "hex");
      const text = message.toString("utf8");
      const isText = Buffer.from(text, "utf8").equals(message);
      const expected = t.result === "valid";
      const got = isText ? ofText(raw, text, t.sig) : ofBytes(raw, message, t.sig);
      if (got.some((v) => v !== expected)) wrong.push(`${t.tcId}: ${got.join()}, expected ${expected}`);
    }
  expect([count, wrong]).toEqual([151, []]);
}
