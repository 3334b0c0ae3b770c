// The guardian's key over the control stream: published, followed, revoked; with ConfigMaps of a test's own, a registrar
// over a real store, and the guardian's real end of the stream.
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import { afterEach, expect, test } from "vitest";
import { writeJournalPack } from "../../cli/export.ts";
import { judge } from "../../cli/verify.ts";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { ROTATION, publishKey, signAct, trustRoots } from "../../kernel/trust/trust.ts";
import { makeAuthority, makeLeaf } from "../../operator/certificates/certificates.ts";
import { startControl } from "../../operator/control/control.ts";
import type { StreamEvent } from "../../operator/control/control.ts";
import { storedKeys } from "../../operator/control/identity.ts";
import type { JsonMap } from "../../operator/kinds/kinds.ts";
import { ApiError } from "../../operator/runtime/runtime.ts";
import type { Client } from "../../operator/runtime/runtime.ts";
import { linkGuardian } from "../../sidecar/pod/link.ts";
import { openStream } from "../../sidecar/stream/stream.ts";
import { scene as guardianScene } from "../surfaces/scene.ts";
import { binding, registrarOf } from "../evidence/registered.ts";
import { newSigner } from "../journal/scene.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of cleanup.splice(0).reverse()) await undo();
});

/** An API server that knows ConfigMaps and nothing else. */
function configMaps(): Client {
  const maps = new Map<string, JsonMap>();
  let version = 0;
  return {
    json: async (path, options = {}) => {
      const plain = path.replace(/\?.*/, "");
      const name = plain.split("/").at(-1) ?? "";
      if (options.method === undefined) {
        const found = maps.get(name);
        if (found === undefined) throw new ApiError(404, "NotFound", "no such map");
        return found;
      }
      const body = options.body as { metadata: { name: string; resourceVersion?: string }; data: JsonMap };
      const before = maps.get(body.metadata.name) as { metadata: { resourceVersion: string } } | undefined;
      if (before?.metadata.resourceVersion !== body.metadata.resourceVersion)
        throw new ApiError(409, "Conflict", "look again");
      const made = { ...body, metadata: { ...body.metadata, resourceVersion: String(++version) } };
      maps.set(body.metadata.name, made);
      return made;
    },
    stream: () => Promise.reject(new Error("nothing is watched here")),
    close: () => undefined,
  };
}
type Keys = ReturnType<typeof newSigner>;
const POD = "0a1b2c3d-0000-0000-0000-000000000000";
const rotation = (old: Keys, next: Keys): JsonObject =>
  signAct({ type: ROTATION, old: old.keyId, key: publishKey(next) }, timestampOf(0), old);

