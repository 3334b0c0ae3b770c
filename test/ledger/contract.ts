// What a ledger promises, whatever its store.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { createTree, parseCheckpoint } from "../../kernel/proofgraph/proofgraph.ts";
import { readNode, verifySealed } from "../../kernel/receipts/receipts.ts";
import { trustRoots } from "../../kernel/trust/trust.ts";
import { auditLedger, createLedger } from "../../operator/ledger/ledger.ts";
import type { Ledger, LedgerStore } from "../../operator/ledger/ledger.ts";
import { readJournal } from "../../sidecar/journal/journal.ts";
import { journalOf } from "../evidence/packs.ts";
import type { Scene } from "../evidence/packs.ts";
import { decisions, newSigner, open } from "../journal/scene.ts";

export const linesOf = (dir: string): string[] =>
  [...readJournal(dir).records()].map(({ line }) => Buffer.from(line).toString("utf8"));

export const ledgerOver = (
  store: LedgerStore,
  keys: ReadonlyMap<string, Signer>,
  signer = newSigner(),
): Ledger =>
  createLedger({
    store,
    signer,
    keysOf: async (pod) => {
      const key = keys.get(pod);
      return key === undefined ? [] : [verifierFromRaw(key.publicKey)];
    },
    clock: () => 1_800_000_000_000,
    random: (n) => randomBytes(n),
  });

export interface Place {
  open(): Promise<LedgerStore>;
  /** Another store, with nothing in it. */
  other(): Promise<LedgerStore>;
  remove(): Promise<void>;
}

