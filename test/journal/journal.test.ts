import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { JournalLocked, JournalRefused } from "../../sidecar/journal/journal.ts";
import { attestation, input, newFolder, newSigner, open, session } from "./scene.ts";

describe("a journal (4.1)", () => {
  test("gives back after a restart what was acknowledged, and goes on with the same chains", async () => {
    const dir = newFolder();
    const signer = newSigner();
    const first = await open({ dir, signer });
    for (let i = 0; i < 250; i++) await first.append([attestation(session(i % 3), i)], [input(i)]).durable;
    const sealed = first.append([attestation(session(0), 250)], []);
    await sealed.durable;
    await first.close();
    const second = await open({ dir, signer });
    expect(second.ownSession).toBe(first.ownSession);
    const entries = [...second.entries()];
    const nodes = entries.flatMap((e) => (e.kind === "node" ? [e.sealed] : []));
    expect(nodes.filter((n) => n.node.kind === "ATTESTATION")).toHaveLength(251);
    expect(nodes.filter((n) => n.node.kind === "CHECKPOINT")).toHaveLength(3);
    expect(entries.filter((e) => e.kind === "input")).toHaveLength(250);
    const next = second.append([attestation(session(0), 251)], []);
    await next.durable;
    expect(next.nodes[0]?.node.prev_hash).toBe(sealed.nodes[0]?.hash);
    await second.close();
  });

  test("keeps what was acknowledged when the process is gone without a word", async () => {
    const dir = newFolder();
    const signer = newSigner();
    const first = await open({ dir, signer, lock: () => () => undefined });
    const waits = Array.from(
      { length: 333 },
      (_, i) => first.append([attestation(session(i % 5), i)], []).durable,
    );
    await Promise.all(waits);
    const second = await open({ dir, signer, lock: () => () => undefined });
    expect(
      [...second.entries()].filter((e) => e.kind === "node" && e.sealed.node.kind === "ATTESTATION"),
    ).toHaveLength(333);
  });

  test("shares one sync among the calls of a turn", async () => {
    let syncs = 0;
    const journal = await open({ dir: newFolder(), signer: newSigner(), landed: () => syncs++ });
    await Promise.all(
      Array.from({ length: 64 }, (_, i) => journal.append([attestation(session(), i)], []).durable),
    );
    expect(syncs).toBe(1);
    await journal.close();
  });

  test("begins new segments, named by their first record", async () => {
    const dir = newFolder();
    const signer = newSigner();
    const journal = await open({ dir, signer, segmentBytes: 8192 });
    for (let i = 0; i < 100; i++) await journal.append([attestation(session(), i)], []).durable;
    await journal.close();
    const names = readdirSync(dir).filter((name) => name.endsWith(".jsonl"));
    expect(names.length).toBeGreaterThan(5);
    expect(names[0]).toBe("0000000000000000.jsonl");
    const again = await open({ dir, signer, segmentBytes: 8192 });
    expect(again.records).toBe(101);
    await again.close();
  });

  test("begins with a small segment, and has the next one ready before a segment is full", async () => {
    const dir = newFolder();
    const journal = await open({ dir, signer: newSigner(), segmentBytes: 8 << 20 });
    const sizes = () =>
      readdirSync(dir)
        .filter((name) => name.endsWith(".jsonl") || name === "next.draft")
        .map((name) => statSync(join(dir, name)).size);
    const more = async () => {
      const waits = Array.from({ length: 700 }, (_, i) => journal.append([attestation(session(), i)], []));
      await Promise.all(waits.map(({ durable }) => durable));
    };
    expect(sizes()).toEqual([512 << 10]);
    await more();
    await expect.poll(sizes).toEqual([512 << 10, 8 << 20]);
    await more();
    expect(sizes()).toEqual([512 << 10, 8 << 20]);
    expect(readdirSync(dir)).not.toContain("next.draft");
    await journal.close();
  });

  test("takes an input once, with the first node that names it", async () => {
    const journal = await open({ dir: newFolder(), signer: newSigner() });
    await journal.append([attestation(session(), 1)], [input(5)]).durable;
    await journal.append([attestation(session(), 2)], [input(5)]).durable;
    expect([...journal.entries()].map((e) => e.kind)).toEqual(["input", "node", "node"]);
    await journal.close();
  });

  test("has one writer: a second is told, and may when the first has gone", async () => {
    const dir = newFolder();
    const signer = newSigner();
    const first = await open({ dir, signer });
    await expect(open({ dir, signer })).rejects.toThrow(JournalLocked);
    await first.close();
    await (await open({ dir, signer })).close();
  });

  test("writes no checkpoint when only checkpoints were added", async () => {
    const journal = await open({ dir: newFolder(), signer: newSigner() });
    await journal.append([attestation(session(), 1)], []).durable;
    await journal.checkpoint();
    await journal.checkpoint();
    expect(journal.treeSize).toBe(2);
    await journal.close();
  });

  test("does not open another pod's journal, or one of another key", async () => {
    const dir = newFolder();
    const signer = newSigner();
    const journal = await open({ dir, signer });
    await journal.append([attestation(session(), 1)], []).durable;
    await journal.close();
    await expect(open({ dir, signer, podUid: "pod-2" })).rejects.toThrow("belongs to pod `pod-1`");
    await expect(open({ dir, signer: newSigner() })).rejects.toThrow(JournalRefused);
  });

  test("refuses a log that is shorter than its head, and leaves it as it is", async () => {
    const dir = newFolder();
    const signer = newSigner();
    const journal = await open({ dir, signer, lock: () => () => undefined });
    for (let i = 0; i < 10; i++) await journal.append([attestation(session(), i)], []).durable;
    writeFileSync(join(dir, "0000000000000000.jsonl"), "");
    await expect(open({ dir, signer, lock: () => () => undefined })).rejects.toThrow(
      "the log ends after 0 records and 10 were acknowledged",
    );
  });
});
