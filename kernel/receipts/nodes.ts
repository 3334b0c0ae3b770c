// The node: one envelope, one hash rule, one chain per session.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import {
  ContractError,
  LIMITS,
  NODE_KINDS,
  arrayFrom,
  at,
  closed,
  hashFrom,
  idFrom,
  integerFrom,
  keyIdFrom,
  objectFrom,
  oneOf,
  parseJson,
  parseText,
  signatureFrom,
  timestampFrom,
} from "../contracts/contracts.ts";
import type {
  Hash,
  JsonObject,
  JsonValue,
  Node,
  NodeDraft,
  SealedNode,
  SessionId,
} from "../contracts/contracts.ts";
import { sha256 } from "../crypto/crypto.ts";
import type { Signer, Verifier } from "../crypto/crypto.ts";

export interface Head {
  readonly session_id: SessionId;
  readonly lamport: number;
  readonly hash: Hash;
}

/** The writer's end of every session's chain. */
export interface Chains {
  /** Gives the draft its place and signature. Synchronous, so the order of calls is the order of the chain. */
  seal(draft: NodeDraft): SealedNode;
  /** The head of a session as recovery found it; going back is refused. */
  restore(session_id: SessionId, lamport: number, head: Hash): void;
  /** What is sealed from now on is signed by this key. */
  handOver(next: Signer): void;
  heads(): readonly Head[];
}

export function createChains(first: Signer): Chains {
  let signer = first;
  const heads = new Map<SessionId, Head>();
  return {
    seal(draft) {
      const head = heads.get(draft.session_id);
      const lamport = (head?.lamport ?? 0) + 1;
      // In canonical order, so that it need not be put into it.
      const unsigned = {
        body: draft.body,
        issued_at: draft.issued_at,
        key_id: signer.keyId,
        kind: draft.kind,
        lamport,
        parents: sortedParents(draft.parents),
        prev_hash: head?.hash ?? "genesis",
        session_id: draft.session_id,
        type: "atoll.dev/node/v1",
      } as const;
      const input = canonicalize(unsigned);
      const sig = signer.sign(input);
      const text = withSig(input, sig);
      // No unit of a text takes more than three bytes.
      if (text.length * 3 > LIMITS.node.bytes && bytesOf(text).length > LIMITS.node.bytes)
        throw new ContractError("node", `longer than ${LIMITS.node.bytes} bytes`);
      const hash = sha256(text);
      heads.set(draft.session_id, { session_id: draft.session_id, lamport, hash });
      return { node: { ...unsigned, sig }, hash, text };
    },
    restore(session_id, lamport, hash) {
      const known = heads.get(session_id);
      if (known !== undefined && known.lamport >= lamport)
        throw new ContractError("lamport", `session ${session_id} is already at ${known.lamport}`);
      heads.set(session_id, { session_id, lamport: integerFrom(lamport, "lamport", 1), hash });
    },
    handOver(next) {
      signer = next;
    },
    heads: () => [...heads.values()],
  };
}

const sortedParents = (parents: readonly Hash[]): readonly Hash[] =>
  parents.length < 2 ? parents : [...new Set(parents)].sort();

// In canonical form `sig` stands between `session_id` and `type`, and `type` is the last member of a node: the
// signing input and the whole text differ by exactly this piece, so each is written once.
const TAIL = ',"type":"atoll.dev/node/v1"}';
const SIG_MEMBER = ',"sig":"'.length + 128 + 1;

const withSig = (input: string, sig: string): string =>
  `${input.slice(0, -TAIL.length)},"sig":"${sig}"${TAIL}`;
const withoutSig = (text: string): string => text.slice(0, -(SIG_MEMBER + TAIL.length)) + TAIL;

const MEMBERS = [
  "type",
  "kind",
  "session_id",
  "lamport",
  "prev_hash",
  "parents",
  "issued_at",
  "key_id",
  "body",
  "sig",
] as const;

/** The only parser of nodes: exactly the ten members, each of its form. A string or bytes are JSON text. */
export function parseNode(input: string | Uint8Array | JsonObject): Node {
  return nodeFrom(isText(input) ? parseJson(bytesOf(input), LIMITS.node) : input);
}

/** A recorded line: the node, its hash, its text. Text that is not the node's canonical form is refused. */
export function readNode(input: string | Uint8Array): SealedNode {
  const bytes = bytesOf(input);
  const { value, text } = parseText(bytes, LIMITS.node);
  // A string may hold what no bytes can.
  if (canonicalize(value) !== text || (typeof input === "string" && input !== text))
    throw new ContractError("node", "is not in canonical form");
  return { node: nodeFrom(value), hash: sha256(bytes), text };
}

const isText = (v: string | Uint8Array | JsonObject): v is string | Uint8Array =>
  typeof v === "string" || v instanceof Uint8Array;
const bytesOf = (v: string | Uint8Array): Uint8Array =>
  typeof v === "string" ? new TextEncoder().encode(v) : v;

function nodeFrom(value: JsonValue): Node {
  const o = closed(value, "", MEMBERS);
  const prev = o["prev_hash"];
  const lamport = integerFrom(o["lamport"], "lamport", 1);
  if ((prev === "genesis") !== (lamport === 1))
    throw new ContractError("prev_hash", "`genesis` belongs to lamport 1 and to no other");
  const parents = arrayFrom(o["parents"], "parents").map((p, i) => hashFrom(p, at("parents", i)));
  if (parents.join() !== sortedParents(parents).join())
    throw new ContractError("parents", "are sorted and each named once");
  return {
    type: oneOf(o["type"], "type", ["atoll.dev/node/v1"]),
    kind: oneOf(o["kind"], "kind", NODE_KINDS),
    session_id: idFrom("ses", o["session_id"], "session_id"),
    lamport,
    prev_hash: prev === "genesis" ? prev : hashFrom(prev, "prev_hash"),
    parents,
    issued_at: timestampFrom(o["issued_at"], "issued_at"),
    key_id: keyIdFrom(o["key_id"], "key_id"),
    body: objectFrom(o["body"], "body"),
    sig: signatureFrom(o["sig"], "sig"),
  };
}

export const nodeText = (node: Node): string => canonicalize({ ...node });
export const nodeHash = (node: Node): Hash => sha256(nodeText(node));

/** Whether `verifier` is the key the node names and its signature holds. Says nothing of roles or of the chain. */
export const verifyNode = (node: Node, verifier: Verifier): boolean =>
  verifyText(node, nodeText(node), verifier);
/** The same for a node read from its line: the canonical form is at hand and is not written again. */
export const verifySealed = (sealed: SealedNode, verifier: Verifier): boolean =>
  verifyText(sealed.node, sealed.text, verifier);

const verifyText = (node: Node, text: string, verifier: Verifier): boolean =>
  node.key_id === verifier.keyId && verifier.verify(withoutSig(text), node.sig);
