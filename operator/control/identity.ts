// Who a guardian is: the token says which pod, a signature says that it holds the key which that pod published first.

import { randomBytes } from "node:crypto";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { isSignature } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { keyIdOf, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { ROTATION, parseAct } from "../../kernel/trust/trust.ts";
import { isMap } from "../kinds/kinds.ts";
import type { Json, JsonMap } from "../kinds/kinds.ts";
import { ApiError, applyObject, notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import { TOKEN_AUDIENCE } from "../shape/shape.ts";

export interface PodIdentity {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly podName: string;
  readonly podUid: string;
}
const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
const first = (v: Json | undefined): string => (Array.isArray(v) ? text(v[0] as Json | undefined) : "");

/** What a TokenReview's answer says about the bearer; undefined when it is no pod's token for our audience. */
export function identityFrom(review: JsonMap): PodIdentity | undefined {
  const status = isMap(review["status"]) ? review["status"] : {};
  const user = isMap(status["user"]) ? status["user"] : {};
  const extra = isMap(user["extra"]) ? user["extra"] : {};
  const name = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(text(user["username"]));
  const audiences = status["audiences"];
  const podUid = first(extra["authentication.kubernetes.io/pod-uid"]);
  const podName = first(extra["authentication.kubernetes.io/pod-name"]);
  if (status["authenticated"] !== true || name === null || podUid === "" || podName === "") return undefined;
  if (!Array.isArray(audiences) || !audiences.includes(TOKEN_AUDIENCE)) return undefined;
  return { namespace: name[1] ?? "", serviceAccount: name[2] ?? "", podName, podUid };
}

export type TokenCheck = (token: string) => Promise<PodIdentity | undefined>;
const TOKEN_CACHE_MS = 60_000;

/** Asks the API server, and remembers a good answer for a minute: a pod's end reaches us by the watch sooner. */
export function tokenReviews(client: Client, now: () => number): TokenCheck {
  const known = new Map<string, { readonly identity: PodIdentity; readonly until: number }>();
  return async (token) => {
    const hit = known.get(token);
    if (hit !== undefined && hit.until > now()) return hit.identity;
    known.delete(token);
    const identity = identityFrom(
      await client.json("/apis/authentication.k8s.io/v1/tokenreviews", {
        method: "POST",
        body: {
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenReview",
          spec: { token, audiences: [TOKEN_AUDIENCE] },
        },
      }),
    );
    if (identity !== undefined) {
      if (known.size > 20_000) known.clear();
      known.set(token, { identity, until: now() + TOKEN_CACHE_MS });
    }
    return identity;
  };
}

/** The keys that guardians published: the first of a pod wins, for as long as the pod lives, and names those that follow. */
export interface KeyRegistry {
  /** The key in force. */
  keyOf(podUid: string): Promise<string | undefined>;
  /** All that the pod's guardian has had, the first one first. */
  keysOf(podUid: string): Promise<readonly string[]>;
  /** False when another key was first. */
  publish(identity: PodIdentity, publicKeyHex: string): Promise<boolean>;
  /** Takes the act of the key in force that names its successor; asked again it answers as before. */
  rotate(identity: PodIdentity, act: JsonMap): Promise<JsonMap>;
}
/** The registrar's chain, where there is one: what stands there is durable before our own copy says it. */
export interface KeyChain {
  publish(identity: PodIdentity, publicKeyHex: string): Promise<boolean>;
  /** The registry's head, as `height` and `hash`. */
  rotate(podUid: string, act: JsonMap): Promise<JsonMap>;
}

const shardOf = (podUid: string): string =>
  `atoll-guardian-keys-${/^[0-9a-f]/.test(podUid) ? podUid.slice(0, 1) : "x"}`;

const MOST_ROTATIONS = 16;

/** A pod's first key and the acts by which others followed it: the key alone, or a list of all. */
interface Kept {
  readonly first: string;
  readonly acts: readonly JsonMap[];
}
const keptFrom = (value: string): Kept => {
  if (!value.startsWith("[")) return { first: value, acts: [] };
  const list = JSON.parse(value) as readonly Json[];
  return { first: text(list[0]), acts: list.slice(1).filter(isMap) };
};
const keptText = ({ first, acts }: Kept): string =>
  acts.length === 0 ? first : JSON.stringify([first, ...acts]);
const keyIn = (act: JsonMap): string => text((isMap(act["key"]) ? act["key"] : {})["public_key"]);
const keysIn = ({ first, acts }: Kept): readonly string[] => [first, ...acts.map(keyIn)];

/** Kept in sixteen ConfigMaps of our own namespace, so that a restart forgets nobody. */
export function storedKeys(client: Client, namespace: string, chain?: KeyChain): KeyRegistry {
  const collection = `/api/v1/namespaces/${namespace}/configmaps`;
  const memory = new Map<string, Kept>();
  const announced = new Set<string>();
  const read = async (podUid: string) => {
    const found = await client.json(`${collection}/${shardOf(podUid)}`).catch((error: unknown) => {
      if (!notFound(error)) throw error;
      return {} satisfies JsonMap;
    });
    const object: JsonMap = found;
    const meta = isMap(object["metadata"]) ? object["metadata"] : {};
    const data = isMap(object["data"]) ? object["data"] : {};
    const value = Object.hasOwn(data, podUid) ? text(data[podUid]) : "";
    return { data, version: text(meta["resourceVersion"]), kept: value === "" ? undefined : keptFrom(value) };
  };
  /** Writes what `change` makes of what is there; of two that write at once, one is told to look again. */
  async function put(podUid: string, change: (kept: Kept | undefined) => Kept | undefined): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const { data, version, kept } = await read(podUid);
      const next = change(kept);
      if (next === undefined) return;
      const name = shardOf(podUid);
      const body = {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name, namespace, ...(version === "" ? {} : { resourceVersion: version }) },
        data: { ...data, [podUid]: keptText(next) },
      };
      try {
        if (version === "") await client.json(collection, { method: "POST", body });
        else await applyObject(client, `${collection}/${name}`, body, "atoll-control");
        memory.set(podUid, next);
        return;
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 409) || attempt > 20) throw error;
      }
    }
  }
  async function keptOf(podUid: string): Promise<Kept | undefined> {
    const hit = memory.get(podUid) ?? (await read(podUid)).kept;
    if (hit !== undefined) memory.set(podUid, hit);
    return hit;
  }
  /** A chain that was lost with its store learns again what we know. */
  async function announce(identity: PodIdentity, { first, acts }: Kept): Promise<boolean> {
    if (chain === undefined || announced.has(identity.podUid)) return true;
    if (!(await chain.publish(identity, first))) return false;
    for (const act of acts) await chain.rotate(identity.podUid, act);
    announced.add(identity.podUid);
    return true;
  }
  return {
    keyOf: async (podUid) => {
      const kept = await keptOf(podUid);
      return kept === undefined ? undefined : keysIn(kept).at(-1);
    },
    keysOf: async (podUid) => {
      const kept = await keptOf(podUid);
      return kept === undefined ? [] : keysIn(kept);
    },
    async publish(identity, publicKeyHex) {
      const known = await keptOf(identity.podUid);
      const mine = known ?? { first: publicKeyHex, acts: [] };
      if (keysIn(mine).at(-1) !== publicKeyHex || !(await announce(identity, mine))) return false;
      if (known !== undefined) return true;
      await put(identity.podUid, (kept) => {
        if (kept !== undefined) memory.set(identity.podUid, kept);
        return kept === undefined ? mine : undefined;
      });
      const stored = memory.get(identity.podUid);
      return stored !== undefined && keysIn(stored).at(-1) === publicKeyHex;
    },
    async rotate(identity, value) {
      const signed = parseAct(value as JsonObject, "rotation", ROTATION);
      const { act } = signed;
      const known = await keptOf(identity.podUid);
      if (act.type !== ROTATION || known === undefined) throw new Error("this pod has published no key");
      const keys = keysIn(known);
      const done =
        keys.at(-1) === act.key.public_key && keyIdOf(Buffer.from(keys.at(-2) ?? "", "hex")) === act.old;
      const old = verifierFromRaw(Buffer.from(keys.at(done ? -2 : -1) ?? "", "hex"));
      if (act.old !== old.keyId || !signed.signedBy(old))
        throw new Error(`${act.old} is not the key in force of this pod`);
      // What one guardian can make us keep has an end.
      if (!done && known.acts.length >= MOST_ROTATIONS)
        throw new Error("this pod's key was followed too often");
      if (!(await announce(identity, known))) throw new Error("this pod has published another key");
      const head = (await chain?.rotate(identity.podUid, value)) ?? {};
      if (!done)
        await put(identity.podUid, (kept) =>
          kept === undefined || keysIn(kept).at(-1) !== keys.at(-1)
            ? undefined
            : { ...kept, acts: [...kept.acts, value] },
        );
      return head;
    },
  };
}

