// One key after the other, under load and over a stop at every step: the log verifies from its first key on, by one key
// at a time, and what was interrupted is finished.
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { PackInvalid, verifyStore } from "../../kernel/evidence/evidence.ts";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Verifier } from "../../kernel/crypto/crypto.ts";
import { ROTATION, createSuccession, publishKey, signAct, standingOf } from "../../kernel/trust/trust.ts";
import { openJournal } from "../../sidecar/journal/journal.ts";
import type { Disk, OpenJournal } from "../../sidecar/journal/journal.ts";
import { rawRecords } from "../../sidecar/journal/read.ts";
import { createRotation, openKeys } from "../../sidecar/keys/keys.ts";
import type { OwnKeys, Rotation } from "../../sidecar/keys/keys.ts";
import { attestation, decisions, newSigner, session } from "../journal/scene.ts";
import { dice, player, tape } from "../journal/tape.ts";
import type { Files, Step, TapeOptions } from "../journal/tape.ts";

interface Opened {
  readonly keys: OwnKeys;
  readonly journal: OpenJournal;
  readonly rotation: Rotation;
}
/** As a guardian starts: the keys, the log that tells which of them is in force, and what was interrupted. */
async function start(disk: Disk, seen: (hash: string) => void = () => undefined): Promise<Opened> {
  const keys = await openKeys(
    disk,
    () => undefined,
    () => 1_800_000_000_000,
  );
  const journal = await openJournal({
    dir: "/nowhere",
    signer: keys.signer,
    ...(keys.next === undefined ? {} : { nextKey: keys.next }),
    formerKeys: keys.former,
    podUid: "pod-1",
    clock: () => 1_800_000_000_000,
    random: (n) => randomBytes(n),
    disk,
    lock: () => () => undefined,
    segmentBytes: 16 << 10,
    checkpointNodes: 20,
    checkpointMs: 3_600_000,
    landed: ({ nodes }) => nodes.forEach(({ hash }) => seen(hash)),
  });
  await keys.settle(journal.signer.keyId, 1_800_000_000_000, journal.treeSize);
  const rotation = createRotation({
    keys,
    journal,
    nowMs: () => 1_800_000_000_000,
    log: () => undefined,
    maxAgeMs: 0,
    maxNodes: 0,
  });
  return { keys, journal, rotation };
}
/** Verifies a log from its first record on with its first key, and says with which keys it was signed, in their order. */
function verified(disk: Disk, first: Verifier) {
  const succession = createSuccession(standingOf([first]));
  const used: string[] = [];
  const report = verifyStore(rawRecords(disk), (id, node, hash) => {
    if (used.at(-1) !== id) used.push(id);
    return succession.keyOf(id, node, hash);
  });
  return { report, used, current: succession.current?.keyId };
}
const firstKey = (disk: Disk): Verifier => {
  const pem = Buffer.from(disk.read("guardian.pub") ?? "").toString("utf8");
  return verifierFromRaw(Buffer.from(pem.split("\n")[1] ?? "", "base64").subarray(12));
};

async function run(options: TapeOptions & { readonly decisions?: number } = {}) {
  const { disk, steps } = tape(options);
  const { journal, rotation, keys } = await start(disk, (hash) =>
    steps.push({ op: "seen", what: "acknowledged", hash }),
  );
  const ids: string[] = [keys.signer.keyId];
  for (let turn = 0; turn < 3; turn++) {
    const load = decisions(journal, options.decisions ?? 24, { from: turn * 100 });
    ids.push((await rotation.rotate("test")).key);
    await load;
  }
  await journal.close();
  return { disk, steps, ids };
}

