// The registrar: whoever may publish guardians' keys, and the chain in which it does. It can invent a guardian, stop one and
// record that one key followed another; it can not speak for one, since it never holds a guardian's key.

import { isKeyId, isObject, makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type {
  Hash,
  JsonObject,
  JsonValue,
  KeyId,
  SealedNode,
  SessionId,
} from "../../kernel/contracts/contracts.ts";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Signer, Verifier } from "../../kernel/crypto/crypto.ts";
import type { TrustHead } from "../../kernel/proofgraph/proofgraph.ts";
import { createChains, readNode } from "../../kernel/receipts/receipts.ts";
import {
  ROTATION,
  createRegistry,
  handOverBody,
  parseAct,
  publishKey,
  trustRoots,
} from "../../kernel/trust/trust.ts";
import type { Binding, Registry, TrustedKey } from "../../kernel/trust/trust.ts";
import { ownText } from "./shelf.ts";
import type { LedgerStore } from "./store.ts";

/** The shelf of the registry's chain; no pod is called so. */
export const REGISTRY = "registry";

export interface RegistrarOptions {
  readonly store: LedgerStore;
  /** Of role `registrar`. */
  readonly signer: Signer;
  /** Keys of people who may revoke a guardian's key. */
  readonly roots: readonly TrustedKey[];
  readonly clock: () => number;
  readonly random: (bytes: number) => Uint8Array;
}
export interface Revoked {
  readonly key: KeyId;
  readonly reason: string;
}
export interface Registrar {
  /** The chain's end. */
  head(): Promise<TrustHead>;
  /** The keys that a pod's guardian has had, the first one first. */
  keysOf(podUid: string): Promise<readonly Verifier[]>;
  /** Why the pod's key in force is revoked. */
  revokedOf(podUid: string): Promise<Revoked | undefined>;
  /** Durable when it resolves; false when the pod's first key is another one. */
  publish(binding: Binding, publicKey: Uint8Array): Promise<boolean>;
  /** The act of a pod's key that names its successor. Asked again for the same one it answers as before. */
  rotate(podUid: string, act: JsonValue): Promise<TrustHead>;
  /** Revokes the pod's key, honouring what is under `honoured`; `act` is a root's, without one the registrar's own word. */
  revoke(podUid: string, honoured: Hash | "", reason: string, act?: JsonObject): Promise<TrustHead>;
}

interface Chain {
  readonly registry: Registry;
  readonly pods: Map<string, Verifier[]>;
  readonly reasons: Map<KeyId, string>;
  count: number;
  session: SessionId | undefined;
}

export async function registryEvents(store: LedgerStore): Promise<readonly SealedNode[]> {
  const events: SealedNode[] = [];
  for (;;) {
    const lines = await store.lines(REGISTRY, events.length, 1000);
    if (lines.length === 0) return events;
    for (const line of lines) events.push(readNode(line));
  }
}