/** Nonces that were given out and not yet used. */
export interface Nonces {
  give(podUid: string): string;
  /** True once for each nonce, for the pod that got it, within its time. */
  take(nonce: string, podUid: string): boolean;
}
const NONCE_MS = 30_000;
export function makeNonces(now: () => number, random: () => Buffer = () => randomBytes(32)): Nonces {
  const open = new Map<string, { readonly podUid: string; readonly until: number }>();
  return {
    give(podUid) {
      for (const [nonce, { until }] of open) {
        if (until > now() && open.size < 50_000) break;
        open.delete(nonce);
      }
      const nonce = random().toString("hex");
      open.set(nonce, { podUid, until: now() + NONCE_MS });
      return nonce;
    },
    take(nonce, podUid) {
      const entry = open.get(nonce);
      open.delete(nonce);
      return entry !== undefined && entry.podUid === podUid && entry.until > now();
    },
  };
}

/** What a guardian signs to show that it holds its key. */
export const helloText = (nonce: string, podUid: string, publicKeyHex: string): string =>
  canonicalize({
    type: "atoll.dev/hello/v1",
    nonce,
    pod_uid: podUid,
    key_id: keyIdOf(Buffer.from(publicKeyHex, "hex")),
  });

export const isPublicKey = (s: unknown): s is string => typeof s === "string" && /^[0-9a-f]{64}$/.test(s);

export function helloHolds(nonce: string, podUid: string, publicKeyHex: string, signature: string): boolean {
  if (!isSignature(signature)) return false;
  try {
    return verifierFromRaw(Buffer.from(publicKeyHex, "hex")).verify(
      helloText(nonce, podUid, publicKeyHex),
      signature,
    );
  } catch {
    return false;
  }
}
