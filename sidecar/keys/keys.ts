// The guardian's own keys on its own volume: the one that signs, the one that is to follow it, and what is public of those
// before. Whoever owns these files can sign as this guardian until the key is revoked.

import { generateKeyPairSync } from "node:crypto";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import {
  arrayFrom,
  at,
  closed,
  hashFrom,
  integerFrom,
  oneOf,
  parseJson,
  stringFrom,
} from "../../kernel/contracts/contracts.ts";
import type { JsonValue, KeyId } from "../../kernel/contracts/contracts.ts";
import { signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Signer, Verifier } from "../../kernel/crypto/crypto.ts";
import type { TrustHead } from "../../kernel/proofgraph/proofgraph.ts";
import { publishKey, publishedKeyFrom, verifierOf } from "../../kernel/trust/trust.ts";
import { replaceFile } from "../journal/journal.ts";
import type { Disk } from "../journal/journal.ts";

export { createRotation } from "./rotation.ts";
export type { Rotation, RotationOptions } from "./rotation.ts";

export interface OwnKeys {
  readonly signer: Signer;
  /** Made, and not yet known to be in force: the log says whether it is. */
  readonly next: Signer | undefined;
  readonly former: readonly Verifier[];
  /** The registry's head that a checkpoint of this key names. */
  trustHead(key: KeyId): TrustHead;
  /** Why the key says nothing any more; "" while it is not revoked. */
  readonly revoked: string;
  /** When the key in force was made, as far as is known: milliseconds since 1970, and the size of the tree. */
  readonly since: { readonly ms: number; readonly nodes: number };
  /** The key that is to follow, durable before anybody hears of it. */
  prepare(): Promise<Signer>;
  /** The log is under this key: where it is the next one, that takes the place of the old, whose private part goes. */
  settle(inForce: KeyId, nowMs: number, nodes: number): Promise<void>;
  /** The registry's head as it is told. While a rotation is under way only what `next` is to name counts. */
  noteHead(head: TrustHead, forNext?: "next"): Promise<void>;
  /** Durable before it is answered: a restart signs nothing either. */
  revoke(reason: string): Promise<void>;
}

const KEY = "guardian.pem";
const NEXT = "guardian.next.pem";
const FIRST = "guardian.pub";
const STATE = "keys.json";
const LIMIT = { bytes: 16 << 20, keys: 1_000_000, depth: 8 };

interface State {
  readonly former: readonly Verifier[];
  readonly trustHead: TrustHead;
  /** The same for the next key: it is published at this height or before. */
  readonly nextHead: TrustHead;
  readonly revoked: string;
  readonly since: OwnKeys["since"];
}
const GENESIS: TrustHead = { height: 0, hash: "genesis" };
const EMPTY: State = {
  former: [],
  trustHead: GENESIS,
  nextHead: GENESIS,
  revoked: "",
  since: { ms: 0, nodes: 0 },
};

const bytes = (text: string): Uint8Array => Buffer.from(text, "utf8");
const stateBytes = (s: State): Uint8Array =>
  bytes(
    `${canonicalize({
      type: "atoll.dev/guardian-keys/v1",
      former: s.former.map((key) => ({ ...publishKey(key) })),
      trust_head: { ...s.trustHead },
      next_head: { ...s.nextHead },
      revoked: s.revoked,
      since: { ...s.since },
    })}\n`,
  );
function stateFrom(found: Uint8Array | undefined): State {
  if (found === undefined) return EMPTY;
  const o = closed(parseJson(found, LIMIT), STATE, [
    "type",
    "former",
    "trust_head",
    "next_head",
    "revoked",
    "since",
  ]);
  oneOf(o["type"], "type", ["atoll.dev/guardian-keys/v1"]);
  const since = closed(o["since"], "since", ["ms", "nodes"]);
  return {
    former: arrayFrom(o["former"], "former").map((key, i) =>
      verifierOf(publishedKeyFrom(key, at("former", i)), at("former", i)),
    ),
    trustHead: trustHeadFrom(o["trust_head"], "trust_head"),
    nextHead: trustHeadFrom(o["next_head"], "next_head"),
    revoked: stringFrom(o["revoked"], "revoked", 1000),
    since: { ms: integerFrom(since["ms"], "ms"), nodes: integerFrom(since["nodes"], "nodes") },
  };
}