async function scene() {
  const client = configMaps();
  const by = newSigner();
  const { registrar, events } = await registrarOf(by);
  let down = false;
  const chain = {
    publish: async (_: unknown, key: string) =>
      await registrar.publish(binding(POD), Buffer.from(key, "hex")),
    rotate: async (pod: string, act: JsonMap) => {
      if (down) throw new Error("the ledger's disk is full");
      return { ...(await registrar.rotate(pod, act as JsonObject)) };
    },
  };
  const authority = makeAuthority(new Date(), 3_600_000);
  const leaf = makeLeaf(authority, { dnsNames: ["localhost"] }, new Date(), 3_600_000);
  const begin = async () =>
    await startControl({
      port: 0,
      tls: { key: leaf.key, cert: leaf.certificate },
      tokens: (token) =>
        Promise.resolve(
          token === "token" ? { namespace: "n", serviceAccount: "s", podName: "p", podUid: POD } : undefined,
        ),
      // New each time: what a restart of the operator knows is in the ConfigMaps and the chain.
      keys: storedKeys(client, "atoll-system", chain),
      trust: async (uid) => {
        const revoked = await registrar.revokedOf(uid);
        return { ...(await registrar.head()), ...(revoked === undefined ? {} : { revoked: { ...revoked } }) };
      },
      registry: new Registry(),
      podOf: () => ({ uid: POD, sidecar: "s" }),
      snapshot: (): StreamEvent[] => [],
      bundleByHash: () => undefined,
      onReport: () => undefined,
      onChallenge: () => Promise.resolve(),
    });
  let control = await begin();
  cleanup.push(() => control.stop());
  const folder = mkdtempSync(join(tmpdir(), "atoll-rotation-"));
  writeFileSync(join(folder, "ca.crt"), authority.certificate);
  writeFileSync(join(folder, "token"), "token");
  return {
    by,
    registrar,
    events,
    client,
    chain,
    setDown: (value: boolean) => (down = value),
    /** What the operator sends when the registry has gone on. */
    tell: async () => {
      const revoked = await registrar.revokedOf(POD);
      const data = {
        ...(await registrar.head()),
        ...(revoked === undefined ? {} : { revoked: { ...revoked } }),
      };
      control.send({ podUid: POD }, { event: "trust", data });
    },
    settings: () => ({
      controlUrl: `https://localhost:${control.port}`,
      controlCa: join(folder, "ca.crt"),
      controlToken: join(folder, "token"),
      podUid: POD,
      bundleId: "scene",
      ceilingId: "",
      journalDir: folder,
    }),
    restart: async () => {
      await control.stop();
      control = await begin();
    },
    guardian(signer: () => Keys) {
      const heard: { readonly event: string; readonly data: JsonObject }[] = [];
      const logged: string[] = [];
      const stream = openStream({
        url: `https://localhost:${control.port}`,
        caFile: join(folder, "ca.crt"),
        tokenFile: join(folder, "token"),
        podUid: POD,
        signer,
        onEvent: (event, data) => {
          heard.push({ event, data });
          return Promise.resolve();
        },
        report: () => ({}),
        log: (line) => logged.push(line),
        resolver: {
          resolve: () => Promise.resolve({ kind: "addresses", addresses: ["127.0.0.1"] }),
          close: () => undefined,
        },
      });
      cleanup.push(() => stream.close());
      return { stream, heard, logged };
    },
  };
}
async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 600 && !what(); i++) await new Promise((r) => setTimeout(r, 10));
  expect(what()).toBe(true);
}

test("a guardian's key is published, followed by the old key's act alone, and revoked; over restarts of the operator", async () => {
  const s = await scene();
  const [first, next] = [newSigner(), newSigner()];
  let signer = first;
  const one = s.guardian(() => signer);
  await until(() => one.stream.connected() && one.heard.some((h) => h.event === "synced"));
  expect(one.heard.find((h) => h.event === "trust")?.data).toMatchObject({ height: 1 });
  const head = await one.stream.rotate(rotation(first, next));
  expect(head).toEqual(await s.registrar.head());
  expect(head?.height).toBe(2);
  // The answer was lost, and the operator was restarted: the old key asks again and hears the same.
  one.stream.close();
  await s.restart();
  const again = s.guardian(() => signer);
  expect(await again.stream.rotate(rotation(first, next))).toEqual(head);
  expect(await s.events()).toHaveLength(2);
  again.stream.close();
  // The old key opens nothing any more; the new one does.
  const late = s.guardian(() => first);
  await until(() => late.logged.some((line) => line.includes("another key")));
  expect(late.stream.connected()).toBe(false);
  late.stream.close();
  signer = next;
  const second = s.guardian(() => signer);
  await until(() => second.heard.some((h) => h.event === "synced"));
  second.stream.close();
  await s.registrar.revoke(POD, "", "stolen");
  const third = s.guardian(() => signer);
  await until(() => third.heard.some((h) => h.event === "trust"));
  expect(third.heard.find((h) => h.event === "trust")?.data["revoked"]).toEqual({
    key: next.keyId,
    reason: "stolen",
  });
});

