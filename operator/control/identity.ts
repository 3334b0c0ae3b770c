// Who a guardian is: the token says which pod, a signature says that it holds the key which that pod published first.

import { randomBytes } from "node:crypto";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { isSignature } from "../../kernel/contracts/contracts.ts";
import { keyIdOf, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
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

/** The keys that guardians published: the first of a pod wins, for as long as the pod lives. */
export interface KeyRegistry {
  keyOf(podUid: string): Promise<string | undefined>;
  /** False when another key was first. */
  publish(identity: PodIdentity, publicKeyHex: string): Promise<boolean>;
}

const shardOf = (podUid: string): string =>
  `atoll-guardian-keys-${/^[0-9a-f]/.test(podUid) ? podUid.slice(0, 1) : "x"}`;

/** Kept in sixteen ConfigMaps of our own namespace, so that a restart forgets nobody. */
export function storedKeys(client: Client, namespace: string): KeyRegistry {
  const collection = `/api/v1/namespaces/${namespace}/configmaps`;
  const memory = new Map<string, string>();
  const read = async (podUid: string): Promise<{ data: JsonMap; version: string }> => {
    try {
      const map = await client.json(`${collection}/${shardOf(podUid)}`);
      const meta = isMap(map["metadata"]) ? map["metadata"] : {};
      return { data: isMap(map["data"]) ? map["data"] : {}, version: text(meta["resourceVersion"]) };
    } catch (error) {
      if (!notFound(error)) throw error;
      return { data: {}, version: "" };
    }
  };
  return {
    async keyOf(podUid) {
      const hit = memory.get(podUid);
      if (hit !== undefined) return hit;
      const { data } = await read(podUid);
      const key = Object.hasOwn(data, podUid) ? text(data[podUid]) : "";
      if (key === "") return undefined;
      memory.set(podUid, key);
      return key;
    },
    async publish(identity, publicKeyHex) {
      for (let attempt = 0; ; attempt++) {
        const { data, version } = await read(identity.podUid);
        const stored = Object.hasOwn(data, identity.podUid) ? text(data[identity.podUid]) : "";
        if (stored !== "") return stored === publicKeyHex;
        const name = shardOf(identity.podUid);
        const body = {
          apiVersion: "v1",
          kind: "ConfigMap",
          // With the version read: of two that publish at once, one is told to look again.
          metadata: { name, namespace, ...(version === "" ? {} : { resourceVersion: version }) },
          data: { ...data, [identity.podUid]: publicKeyHex },
        };
        try {
          if (version === "") await client.json(collection, { method: "POST", body });
          else await applyObject(client, `${collection}/${name}`, body, "atoll-control");
          memory.set(identity.podUid, publicKeyHex);
          return true;
        } catch (error) {
          if (!(error instanceof ApiError && error.status === 409) || attempt > 20) throw error;
        }
      }
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