function trustHeadFrom(value: JsonValue | undefined, path: string): TrustHead {
  const o = closed(value, path, ["height", "hash"]);
  const { hash } = o;
  return {
    height: integerFrom(o["height"], at(path, "height")),
    hash: hash === "genesis" ? hash : hashFrom(hash, at(path, "hash")),
  };
}

const newPem = (): string =>
  generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
const publicPem = ({ publicKey }: Pick<Verifier, "publicKey">): string => {
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), publicKey]);
  return `-----BEGIN PUBLIC KEY-----\n${der.toString("base64")}\n-----END PUBLIC KEY-----\n`;
};
const verifierOfSigner = (s: Signer): Verifier => verifierFromRaw(s.publicKey);

/** `protect` lets nobody but the owner read a file of this name. */
export async function openKeys(
  disk: Disk,
  protect: (name: string) => void,
  nowMs: () => number,
): Promise<OwnKeys> {
  const read = (name: string): Signer | undefined => {
    const found = disk.read(name);
    return found === undefined ? undefined : signerFromPem(Buffer.from(found).toString("utf8"));
  };
  const made = async (name: string): Promise<Signer> => {
    const pem = newPem();
    await replaceFile(disk, name, bytes(pem));
    protect(name);
    return signerFromPem(pem);
  };
  let state = stateFrom(disk.read(STATE));
  const put = async (next: State): Promise<void> => {
    await replaceFile(disk, STATE, stateBytes(next));
    state = next;
  };
  let mine = read(KEY) ?? (await made(KEY));
  protect(KEY);
  if (state.since.ms === 0) await put({ ...state, since: { ms: nowMs(), nodes: 0 } });
  let next = read(NEXT);
  // What an auditor is given: the log is verified from its first key on.
  if (disk.read(FIRST) === undefined)
    await replaceFile(disk, FIRST, bytes(publicPem(state.former[0] ?? mine)));
  return {
    get signer() {
      return mine;
    },
    get next() {
      return next;
    },
    get former() {
      return state.former;
    },
    trustHead: (key) =>
      key === mine.keyId || state.nextHead.height <= state.trustHead.height
        ? state.trustHead
        : state.nextHead,
    get revoked() {
      return state.revoked;
    },
    get since() {
      return state.since;
    },
    prepare: async () => (next ??= await made(NEXT)),
    // A stop before the rename leaves both keys, and the log tells again which one is in force.
    async settle(inForce, ms, nodes) {
      if (next?.keyId !== inForce) return;
      const old = verifierOfSigner(mine);
      const former = state.former.some((key) => key.keyId === old.keyId)
        ? state.former
        : [...state.former, old];
      const trustHead = state.nextHead.height > state.trustHead.height ? state.nextHead : state.trustHead;
      await put({ ...state, former, trustHead, since: { ms, nodes } });
      await disk.rename(NEXT, KEY);
      await disk.syncNames();
      protect(KEY);
      mine = next;
      next = undefined;
    },
    noteHead: async (head, forNext) => {
      if (forNext === "next" && head.height > state.nextHead.height) await put({ ...state, nextHead: head });
      // The old key's checkpoints never name a registry in which it has handed over.
      if (forNext === undefined && next === undefined && head.height > state.trustHead.height)
        await put({ ...state, trustHead: head });
    },
    revoke: async (reason) => {
      if (state.revoked === "") await put({ ...state, revoked: reason === "" ? "revoked" : reason });
    },
  };
}