describe("rotation of a guardian's key (4.4)", () => {
  test("under load the log verifies from its first key on, by one key after the other", async () => {
    const { disk, ids } = await run();
    const { used, current, report } = verified(disk, firstKey(disk));
    expect(used).toEqual(ids);
    expect(current).toBe(ids[3]);
    expect(report.nodes).toBeGreaterThan(100);
    expect(disk.read("guardian.next.pem")).toBeUndefined();
    // The private part of a key that has handed over is gone, and nobody but the first key vouches for the log.
    const again = await start(disk);
    expect(again.keys.signer.keyId).toBe(ids[3]);
    expect(again.keys.former.map((k) => k.keyId)).toEqual(ids.slice(0, 3));
    await again.journal.close();
    expect(() => verified(disk, verifierFromRaw(again.journal.signer.publicKey))).toThrow(
      "TRUST_KEY_UNKNOWN",
    );
  });

  for (const how of ["kill -9", "loss of power"] as const)
    test(`${how} at every step: nothing acknowledged is lost, and the rotation is finished or begun anew`, async () => {
      const of = await run({ decisions: 8 });
      const p = player();
      const bad: string[] = [];
      let points = 0;
      let finished = 0;
      for (const [k, step] of of.steps.entries()) {
        p.play(step);
        const files = how === "kill -9" ? p.killed() : p.powerLost(dice(k * 31));
        points++;
        const said = await afterStop(
          files,
          p.seen.map((s) => s.hash),
          () => finished++,
        );
        if (said !== "") bad.push(`after step ${k} (${step.op}): ${said}`);
      }
      expect(bad).toEqual([]);
      expect(points).toBeGreaterThan(150);
      expect(finished).toBeGreaterThan(5);
      console.log(`${points} points of ${how}, ${finished} interrupted rotations finished`);
    });

  test("with a disk that lies about its syncs the same test fails", async () => {
    const of = await run({ lyingSync: true, decisions: 8 });
    const p = player();
    let bad = 0;
    for (const [k, step] of of.steps.entries()) {
      p.play(step);
      if (k % 5 !== 0) continue;
      const seen = p.seen.map((s) => s.hash);
      if ((await afterStop(p.powerLost(dice(k)), seen, () => undefined)) !== "") bad++;
    }
    expect(bad).toBeGreaterThan(of.steps.length / 40);
  });

  test("a hand-over that cannot be written leaves the old key in force, and the next try succeeds", async () => {
    let full = false;
    const { disk } = tape({
      fault: (step: Step) => {
        if (full && step.op === "write") throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
      },
    });
    const { journal, rotation, keys } = await start(disk);
    await decisions(journal, 10);
    const before = journal.signer.keyId;
    await keys.prepare();
    full = true;
    await expect(rotation.rotate("test")).rejects.toThrow();
    full = false;
    for (let i = 0; i < 200 && journal.state().state !== "open"; i++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(journal.signer.keyId).toBe(before);
    await decisions(journal, 10, { from: 50 });
    const { old, key } = await rotation.rotate("again");
    expect(old).toBe(before);
    await decisions(journal, 10, { from: 90 });
    await journal.close();
    expect(verified(disk, firstKey(disk)).used).toEqual([before, key]);
  });

  test("a checkpoint's head is signed by the key that signed the checkpoint, also while a hand-over is on its way", async () => {
    // The hand-over comes in the very turn in which a batch with a checkpoint has reached the disk.
    const old = newSigner();
    const next = newSigner();
    const { disk } = tape();
    const heads = new Set<string>();
    let over: Promise<unknown> | undefined;
    const journal: OpenJournal = await openJournal({
      dir: "/nowhere",
      signer: old,
      nextKey: next,
      podUid: "pod-1",
      clock: () => 1_800_000_000_000,
      random: (n) => randomBytes(n),
      disk: {
        ...disk,
        async rename(from, to) {
          if (to === "head.json") heads.add(Buffer.from(disk.read(from) ?? "").toString("utf8"));
          await disk.rename(from, to);
        },
      },
      lock: () => () => undefined,
      checkpointNodes: 20,
      checkpointMs: 3_600_000,
      landed: ({ nodes }) => {
        if (over !== undefined || !nodes.some(({ node }) => node.kind === "CHECKPOINT")) return;
        const act = signAct(
          { type: ROTATION, old: old.keyId, key: publishKey(next) },
          timestampOf(1_800_000_000_000),
          old,
        );
        over = journal.handOver(next, JSON.parse(JSON.stringify(act)));
      },
    });
    await decisions(journal, 24);
    await over;
    await decisions(journal, 24, { from: 50 });
    await journal.close();
    const signedBy = new Map<string, string>();
    for (const entry of journal.entries())
      if (entry.kind === "node") signedBy.set(entry.sealed.hash, entry.sealed.node.key_id);
    const pairs = [...heads]
      .map((text): { checkpoint: string; key_id: string } => JSON.parse(text))
      .filter(({ checkpoint }) => checkpoint !== "genesis");
    expect(pairs.map(({ key_id }) => key_id)).toEqual(
      pairs.map(({ checkpoint }) => signedBy.get(checkpoint)),
    );
    expect(new Set(pairs.map(({ key_id }) => key_id))).toEqual(new Set([old.keyId, next.keyId]));
  });

  test("a key that was withdrawn signs nothing more, also after a restart", async () => {
    const { disk } = tape();
    const { journal, keys, rotation } = await start(disk);
    await decisions(journal, 10);
    await keys.revoke("stolen");
    journal.withdraw("the key was revoked: stolen");
    const size = journal.treeSize;
    await expect(journal.append([attestation(session(1), 1)], []).durable).rejects.toMatchObject({
      code: "TRUST_KEY_REVOKED",
    });
    await expect(rotation.rotate("test")).rejects.toThrow("revoked");
    await journal.close();
    expect(verified(disk, firstKey(disk)).report.nodes).toBe(size);
    expect((await start(disk)).keys.revoked).toBe("stolen");
  });
});

test("a revocation, stopped at every step: once it was answered no restart signs, and what was signed before verifies", async () => {
  const { disk, steps } = tape();
  const { journal, keys } = await start(disk);
  await decisions(journal, 10);
  const load = decisions(journal, 10, { from: 50 }).catch(() => undefined);
  const from = steps.length;
  journal.withdraw("stolen");
  const size = journal.treeSize;
  await keys.revoke("stolen");
  steps.push({ op: "seen", what: "revoked", hash: "" });
  await load;
  await journal.close();
  const p = player();
  let refused = 0;
  for (const [k, step] of steps.entries()) {
    p.play(step);
    if (k < from) continue;
    for (const files of [p.killed(), p.powerLost(dice(k))]) {
      const after = tape({ files }).disk;
      const again = await start(after);
      if (again.keys.revoked !== "") refused++;
      expect([k, p.seen.length > 0 && again.keys.revoked === ""]).toEqual([k, false]);
      // What the withdrawn journal had sealed may be there; nothing came after.
      expect(again.journal.treeSize).toBeLessThanOrEqual(size);
      await again.journal.close();
      verified(after, firstKey(after));
    }
  }
  expect(refused).toBeGreaterThan(1);
});

async function afterStop(files: Files, acknowledged: readonly string[], finished: () => void) {
  const { disk } = tape({ files });
  try {
    // Before the first key is durable there is nothing to vouch for.
    const { journal, keys, rotation } = await start(disk);
    if (keys.next !== undefined) {
      await rotation.look();
      if (keys.next !== undefined) return "the interrupted rotation was not finished";
      finished();
    }
    await journal.append([attestation(session(9), 1)], []).durable;
    await journal.close();
    const hashes = new Set<string>();
    for (const entry of journal.entries()) if (entry.kind === "node") hashes.add(entry.sealed.hash);
    for (const hash of acknowledged) if (!hashes.has(hash)) return `lost ${hash}`;
    const { current, used } = verified(disk, firstKey(disk));
    if (current !== keys.signer.keyId) return "the key in force is not the one that is kept";
    return new Set(used).size === used.length ? "" : "a key came back";
  } catch (error) {
    return `refused: ${error instanceof Error ? error.message : String(error)}`;
  }
}

describe("what a verifier takes for a hand-over", () => {
  const at = timestampOf(1_800_000_000_000);
  /** A log whose hand-over is what `forge` makes of it. */
  async function forged(
    forge: (old: ReturnType<typeof newSigner>, next: ReturnType<typeof newSigner>) => object,
  ) {
    const { disk } = tape();
    const { journal, keys } = await start(disk);
    await decisions(journal, 6);
    const next = newSigner();
    const act = forge(keys.signer, next);
    await journal.handOver(next, JSON.parse(JSON.stringify(act)));
    await decisions(journal, 6, { from: 20 });
    await journal.close();
    return () => verified(disk, verifierFromRaw(keys.signer.publicKey));
  }
  const act = (old: ReturnType<typeof newSigner>, next: ReturnType<typeof newSigner>, by = old) =>
    signAct({ type: ROTATION, old: old.keyId, key: publishKey(next) }, at, by);

  test("the old key's act for the next key, and nothing else", async () => {
    expect((await forged((old, next) => act(old, next)))().report.nodes).toBeGreaterThan(10);
    const stranger = newSigner();
    const cases: readonly [string, Parameters<typeof forged>[0], string][] = [
      ["an act of the next key for itself", (old, next) => act(old, next, next), "TRUST_KEY_UNKNOWN"],
      ["an act for another key than the one that signs", (old) => act(old, stranger), "TRUST_KEY_UNKNOWN"],
      [
        "an act about another key",
        (old, next) => ({ ...act(old, next), old: stranger.keyId }),
        "TRUST_KEY_UNKNOWN",
      ],
      ["an edited act", (old, next) => ({ ...act(old, next), at: timestampOf(0) }), "SIGNATURE_INVALID"],
      ["an act with a member more", (old, next) => ({ ...act(old, next), more: 1 }), "CHAIN_BROKEN"],
      ["a hand-over to itself", (old) => act(old, old), "REPLAY_DETECTED"],
    ];
    for (const [name, forge, code] of cases) {
      const look = await forged(forge);
      let found = "";
      try {
        look();
      } catch (error) {
        found = error instanceof PackInvalid ? error.finding.code : String(error);
      }
      expect([name, found]).toEqual([name, code]);
    }
  });

  test("a key that has handed over is refused when it signs again, and one that nobody handed over to as well", () => {
    const [a, b] = [newSigner(), newSigner()];
    const keys = createSuccession(standingOf([verifierFromRaw(a.publicKey), verifierFromRaw(b.publicKey)]));
    const node = (id: string) => ({ key_id: id, kind: "ATTESTATION", body: {} }) as never;
    expect(keys.keyOf(a.keyId, node(a.keyId), "sha256:1" as never)).toHaveProperty("keyId", a.keyId);
    // Trusted by itself, and yet not in this log.
    expect(keys.keyOf(b.keyId, node(b.keyId), "sha256:2" as never)).toBe("TRUST_KEY_UNKNOWN");
    const over = {
      kind: "TRUST_EVENT",
      body: { type: "atoll.dev/trust-event/v1", event: "KEY_ROTATE", rotation: act(a, b) },
    };
    expect(keys.keyOf(a.keyId, over as never, "sha256:3" as never)).toHaveProperty("keyId", a.keyId);
    expect(keys.keyOf(b.keyId, node(b.keyId), "sha256:4" as never)).toHaveProperty("keyId", b.keyId);
    expect(keys.keyOf(a.keyId, node(a.keyId), "sha256:5" as never)).toBe("TRUST_KEY_REVOKED");
  });
});