export function createRegistrar(options: RegistrarOptions): Registrar {
  const { store, signer } = options;
  const roots = trustRoots([
    { role: "registrar", keyId: signer.keyId, verifier: verifierFromRaw(signer.publicKey) },
    ...options.roots.filter((key) => key.keyId !== signer.keyId),
  ]);
  let chain: Chain | undefined;
  let turn: Promise<unknown> = Promise.resolve();

  function note(into: Chain, sealed: SealedNode): void {
    const applied = into.registry.apply(sealed);
    if (!applied.ok)
      throw new Error(`event ${into.count + 1} of the registry: ${applied.code}: ${applied.reason}`);
    into.count++;
    into.session = sealed.node.session_id;
    const { body } = sealed.node;
    const revocation = isRevocation(body);
    if (revocation !== undefined) into.reasons.set(revocation.key, revocation.reason);
    const pod = body["pod_uid"];
    if (body["event"] === "KEY_PUBLISH" && typeof pod === "string") added(into, pod);
    if (body["event"] === "KEY_ROTATE") for (const uid of into.pods.keys()) added(into, uid);
  }
  /** The pod's key in force, if it was not in the list yet. */
  function added(into: Chain, pod: string): void {
    const id = into.registry.guardianOf(pod);
    const key = id === undefined ? undefined : into.registry.record(id)?.verifier;
    const list = into.pods.get(pod) ?? [];
    if (key !== undefined && !list.some((k) => k.keyId === key.keyId)) into.pods.set(pod, [...list, key]);
  }
  /** What the store holds; read anew when another registrar has written, or after a failure. */
  async function loaded(): Promise<Chain> {
    if (chain !== undefined) return chain;
    const fresh: Chain = {
      registry: createRegistry(roots),
      pods: new Map(),
      reasons: new Map(),
      count: 0,
      session: undefined,
    };
    for (const sealed of await registryEvents(store)) note(fresh, sealed);
    return (chain = fresh);
  }
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work, work);
    turn = mine.catch(() => undefined);
    return mine;
  }
  const headOf = ({ registry }: Chain): TrustHead => ({ height: registry.height, hash: registry.head });

  /** Seals, tries on a copy's rules and stores one event; nothing is in force that is not durable. */
  async function write(at: Chain, body: JsonObject): Promise<void> {
    const chains = createChains(signer);
    const session_id = at.session ?? makeId("ses", options.random(16));
    const { head, height } = at.registry;
    if (head !== "genesis") chains.restore(session_id, height, head);
    const sealed = chains.seal({
      kind: "TRUST_EVENT",
      session_id,
      parents: [],
      issued_at: timestampOf(options.clock()),
      body: { type: "atoll.dev/trust-event/v1", ...body },
    });
    const before = at.count;
    // From here on the copy is ahead of the store: it is thrown away unless the store says yes.
    chain = undefined;
    note(at, sealed);
    const state = ownText({
      session: session_id,
      lamport: sealed.node.lamport,
      head: sealed.hash,
      digest: sealed.hash,
    });
    if (!(await store.put(REGISTRY, before, [sealed.text], state)))
      throw new Error("another registrar was quicker: the registry is read again");
    chain = at;
  }

  return {
    head: () => inTurn(async () => headOf(await loaded())),
    keysOf: (pod) => inTurn(async () => (await loaded()).pods.get(pod) ?? []),
    revokedOf: (pod) =>
      inTurn(async () => {
        const at = await loaded();
        const id = at.registry.guardianOf(pod);
        if (id === undefined || at.registry.record(id)?.end !== "revoked") return undefined;
        return { key: id, reason: at.reasons.get(id) ?? "" };
      }),
    publish: (binding, publicKey) =>
      inTurn(async () => {
        const at = await loaded();
        const key = verifierFromRaw(publicKey);
        const known = at.pods.get(binding.pod_uid);
        if (known !== undefined) return known.some((k) => k.keyId === key.keyId);
        await write(at, { event: "KEY_PUBLISH", key: { ...publishKey(key) }, ...binding });
        return true;
      }),
    rotate: (pod, value) =>
      inTurn(async () => {
        const { act } = parseAct(value, "rotation", ROTATION);
        if (act.type !== ROTATION) throw new Error("is no rotation");
        const at = await loaded();
        const current = at.registry.guardianOf(pod);
        // The answer was lost: the old key asks again for the same successor.
        const done = at.registry.record(act.key.key_id)?.after === act.old;
        if (done && at.pods.get(pod)?.some((key) => key.keyId === act.key.key_id) === true) return headOf(at);
        if (current === undefined || current !== act.old)
          throw new Error(`${act.old} is not the key in force of this pod`);
        const { type: _, ...body } = handOverBody(objectOf(value));
        await write(at, body);
        return headOf(at);
      }),
    revoke: (pod, honoured, reason, act) =>
      inTurn(async () => {
        const at = await loaded();
        const current = at.registry.guardianOf(pod);
        if (current === undefined) throw new Error("this pod has published no key");
        if (at.registry.record(current)?.end === "revoked") return headOf(at);
        await write(
          at,
          act === undefined
            ? { event: "KEY_REVOKE", key: current, honoured, reason, at: timestampOf(options.clock()) }
            : { event: "KEY_REVOKE", revocation: act },
        );
        return headOf(at);
      }),
  };
}

const objectOf = (value: JsonValue): JsonObject => (isObject(value) ? value : {});

function isRevocation(body: JsonObject): { readonly key: KeyId; readonly reason: string } | undefined {
  if (body["event"] !== "KEY_REVOKE") return undefined;
  const { revocation } = body;
  if (revocation !== undefined) {
    const { act } = parseAct(revocation, "revocation", "atoll.dev/key-revocation/v1");
    return act.type === "atoll.dev/key-revocation/v1" ? { key: act.key, reason: act.reason } : undefined;
  }
  const { key, reason } = body;
  return isKeyId(key) ? { key, reason: typeof reason === "string" ? reason : "" } : undefined;
}
