// A guardian's key is followed by another while its records are shipped.
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Verifier } from "../../kernel/crypto/crypto.ts";
import { trustRoots } from "../../kernel/trust/trust.ts";
import { auditLedger, createLedger, openStore } from "../../operator/ledger/ledger.ts";
import type { LedgerStore } from "../../operator/ledger/ledger.ts";
import { binding, registered, registrarOf } from "../evidence/registered.ts";
import { newFolder, newSigner } from "../journal/scene.ts";
import { linesOf } from "./contract.ts";

const over = (store: LedgerStore, keys: readonly Verifier[], published: boolean) =>
  createLedger({
    store,
    signer: newSigner(),
    keysOf: async () => keys,
    published,
    clock: () => 1_800_000_000_000,
    random: (n) => randomBytes(n),
  });

describe("a ledger over a rotation", () => {
  test("takes the records of both keys, at any cut and over restarts of its own", async () => {
    const scene = await registered(newSigner());
    const lines = linesOf(scene.dir);
    const store = await openStore(newFolder());
    const first = verifierFromRaw(scene.first.publicKey);
    for (let at = 0; at < lines.length; at += 23)
      // Each time a new one, which knows of the second key from the log alone.
      expect(await over(store, [first], false).accept("pod-1", at, lines.slice(at, at + 23))).toMatchObject({
        ok: true,
      });
    expect((await over(store, [first], false).status("pod-1")).count).toBe(lines.length);
    const roots = trustRoots([{ role: "guardian", keyId: first.keyId, verifier: first }]);
    expect(await auditLedger(store, roots)).toMatchObject({ ok: true });
    await store.close();
  });

  test("waits, where there is a registrar, until it has published the second key", async () => {
    const scene = await registered(newSigner());
    const lines = linesOf(scene.dir);
    const store = await openStore(newFolder());
    const keys = [verifierFromRaw(scene.first.publicKey)];
    const ledger = over(store, keys, true);
    expect(await ledger.accept("pod-1", 0, lines)).toMatchObject({
      problem: "refused",
      code: "TRUST_KEY_UNKNOWN",
      count: 0,
    });
    keys.push(verifierFromRaw(scene.last.publicKey));
    expect(await ledger.accept("pod-1", 0, lines)).toEqual({ ok: true, count: lines.length });
    expect(await over(store, keys, true).accept("pod-1", lines.length - 1, lines.slice(-1))).toMatchObject({
      ok: true,
    });
    await store.close();
  });
});

test("a ledger with its registry is audited by who trusts the registrar alone, and by nobody who trusts another", async () => {
  const by = newSigner();
  const scene = await registered(by);
  const { store } = scene;
  const lines = linesOf(scene.dir);
  const ledger = over(store, await scene.registrar.keysOf("pod-1"), true);
  expect(await ledger.accept("pod-1", 0, lines)).toMatchObject({ ok: true });
  expect((await ledger.pods()).map((pod) => pod.pod)).toEqual(["pod-1"]);
  await expect(ledger.accept("registry", 0, lines)).rejects.toThrow("not shipped");
  const trusting = (signer: typeof by) => {
    const verifier = verifierFromRaw(signer.publicKey);
    return trustRoots([{ role: "registrar", keyId: verifier.keyId, verifier }]);
  };
  expect(await auditLedger(store, trusting(by))).toMatchObject({ ok: true, pods: [{ pod: "pod-1" }] });
  expect(await auditLedger(store, trusting(newSigner()))).toMatchObject({
    ok: false,
    finding: { code: "TRUST_KEY_UNKNOWN", file: "trust/events.jsonl" },
  });
  // Revoked with what the ledger holds honoured: still good. With an earlier checkpoint: what came after is not.
  const { checkpoint } = await ledger.status("pod-1");
  await scene.revoked(checkpoint === "genesis" ? "" : checkpoint);
  expect(await auditLedger(store, trusting(by))).toMatchObject({ ok: true });
  const other = await registered(by);
  const late = over(other.store, await other.registrar.keysOf("pod-1"), true);
  await late.accept("pod-1", 0, linesOf(other.dir));
  await other.revoked("");
  expect(await auditLedger(other.store, trusting(by))).toMatchObject({
    ok: false,
    finding: { code: "TRUST_KEY_REVOKED" },
  });
});

describe("a registrar", () => {
  test("goes on from its store, answers a rotation asked twice as before, and takes no stranger's", async () => {
    const by = newSigner();
    const scene = await registered(by);
    const [rotation] = scene.events.slice(-1);
    const act = rotation?.node.body["rotation"] ?? null;
    const height = scene.events.length;
    expect(await scene.registrar.rotate("pod-1", act)).toMatchObject({ height });
    await expect(scene.registrar.rotate("pod-2", act)).rejects.toThrow("not the key in force");
    expect((await scene.registrar.keysOf("pod-1")).map((k) => k.keyId)).toEqual([
      scene.first.keyId,
      scene.last.keyId,
    ]);
    expect(await scene.registrar.revokedOf("pod-1")).toBeUndefined();
    await scene.registrar.revoke("pod-1", "", "stolen");
    expect(await scene.registrar.revokedOf("pod-1")).toEqual({ key: scene.last.keyId, reason: "stolen" });
    await expect(scene.registrar.rotate("pod-1", act)).resolves.toMatchObject({ height: height + 1 });
  });

  test("says whether a pod's first key is this one, and writes nothing when the store says no", async () => {
    const { registrar, store, events } = await registrarOf(newSigner());
    const [a, b] = [newSigner(), newSigner()];
    const of = binding("p");
    expect(await registrar.publish(of, a.publicKey)).toBe(true);
    expect(await registrar.publish(of, a.publicKey)).toBe(true);
    expect(await registrar.publish(of, b.publicKey)).toBe(false);
    expect(await events()).toHaveLength(1);
    const put = store.put.bind(store);
    Object.assign(store, { put: () => Promise.reject(new Error("the disk is full")) });
    await expect(registrar.publish(binding("q"), b.publicKey)).rejects.toThrow("disk");
    expect(await registrar.keysOf("q")).toEqual([]);
    Object.assign(store, { put });
    expect(await registrar.publish(binding("q"), b.publicKey)).toBe(true);
    expect(await events()).toHaveLength(2);
  });
});
