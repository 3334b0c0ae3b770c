// A guardian with a registrar: its journal over a rotation, and the registry's events beside it.
import { randomBytes } from "node:crypto";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonObject, SealedNode } from "../../kernel/contracts/contracts.ts";
import { sha256, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { ROTATION, publishKey, signAct } from "../../kernel/trust/trust.ts";
import { createRegistrar, openStore, registryEvents } from "../../operator/ledger/ledger.ts";
import type { LedgerStore, Registrar } from "../../operator/ledger/ledger.ts";
import { diskAt } from "../../sidecar/journal/journal.ts";
import { createRotation, openKeys } from "../../sidecar/keys/keys.ts";
import { decisions, newFolder, newSigner, open } from "../journal/scene.ts";

const NOW = 1_800_000_000_000;
export const binding = (pod_uid: string) => ({
  pod_uid,
  service_account: "ns/agent",
  image: "guardian@sha256:1",
  bundle_hash: sha256("bundle"),
});

export async function registrarOf(signer: Signer, root?: Signer) {
  const store = await openStore(newFolder());
  const registrar = createRegistrar({
    store,
    signer,
    roots:
      root === undefined
        ? []
        : [{ role: "guardian", keyId: root.keyId, verifier: verifierFromRaw(root.publicKey) }],
    clock: () => NOW,
    random: (n) => randomBytes(n),
  });
  return { store, registrar, events: () => registryEvents(store) };
}

export interface Wrong {
  /** The old key goes on although the registry knows that it was followed. */
  readonly noHandOver?: boolean;
  /** The log hands over and nobody tells the registrar. */
  readonly unpublished?: boolean;
  /** What checkpoints say of the registry. */
  readonly head?: { readonly height: number; readonly hash: Hash };
}
export interface Registered {
  readonly dir: string;
  readonly first: Signer;
  readonly last: Signer;
  readonly registrar: Registrar;
  /** Where the registry is kept, as a ledger keeps it beside its records. */
  readonly store: LedgerStore;
  readonly events: readonly SealedNode[];
  /** The last checkpoint of each of the two keys. */
  readonly checkpoints: { readonly old: Hash; readonly last: Hash };
  /** The registry's events after one more revocation of the key in force. */
  revoked(honoured: Hash | "", act?: JsonObject): Promise<readonly SealedNode[]>;
}

/** Decisions, a rotation, decisions: the guardian of pod-1, in a cluster that has a second one. */
export async function registered(by: Signer, wrong: Wrong = {}, root?: Signer): Promise<Registered> {
  const { registrar, events, store } = await registrarOf(by, root);
  const dir = newFolder();
  const keys = await openKeys(
    diskAt(dir),
    () => undefined,
    () => NOW,
  );
  const first = keys.signer;
  const journal = await open({
    dir,
    signer: first,
    trustHead: (key) => wrong.head ?? keys.trustHead(key),
  });
  await decisions(journal, 20);
  await registrar.publish(binding("pod-1"), first.publicKey);
  await registrar.publish(binding("pod-2"), newSigner().publicKey);
  await keys.noteHead(await registrar.head());
  await decisions(journal, 20, { from: 100 });
  await journal.checkpoint();
  const old = lastCheckpoint(journal);
  if (wrong.noHandOver === true) {
    const next = newSigner();
    const act = { type: ROTATION, old: first.keyId, key: publishKey(next) } as const;
    await registrar.rotate("pod-1", signAct(act, timestampOf(NOW), first));
    await keys.noteHead(await registrar.head());
  } else
    await createRotation({
      keys,
      journal,
      nowMs: () => NOW,
      log: () => undefined,
      maxAgeMs: 0,
      maxNodes: 0,
      ...(wrong.unpublished === true ? {} : { publish: (act) => registrar.rotate("pod-1", act) }),
    }).rotate("test");
  await decisions(journal, 20, { from: 200 });
  await journal.checkpoint();
  const last = lastCheckpoint(journal);
  await journal.close();
  const before = await events();
  return {
    dir,
    first,
    last: journal.signer,
    registrar,
    store,
    events: before,
    checkpoints: { old, last },
    revoked: async (honoured, act) => {
      await registrar.revoke("pod-1", honoured, "stolen", act);
      return events();
    },
  };
}

function lastCheckpoint(journal: Awaited<ReturnType<typeof open>>): Hash {
  let hash: Hash | undefined;
  for (const entry of journal.entries())
    if (entry.kind === "node" && entry.sealed.node.kind === "CHECKPOINT") hash = entry.sealed.hash;
  if (hash === undefined) throw new Error("no checkpoint");
  return hash;
}
