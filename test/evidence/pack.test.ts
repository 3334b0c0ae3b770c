import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verify, judge } from "../../cli/verify.ts";
import { exportPack } from "../../cli/export.ts";
import { newFolder, newSigner, open, session, decisions } from "../journal/scene.ts";
import { journalOf, packOf, rootsFile, rootsOf } from "./packs.ts";

describe("an evidence pack (4.5)", () => {
  test("holds a journal whole: every root is computed again from the nodes", async () => {
    const scene = await journalOf(120);
    const outcome = judge(await packOf(scene), rootsOf(scene.signer));
    expect(outcome).toMatchObject({
      kind: "pack",
      report: {
        partial: false,
        nodes: 194,
        checkpoints: 2,
        uncovered: 0,
        inputs: 240,
        signer: scene.signer.keyId,
      },
    });
  });

  test("is the same bytes again, and a tar that tar can read", async () => {
    const scene = await journalOf(30);
    const [a, b] = [await packOf(scene), await packOf(scene)];
    expect(Buffer.compare(readFileSync(a), readFileSync(b))).toBe(0);
    const names = execFileSync("tar", ["-tf", a], { encoding: "utf8" }).trim().split("\n");
    expect(names).toEqual([...names].sort());
    expect(names).toContain("manifest.sig");
  });

  test("verifies unpacked, and not with a file more", async () => {
    const scene = await journalOf(30);
    const dir = join(newFolder(), "unpacked");
    mkdirSync(dir);
    execFileSync("tar", ["-xf", await packOf(scene), "-C", dir]);
    expect(judge(dir, rootsOf(scene.signer))).toMatchObject({ kind: "pack" });
    writeFileSync(join(dir, "README"), "hello");
    expect(judge(dir, rootsOf(scene.signer))).toMatchObject({ finding: { file: "README" } });
  });

  test("of one session carries a proof for each node", async () => {
    const scene = await journalOf(60);
    const pack = await packOf(scene, { sessions: [session(1)] });
    const outcome = judge(pack, rootsOf(scene.signer));
    expect(outcome).toMatchObject({ kind: "pack", report: { partial: true, uncovered: 0 } });
  });

  test("condensed has the same root, and keeps what is risky", async () => {
    const scene = await journalOf(120);
    const condensed = await packOf(scene, { condense: {} });
    const whole = judge(await packOf(scene), rootsOf(scene.signer));
    const outcome = judge(condensed, rootsOf(scene.signer));
    expect(outcome).toMatchObject({ kind: "pack", report: { nodes: 194, condensed: 46 } });
    expect(
      "report" in outcome && "report" in whole && outcome.report.root_hash === whole.report.root_hash,
    ).toBe(true);
  });

  test("never vouches for itself: without its key it is unknown", async () => {
    const scene = await journalOf(10);
    expect(judge(await packOf(scene), rootsOf(newSigner()))).toMatchObject({
      finding: { file: "manifest.sig", code: "TRUST_KEY_UNKNOWN" },
    });
    const pack = await packOf(scene);
    expect(judge(pack, rootsOf(scene.signer, "approver"))).toMatchObject({
      finding: { code: "TRUST_KEY_UNKNOWN" },
    });
  });

  test("a journal's folder verifies as it lies, and each changed byte of it is found", async () => {
    const scene = await journalOf(20);
    expect(judge(scene.dir, rootsOf(scene.signer))).toMatchObject({
      kind: "journal",
      report: { uncovered: 0 },
    });
    const log = join(scene.dir, "0000000000000000.jsonl");
    const bytes = readFileSync(log);
    bytes[5000] = (bytes[5000] ?? 0) ^ 1;
    writeFileSync(log, bytes);
    expect(judge(scene.dir, rootsOf(scene.signer))).toMatchObject({
      finding: { file: "0000000000000000.jsonl" },
    });
  });

  test("is made while the guardian goes on writing", async () => {
    const scene = { dir: newFolder(), signer: newSigner() };
    const journal = await open(scene);
    await decisions(journal, 30);
    const more = decisions(journal, 30, { from: 30 });
    expect(judge(await packOf(scene), rootsOf(scene.signer))).toMatchObject({ kind: "pack" });
    await more;
    await journal.close();
  });
});

const silent = () => {
  const out: string[] = [];
  const write = (text: string | Uint8Array) => out.push(String(text));
  return {
    text: () => out.join(""),
    io: { stdin: process.stdin, stdout: { write }, stderr: { write }, env: {} },
  };
};

describe("atoll export and atoll verify", () => {
  test("write a pack, say that it is valid and what it does not prove", async () => {
    const scene = await journalOf(10);
    const key = join(newFolder(), "key.pem");
    const file = join(newFolder(), "p.tar");
    writeFileSync(key, scene.pem);
    const first = silent();
    expect(await exportPack(["--journal", scene.dir, "--key", key, "-o", file], first.io)).toBe(0);
    const second = silent();
    expect(await verify([file, "--trust", rootsFile(scene.signer)], second.io)).toBe(0);
    expect(second.text()).toContain("VALID");
    expect(second.text()).toContain("not proved by this:\n  - The time:");
    const third = silent();
    expect(await verify([file, "--trust", rootsFile(newSigner()), "--json"], third.io)).toBe(1);
    expect(JSON.parse(third.text())).toMatchObject({
      valid: false,
      file: "manifest.sig",
      line: 0,
      code: "TRUST_KEY_UNKNOWN",
    });
  });

  test("refuse to verify without keys", async () => {
    await expect(verify(["p.tar"], silent().io)).rejects.toThrow("never vouches for itself");
  });
});