export function ledgerContract(name: string, opening: () => Promise<Place>) {
  describe(`a ledger in ${name} (4.3)`, () => {
    let place: Place;
    let store: LedgerStore;
    let scene: Scene;
    let lines: readonly string[];
    let turn = 0;
    const keys = new Map<string, Signer>();
    const newPod = (): string => {
      const pod = `pod-${turn++}`;
      keys.set(pod, scene.signer);
      return pod;
    };
    beforeAll(async () => {
      place = await opening();
      store = await place.open();
      scene = await journalOf(130);
      lines = linesOf(scene.dir);
    });
    afterAll(async () => {
      await store.close();
      await place.remove();
    });
    const shipAll = async (ledger: Ledger, pod: string, size = 37, until = lines.length): Promise<void> => {
      for (let at = 0; at < until; at += size)
        expect(await ledger.accept(pod, at, lines.slice(at, Math.min(until, at + size)))).toMatchObject({
          ok: true,
        });
    };
    const stored = async (pod: string): Promise<string[]> => {
      const all: string[] = [];
      for (;;) {
        const more = await store.lines(pod, all.length, 100);
        if (more.length === 0) return all;
        all.push(...more);
      }
    };

    test("stores what is shipped once and in order, also when it is shipped again", async () => {
      const pod = newPod();
      const ledger = ledgerOver(store, keys);
      await shipAll(ledger, pod);
      expect(await ledger.accept(pod, 20, lines.slice(20, 90))).toEqual({ ok: true, count: lines.length });
      expect(await stored(pod)).toEqual(lines);
      expect(await ledger.status(pod)).toMatchObject({ count: lines.length });
    });

    test("goes on after a restart at any record, from its last checkpoint", async () => {
      const pod = newPod();
      for (let at = 0; at < lines.length; at += 41)
        expect(await ledgerOver(store, keys).accept(pod, at, lines.slice(at, at + 41))).toMatchObject({
          ok: true,
        });
      expect(await stored(pod)).toEqual(lines);
    });

    test("has no gap: a record that is not the next one is told where to go on", async () => {
      const pod = newPod();
      const ledger = ledgerOver(store, keys);
      expect(await ledger.accept(pod, 5, lines.slice(5, 9))).toEqual({ ok: false, problem: "gap", count: 0 });
      await ledger.accept(pod, 0, lines.slice(0, 10));
      expect(await ledger.accept(pod, 50, lines.slice(50))).toEqual({ ok: false, problem: "gap", count: 10 });
    });

    test("takes nothing that does not verify, and nothing beside it", async () => {
      const pod = newPod();
      const ledger = ledgerOver(store, keys);
      await shipAll(ledger, pod, 50, 50);
      const edited = lines.map((line) =>
        line.replace('"principal":"serviceAccount:local', '"principal":"serviceAccount:other'),
      );
      expect(await ledger.accept(pod, 50, edited.slice(50))).toMatchObject({
        ok: false,
        problem: "refused",
        code: "SIGNATURE_INVALID",
        count: 50,
      });
      const swapped = lines.slice(50).reverse();
      expect(await ledger.accept(pod, 50, swapped)).toMatchObject({
        problem: "refused",
        code: "CHAIN_BROKEN",
      });
      expect(await stored(pod)).toEqual(lines.slice(0, 50));
      expect(await ledger.accept(pod, 50, lines.slice(50))).toMatchObject({ ok: true });
    });

    test("takes no record of a key that nobody has published, and takes it once it is", async () => {
      const pod = `pod-${turn++}`;
      const ledger = ledgerOver(store, keys);
      expect(await ledger.accept(pod, 0, lines)).toMatchObject({
        problem: "refused",
        code: "TRUST_KEY_UNKNOWN",
      });
      keys.set(pod, scene.signer);
      expect(await ledger.accept(pod, 0, lines)).toMatchObject({ ok: true });
    });

    test("shows a fork with both records: a guardian set back that wrote another future", async () => {
      const pod = newPod();
      const ledger = ledgerOver(store, keys);
      await shipAll(ledger, pod);
      const other = lines.map((line, n) => (n === 60 ? `${line} ` : line));
      const answer = await ledger.accept(pod, 60, other.slice(60));
      expect(answer).toMatchObject({ ok: false, problem: "fork", record: 60, count: lines.length });
      expect(answer).toHaveProperty("here");
      expect("here" in answer && "there" in answer && answer.here !== answer.there).toBe(true);
      expect(await stored(pod)).toEqual(lines);
    });

    test("is not confused by two that ship for one pod at once", async () => {
      const pod = newPod();
      const [a, b] = [ledgerOver(store, keys), ledgerOver(store, keys)];
      for (let at = 0; at < lines.length; at += 29) {
        const part = lines.slice(at, at + 29);
        const both = await Promise.all([
          a.accept(pod, at, part),
          b.accept(pod, at, part),
          a.accept(pod, at, part),
        ]);
        expect(both.some((x) => x.ok)).toBe(true);
      }
      expect(await stored(pod)).toEqual(lines);
    });

    test("that edits, reorders, withholds or forks is found out by whoever has the keys", async () => {
      const pod = "audited";
      const mine = newSigner();
      keys.set(pod, scene.signer);
      const other = await place.other();
      try {
        const ledger = ledgerOver(other, keys, mine);
        const roots = trustRoots([
          { role: "guardian", keyId: scene.signer.keyId, verifier: verifierFromRaw(scene.signer.publicKey) },
          { role: "ledger", keyId: mine.keyId, verifier: verifierFromRaw(mine.publicKey) },
        ]);
        await ledger.accept(pod, 0, lines);
        await ledger.checkpoint();
        expect(await auditLedger(other, roots)).toMatchObject({ ok: true, checkpoints: 1 });
        const lying = (change: (all: string[]) => string[], of = pod): LedgerStore => ({
          ...other,
          shelves: async () =>
            (await other.shelves()).map((s) =>
              s.pod === of ? { ...s, count: change(of === "" ? ["", ""] : [...lines]).length } : s,
            ),
          lines: async (p, from, most) =>
            p === of
              ? change([...(await other.lines(p, 0, 1_000_000))]).slice(from, from + most)
              : other.lines(p, from, most),
        });
        const swap = (all: string[]): string[] => {
          const at = all.findIndex((line) => line.includes('"kind":"CHECKPOINT"'));
          return [...all.slice(0, at - 1), all[at] ?? "", all[at - 1] ?? "", ...all.slice(at + 1)];
        };
        for (const [what, store] of [
          ["edits", lying((all) => all.map((l) => l.replace("DENY_RULE", "DENY_DEST")))],
          ["reorders", lying(swap)],
          ["withholds the end", lying((all) => all.slice(0, 200))],
          ["withholds the middle", lying((all) => [...all.slice(0, 100), ...all.slice(110)])],
          [
            "withholds a whole guardian",
            {
              ...lying((all) => all),
              shelves: async () => (await other.shelves()).filter((s) => s.pod !== pod),
            },
          ],
          [
            "edits its own chain",
            lying((all) => all.map((l) => l.replace('"lamport":1', '"lamport":2')), ""),
          ],
        ] as const)
          expect([what, await auditLedger(store, roots)]).toMatchObject([what, { ok: false }]);
        const stranger = trustRoots([
          { role: "guardian", keyId: scene.signer.keyId, verifier: verifierFromRaw(scene.signer.publicKey) },
        ]);
        expect(await auditLedger(other, stranger)).toMatchObject({
          ok: false,
          finding: { code: "TRUST_KEY_UNKNOWN" },
        });
      } finally {
        await other.close();
      }
    });

    test("commits to every guardian's latest checkpoint, in a chain of its own", async () => {
      const signer = newSigner();
      const fresh = new Map<string, Signer>();
      const ledger = ledgerOver(store, fresh, signer);
      const before = (await store.shelf(""))?.count ?? 0;
      const second = newSigner();
      const dir = (await journalOf(3)).dir;
      fresh.set("a", scene.signer);
      await ledger.accept("a", 0, lines);
      const first = await ledger.checkpoint();
      expect(first).toBeDefined();
      expect(await ledger.checkpoint()).toBeUndefined();
      const journal = await open({ dir: `${dir}-b`, signer: second });
      await decisions(journal, 5);
      await journal.close();
      fresh.set("b", second);
      await ledger.accept("b", 0, linesOf(`${dir}-b`));
      const next = await ledger.checkpoint();
      const own = await store.lines("", before, 10);
      expect(own).toHaveLength(4);
      const sealed = readNode(own[2] ?? "");
      expect(sealed.hash).toBe(next);
      expect(verifySealed(sealed, verifierFromRaw(signer.publicKey))).toBe(true);
      const body = parseCheckpoint(sealed.node.body);
      expect(body.prev_checkpoint).toBe(first);
      const about = parseJson(own[3] ?? "", { bytes: 1 << 20, keys: 1000, depth: 8 });
      const leaves = isObject(about) && Array.isArray(about["leaves"]) ? about["leaves"] : [];
      const hashes = (await ledger.pods())
        .flatMap((p) => (p.checkpoint === "genesis" ? [] : [p.checkpoint]))
        .sort();
      expect(leaves).toHaveLength(hashes.length);
      const tree = createTree();
      for (const hash of hashes) tree.append(hash);
      expect(body.root_hash).toBe(tree.root());
      expect(body.tree_size).toBe(tree.size);
    });
  });
}
