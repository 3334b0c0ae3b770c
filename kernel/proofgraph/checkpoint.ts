// Checkpoints: what the guardian commits to over all its sessions, as a node's body and as a C2SP signed note.

import {
  ContractError,
  closed,
  hashFrom,
  integerFrom,
  oneOf,
  present,
  signatureFrom,
} from "../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue } from "../contracts/contracts.ts";
import { bytesOfHash, hashOfBytes, sha256Bytes } from "../crypto/crypto.ts";
import type { Signer, Verifier } from "../crypto/crypto.ts";

export interface TrustHead {
  /** Number of events of the registry's chain that were known; 0 with hash "genesis" when none was. */
  readonly height: number;
  readonly hash: Hash | "genesis";
}
export interface Checkpoint {
  readonly type: "atoll.dev/checkpoint/v1";
  readonly tree_size: number;
  readonly root_hash: Hash;
  readonly prev_checkpoint: Hash | "genesis";
  readonly trust_head: TrustHead;
}

export const checkpointBody = (c: Omit<Checkpoint, "type">): JsonObject => ({
  prev_checkpoint: c.prev_checkpoint,
  root_hash: c.root_hash,
  tree_size: c.tree_size,
  trust_head: { hash: c.trust_head.hash, height: c.trust_head.height },
  type: "atoll.dev/checkpoint/v1",
});

const orGenesis = (v: JsonValue | undefined, path: string): Hash | "genesis" =>
  v === "genesis" ? v : hashFrom(v, path);

export function parseCheckpoint(value: JsonValue): Checkpoint {
  const o = closed(value, "", ["type", "tree_size", "root_hash", "prev_checkpoint", "trust_head"]);
  const trust = closed(o["trust_head"], "trust_head", ["height", "hash"]);
  const height = integerFrom(trust["height"], "trust_head.height");
  const hash = orGenesis(trust["hash"], "trust_head.hash");
  if ((height === 0) !== (hash === "genesis"))
    throw new ContractError("trust_head.hash", "`genesis` belongs to height 0 and to no other");
  return {
    type: oneOf(o["type"], "type", ["atoll.dev/checkpoint/v1"]),
    tree_size: integerFrom(o["tree_size"], "tree_size"),
    root_hash: hashFrom(o["root_hash"], "root_hash"),
    prev_checkpoint: orGenesis(o["prev_checkpoint"], "prev_checkpoint"),
    trust_head: { height, hash },
  };
}

export interface NoteBody {
  readonly origin: string;
  readonly size: number;
  readonly root: Hash;
}

/** A C2SP tlog-checkpoint: origin, size and root, signed under the origin as key name. */
export function writeNote(body: NoteBody, signer: Signer): string {
  if (!ORIGIN.test(body.origin)) throw new ContractError("origin", "has a space, a plus or a line break");
  const text = `${body.origin}\n${body.size}\n${base64(bytesOfHash(body.root))}\n`;
  const sig = hexBytes(signer.sign(text));
  const id = noteKeyId(body.origin, signer.publicKey);
  return `${text}\n— ${body.origin} ${base64(Uint8Array.of(...id, ...sig))}\n`;
}

/** The checkpoint of a note, if `verifier` signed it under `origin`; lines of other signers are passed over. */
export function readNote(note: string, origin: string, verifier: Verifier): NoteBody {
  if (note.length > 1_000_000) throw new ContractError("note", "longer than 1000000 characters");
  const cut = note.lastIndexOf("\n\n");
  if (cut < 0 || !note.endsWith("\n")) throw new ContractError("note", "has no block of signatures");
  const text = note.slice(0, cut + 1);
  const [first, size, root] = text.split("\n");
  if (first !== origin)
    throw new ContractError("origin", `expected \`${origin}\`, found \`${String(first)}\``);
  const id = noteKeyId(origin, verifier.publicKey);
  let verified = false;
  for (const line of note.slice(cut + 2, -1).split("\n")) {
    const parts = SIGNATURE_LINE.exec(line);
    if (parts === null) throw new ContractError("note", "a signature line is malformed");
    const bytes = fromBase64(present(parts[2]), "signature");
    if (parts[1] !== origin || id.some((b, i) => bytes[i] !== b)) continue;
    if (bytes.length !== 68 || verified)
      throw new ContractError("note", "the key's signature line is malformed or doubled");
    if (!verifier.verify(text, signatureFrom(hex(bytes.subarray(4)), "signature")))
      throw new ContractError("signature", "does not verify");
    verified = true;
  }
  if (!verified) throw new ContractError("note", "is not signed by the key");
  if (size === undefined || !/^(0|[1-9][0-9]{0,15})$/.test(size))
    throw new ContractError("size", "is not a decimal number");
  const rootBytes = fromBase64(present(root), "root");
  if (rootBytes.length !== 32) throw new ContractError("root", "is not 32 bytes");
  return { origin, size: integerFrom(Number(size), "size"), root: hashOfBytes(rootBytes) };
}

const ORIGIN = /^[^\s+]{1,255}$/u;
const SIGNATURE_LINE = /^— ([^\s+]{1,255}) ([A-Za-z0-9+/]+={0,2})$/u;

// Key hash of the signed-note specification: SHA-256(name ‖ 0A ‖ 01 ‖ public key), its first four bytes.
function noteKeyId(name: string, publicKey: Uint8Array): Uint8Array {
  return sha256Bytes(Uint8Array.of(...new TextEncoder().encode(name), 0x0a, 0x01, ...publicKey)).subarray(
    0,
    4,
  );
}

const base64 = (bytes: Uint8Array): string => btoa(String.fromCharCode(...bytes));
function fromBase64(text: string, path: string): Uint8Array {
  try {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    if (base64(bytes) === text) return bytes;
  } catch {
    // falls through to the one refusal
  }
  throw new ContractError(path, "is not canonical base64");
}
const hex = (bytes: Uint8Array): string => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
const hexBytes = (text: string): Uint8Array =>
  Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