test("nobody but the key in force names its successor, and nothing is copied that the chain does not have", async () => {
  const s = await scene();
  const [first, next, stranger] = [newSigner(), newSigner(), newSigner()];
  const mine = s.guardian(() => first);
  await until(() => mine.heard.some((h) => h.event === "synced"));
  const foreign = s.guardian(() => stranger);
  await expect(foreign.stream.rotate(rotation(stranger, next))).rejects.toThrow("403");
  foreign.stream.close();
  await expect(mine.stream.rotate(rotation(stranger, next))).rejects.toThrow("not the key in force");
  await expect(mine.stream.rotate({ ...rotation(first, next), sig: "0".repeat(128) })).rejects.toThrow();
  s.setDown(true);
  await expect(mine.stream.rotate(rotation(first, next))).rejects.toThrow("disk is full");
  const stored = storedKeys(s.client, "atoll-system");
  expect(await stored.keysOf(POD)).toEqual([Buffer.from(first.publicKey).toString("hex")]);
  s.setDown(false);
  expect((await mine.stream.rotate(rotation(first, next)))?.height).toBe(2);
  expect(await stored.keyOf(POD)).toBe(Buffer.from(first.publicKey).toString("hex"));
  expect(await storedKeys(s.client, "atoll-system").keyOf(POD)).toBe(
    Buffer.from(next.publicKey).toString("hex"),
  );
});

test("a chain that was lost with its store learns from the copy again", async () => {
  const s = await scene();
  const [first, next] = [newSigner(), newSigner()];
  const mine = s.guardian(() => first);
  await until(() => mine.heard.some((h) => h.event === "synced"));
  await mine.stream.rotate(rotation(first, next));
  const fresh = await registrarOf(newSigner());
  const keys = storedKeys(s.client, "atoll-system", {
    publish: (_, key) => fresh.registrar.publish(binding(POD), Buffer.from(key, "hex")),
    rotate: async (pod, act) => ({ ...(await fresh.registrar.rotate(pod, act as JsonObject)) }),
  });
  const identity = { namespace: "n", serviceAccount: "s", podName: "p", podUid: POD };
  expect(await keys.publish(identity, Buffer.from(next.publicKey).toString("hex"))).toBe(true);
  expect((await fresh.registrar.keysOf(POD)).map((k) => k.keyId)).toEqual([first.keyId, next.keyId]);
  expect(await keys.publish(identity, Buffer.from(first.publicKey).toString("hex"))).toBe(false);
});

test("a guardian in a pod: its key followed by another, its pack held against the registry, its revocation heard", async () => {
  const s = await scene();
  let link: ReturnType<typeof linkGuardian> | undefined;
  const it = await guardianScene({
    pod: {
      heartbeatAgeMs: () => "unbound",
      broken: () => undefined,
      opened: () => undefined,
      publish: async (act) => await link?.rotate(act),
    },
  });
  cleanup.push(() => it.close());
  const { guardian } = it;
  link = linkGuardian({
    guardian,
    settings: s.settings(),
    first: { bundle: undefined, ceiling: undefined },
    more: () => ({}),
    say: () => undefined,
    log: () => undefined,
    way: {
      resolver: {
        resolve: () => Promise.resolve({ kind: "addresses", addresses: ["127.0.0.1"] }),
        close: () => undefined,
      },
    },
  });
  cleanup.push(() => link?.close());
  const first = guardian.signer;
  await until(() => guardian.keys.trustHead(first.keyId).height === 1);
  const { old, key } = await guardian.rotation.rotate("test");
  expect([old, key]).toEqual([first.keyId, guardian.signer.keyId]);
  expect(old).not.toBe(key);
  expect(guardian.keys.trustHead(key).height).toBe(2);
  await guardian.journal.checkpoint();
  const pack = join(it.folder, "pack.tar");
  const exported = async (): Promise<void> => {
    const registry = await s.events();
    await writeJournalPack({
      dir: join(it.folder, "journal"),
      signer: guardian.signer,
      file: pack,
      registry,
    });
  };
  await exported();
  const verifier = verifierFromRaw(s.by.publicKey);
  const roots = trustRoots([{ role: "registrar", keyId: verifier.keyId, verifier }]);
  expect(judge(pack, roots)).toMatchObject({ kind: "pack", report: { registry: { height: 2 } } });
  expect(guardian.ready()).toEqual({ ok: true, why: "" });
  await s.registrar.revoke(POD, "", "stolen");
  await s.tell();
  await until(() => !guardian.ready().ok);
  expect(guardian.ready().why).toContain("revoked: stolen");
  expect(guardian.keys.revoked).toBe("stolen");
  await expect(guardian.rotation.rotate("again")).rejects.toThrow("revoked");
  await exported();
  expect(judge(pack, roots)).toMatchObject({ finding: { code: "TRUST_KEY_REVOKED" } });
});
