// The verifier of packs. It believes the keys that its caller brought and nothing else: every hash, chain, order,
// signature, root and proof is computed again, and a file that nothing asks for is a reason to refuse.

import { LIMITS, idFrom, isHash, isObject } from "../contracts/contracts.ts";
import type { Code, Hash, KeyId, SessionId } from "../contracts/contracts.ts";
import { hashJson, sha256, sha256Chunks } from "../crypto/crypto.ts";
import type { Verifier } from "../crypto/crypto.ts";
import { createGraphCheck, verifyInclusion } from "../proofgraph/proofgraph.ts";
import type { Break, GraphCheck, GraphOptions, TrustHead } from "../proofgraph/proofgraph.ts";
import { parseCheckpoint } from "../proofgraph/proofgraph.ts";
import { createSuccession } from "../trust/trust.ts";
import type { Succession, TrustRoots } from "../trust/trust.ts";
import { readNode } from "../receipts/receipts.ts";
import { kindOf, orderLines } from "./contents.ts";
import type { Order } from "./contents.ts";
import { broken, placed } from "./finding.ts";
import { canonicalValue, linesOfFile, wholeFile } from "./lines.ts";
import type { Numbered } from "./lines.ts";
import {
  PACK_LIMITS,
  manifestSigHolds,
  parseCondensed,
  parseManifest,
  parseManifestSig,
} from "./manifest.ts";
import type { Manifest, ManifestSig } from "./manifest.ts";
import { readRegistered } from "./registered.ts";
import type { Registered } from "./registered.ts";
import { INPUTS, inclusionIn, keysByPlace } from "./places.ts";
import { verifyInputs } from "./inputs.ts";
import { isModelCall } from "./messages.ts";
import { RUN_SH } from "./replayscript.ts";
import { createReviews } from "./reviews.ts";
import type { Reviews } from "./reviews.ts";
import { startsWith, utf8 } from "./bytes.ts";
import { isPackPath } from "./tar.ts";
import type { PackFile } from "./tar.ts";

export interface PackReport {
  readonly signer: KeyId;
  readonly sessions: readonly SessionId[];
  /** Some of the guardian's sessions, each node with its proof, instead of all of them in their order. */
  readonly partial: boolean;
  readonly nodes: number;
  readonly condensed: number;
  readonly inputs: number;
  readonly redacted: number;
  readonly checkpoints: number;
  /** Nodes that no checkpoint covers. */
  readonly uncovered: number;
  /** Emergency overrides that nobody has reviewed, as far as the pack's nodes say. */
  readonly open_reviews: readonly Hash[];
  readonly tree_size: number;
  readonly root_hash: Hash;
  /** Where the pack's registry ends; height 0 without one. */
  readonly registry: TrustHead;
}

type Files = ReadonlyMap<string, PackFile>;

/** A tree that its reader has seen before: the pack has to hold it, or something was withheld or written anew. */
export interface KnownTree {
  readonly size: number;
  readonly root: Hash;
}

/** Who checks the signatures of nodes: the same key in the hands of another library, or as it is. */
export type CheckedBy = (key: Verifier) => Verifier;

/** Throws PackInvalid at the first break. */
export function verifyPack(
  list: readonly PackFile[],
  roots: TrustRoots,
  known?: KnownTree,
  by?: CheckedBy,
): PackReport {
  const files = new Map(list.map((file) => [file.path, file]));
  for (const { path } of list)
    if (!isPackPath(path)) throw broken(path.slice(0, 200), 0, "has no place in a pack");
  const { manifest, signature } = readManifest(files);
  const registered = readRegistered(files, roots);
  const named = signerOf(signature, roots, registered);
  if (named !== undefined) checkSigner(signature, named);
  verifyEntries(files, manifest);
  const orderFile = need(files, "checkpoints.jsonl", manifest);
  const orders = (): Iterable<Order> => (orderFile === undefined ? [] : orderLines(orderFile));
  const partial = kindOf(orders()) === "session";
  const walk = createWalk(files, roots, registered, partial, known, by);
  if (known !== undefined && manifest.tree_size < known.size)
    throw broken(
      "manifest.json",
      0,
      `the tree has ${manifest.tree_size} nodes and had ${known.size}: nodes were withheld`,
    );
  let checked: { readonly uncovered: number };
  try {
    checked = (partial ? verifySessions : verifyWhole)(walk, files, manifest, orders());
  } catch (error) {
    // A manifest by nobody who is known, here or in the log, is what is wrong first.
    if (named === undefined && walk.keys.known(signature.key_id) === undefined)
      checkSigner(signature, "TRUST_KEY_UNKNOWN");
    throw error;
  }
  const unproved = walk.keys.unproved();
  if (unproved !== undefined)
    throw broken(
      pathOf(unproved.node.session_id),
      unproved.node.lamport,
      `${unproved.node.key_id} was revoked, and no checkpoint of it that is honoured covers this node`,
      "TRUST_KEY_REVOKED",
    );
  // A guardian signs its packs itself, with the key that its log has come to.
  const own = walk.keys.known(signature.key_id);
  if (own !== undefined && own.keyId !== walk.keys.current?.keyId)
    throw broken("manifest.sig", 0, `${own.keyId} has handed over to another key`, "TRUST_KEY_REVOKED");
  if (named === undefined) checkSigner(signature, own ?? "TRUST_KEY_UNKNOWN");
  verifyDocuments(files);
  const inputFile = files.get(INPUTS);
  const { inputs, redacted } =
    inputFile === undefined ? { inputs: 0, redacted: 0 } : verifyInputs(inputFile, walk.modelCalls);
  return {
    signer: signature.key_id,
    sessions: manifest.sessions,
    partial,
    nodes: walk.nodes(),
    condensed: walk.condensed.size,
    inputs,
    redacted,
    checkpoints: walk.checkpoints.size,
    uncovered: checked.uncovered,
    open_reviews: walk.reviews.open(),
    tree_size: manifest.tree_size,
    root_hash: manifest.root_hash,
    registry: registered.head,
  };
}

function readManifest(files: Files): { readonly manifest: Manifest; readonly signature: ManifestSig } {
  const json = files.get("manifest.json");
  const sig = files.get("manifest.sig");
  if (json === undefined) throw broken("manifest.json", 0, "is missing");
  if (sig === undefined) throw broken("manifest.sig", 0, "is missing");
  const bytes = wholeFile(json, PACK_LIMITS.bytes);
  const manifest = placed("manifest.json", 0, () => parseManifest(canonicalValue(bytes, PACK_LIMITS)));
  const signature = placed("manifest.sig", 0, () =>
    parseManifestSig(canonicalValue(wholeFile(sig, LIMITS.node.bytes), LIMITS.node)),
  );
  if (sha256(bytes) !== signature.manifest_hash)
    throw broken("manifest.json", 0, "is not the manifest that was signed");
  return { manifest, signature };
}

/** The key of the manifest as roots or registry name it; undefined when only the log can. */
function signerOf(
  { key_id }: ManifestSig,
  roots: TrustRoots,
  registered: Registered,
): Verifier | Code | undefined {
  if (registered.standing.honoured(key_id) !== undefined) return "TRUST_KEY_REVOKED";
  const role = roots.roleOf(key_id);
  if (role !== undefined) return roots.keyFor(role, key_id);
  const key = registered.guardian(key_id);
  return typeof key === "string" ? undefined : key;
}
function checkSigner(signature: ManifestSig, key: Verifier | Code): void {
  if (typeof key === "string")
    throw broken("manifest.sig", 0, `${signature.key_id} is not among the keys that are trusted here`, key);
  if (!manifestSigHolds(signature, key))
    throw broken("manifest.sig", 0, "the signature does not verify", "SIGNATURE_INVALID");
}

function verifyEntries(files: Files, manifest: Manifest): void {
  let last = "";
  for (const entry of manifest.entries) {
    if (entry.path <= last)
      throw broken("manifest.json", 0, `\`${entry.path}\` is out of order or there twice`);
    last = entry.path;
    const file = files.get(entry.path);
    if (file === undefined) throw broken(entry.path, 0, "the manifest lists it and it is missing");
    if (file.size !== entry.size)
      throw broken(entry.path, 0, `has ${file.size} bytes, ${entry.size} are listed`);
    if (sha256Chunks(file.chunks()) !== entry.sha256)
      throw broken(entry.path, 0, "is not what the manifest lists");
  }
  const listed = new Set(manifest.entries.map((entry) => entry.path));
  for (const path of files.keys())
    if (!listed.has(path) && path !== "manifest.json" && path !== "manifest.sig")
      throw broken(path, 0, "is not in the manifest");
  for (const path of ["manifest.json", "manifest.sig"])
    if (listed.has(path)) throw broken("manifest.json", 0, `lists \`${path}\``);
}

/** A file that must be there when the pack has nodes at all. */
function need(files: Files, path: string, manifest: Manifest): PackFile | undefined {
  const file = files.get(path);
  if (file === undefined && manifest.tree_size > 0) throw broken(path, 0, "is missing");
  return file;
}

interface Walk {
  readonly graph: GraphCheck;
  readonly keys: Succession;
  readonly reviews: Pick<Reviews, "open">;
  /** Hash, tree size and root of every checkpoint read so far. */
  readonly checkpoints: ReadonlyMap<Hash, { readonly size: number; readonly root: Hash }>;
  /** Where in the tree each condensed node was found; the number is an index in a whole pack only. */
  readonly condensed: ReadonlyMap<Hash, number>;
  /** Of arguments that nodes name for models. */
  readonly modelCalls: ReadonlySet<Hash>;
  nodes(): number;
  /** Reads the next node of a session's file. */
  step(session: SessionId): Hash;
  /** That every line of every file has been read. */
  end(): void;
  sessions(): readonly SessionId[];
  /** The next node of a session is there. */
  more(session: SessionId): boolean;
}

const NODE_START = utf8('{"body":');
const pathOf = (session: SessionId): string => `nodes/${session}.jsonl`;

function createWalk(
  files: Files,
  roots: TrustRoots,
  registered: Registered,
  partial: boolean,
  known: KnownTree | undefined,
  by: CheckedBy = (key) => key,
): Walk {
  const keys = createSuccession(registered.standing);
  const keyOf: GraphOptions["keyOf"] = (id, node, hash) => {
    // A cluster's checkpoint is no word of the guardian's.
    const ledger = node.kind === "CHECKPOINT" ? roots.keyFor("ledger", id) : "TRUST_KEY_UNKNOWN";
    const key = typeof ledger === "string" ? keys.keyOf(id, node, hash) : ledger;
    return typeof key === "string" ? key : by(key);
  };
  const found = partial ? keysByPlace(files, keyOf) : undefined;
  const graph = createGraphCheck({
    order: partial ? "session" : "journal",
    keyOf: found === undefined ? keyOf : (_id, _node, hash) => found.get(hash) ?? "TRUST_KEY_UNKNOWN",
  });
  const checkpoints = new Map<Hash, { readonly size: number; readonly root: Hash }>();
  const condensed = new Map<Hash, number>();
  const modelCalls = new Set<Hash>();
  const reviews = createReviews();
  const readers = new Map<string, { readonly lines: Generator<Numbered>; next: Numbered | undefined }>();
  let nodes = 0;

  const open = (session: SessionId) => {
    const path = pathOf(session);
    const known = readers.get(path);
    if (known !== undefined) return known;
    const file = files.get(path);
    if (file === undefined) throw broken(path, 0, "is missing");
    const lines = linesOfFile(file);
    const first = lines.next();
    const reader = { lines, next: first.done === true ? undefined : first.value };
    readers.set(path, reader);
    return reader;
  };
  const judged = (path: string, number: number, fault: Break | null): void => {
    if (fault === null) return;
    const { session_id, lamport, hash, code, reason } = fault;
    throw broken(path, number, `${session_id} lamport ${lamport} ${hash}: ${reason}`, code);
  };

  return {
    graph,
    keys,
    reviews,
    checkpoints,
    condensed,
    modelCalls,
    nodes: () => nodes,
    sessions: () =>
      [...files.keys()]
        .flatMap((path) => (path.startsWith("nodes/") ? [path.slice("nodes/".length, -".jsonl".length)] : []))
        .map((name) => idFrom("ses", name, "session")),
    more: (session) => open(session).next !== undefined,
    step(session) {
      const path = pathOf(session);
      const reader = open(session);
      const line = reader.next;
      if (line === undefined) throw broken(path, 0, "has fewer nodes than the order says");
      const following = reader.lines.next();
      nodes++;
      const hash = takeLine(path, line, session);
      if (!partial && graph.tree.size === known?.size && graph.tree.root() !== known.root)
        throw broken(
          path,
          line.number,
          `the first ${known.size} nodes are others than those known: their root is ${graph.tree.root()}`,
        );
      reader.next = following.done === true ? undefined : following.value;
      return hash;
    },
    end() {
      for (const session of this.sessions())
        if (this.more(session))
          throw broken(
            pathOf(session),
            open(session).next?.number ?? 0,
            "has nodes that the order does not name",
          );
    },
  };

  function takeLine(path: string, { number, bytes }: Numbered, session: SessionId): Hash {
    // In canonical form a node begins with its body, and what stands in the place of a condensed one does not.
    if (!startsWith(bytes, NODE_START)) {
      const link = placed(path, number, () => parseCondensed(canonicalValue(bytes, LIMITS.node)));
      const index = graph.tree.size;
      judged(path, number, graph.condensed(session, link));
      condensed.set(link.node_hash, index);
      return link.node_hash;
    }
    const sealed = placed(path, number, () => readNode(bytes));
    if (sealed.node.session_id !== session)
      throw broken(path, number, `holds a node of ${sealed.node.session_id}`);
    judged(path, number, graph.next(sealed));
    reviews.note(sealed.node);
    const { tool, args_hash } = sealed.node.body;
    if (isModelCall(tool) && isHash(args_hash)) modelCalls.add(args_hash);
    if (sealed.node.kind === "CHECKPOINT") {
      const body = placed(path, number, () => parseCheckpoint(sealed.node.body));
      const said = registered.checkpoint(body.trust_head, sealed.node.key_id);
      if (said !== "") throw broken(path, number, `the checkpoint ${said}`);
      checkpoints.set(sealed.hash, { size: body.tree_size, root: body.root_hash });
    }
    return sealed.hash;
  }
}

/** All nodes of a guardian in the order in which it wrote them: every checkpoint's root is computed again. */
function verifyWhole(
  walk: Walk,
  files: Files,
  manifest: Manifest,
  orders: Iterable<Order>,
): { readonly uncovered: number } {
  let uncovered = 0;
  let ended = false;
  for (const line of orders) {
    const refuse = (reason: string, number = line.line) => broken("checkpoints.jsonl", number, reason);
    if (ended) throw refuse("does not end with the checkpoint that it names", line.line - 1);
    let last: Hash | undefined;
    for (const [session, count] of line.order)
      for (let n = 0; n < count; n++) {
        last = walk.step(session);
        uncovered = walk.checkpoints.has(last) ? 0 : uncovered + 1;
      }
    ended = line.checkpoint === "";
    if (line.checkpoint !== "" && (line.checkpoint !== last || !walk.checkpoints.has(last)))
      throw refuse("does not end with the checkpoint that it names");
    if (line.tree_size !== walk.graph.tree.size) throw refuse("tree_size is not the number of nodes");
    if (line.root_hash !== walk.graph.tree.root()) throw refuse("root_hash is not the root of the nodes");
  }
  walk.end();
  if (manifest.tree_size !== walk.graph.tree.size)
    throw broken(
      "manifest.json",
      0,
      `tree_size is ${manifest.tree_size}, there are ${walk.graph.tree.size} nodes`,
    );
  if (manifest.root_hash !== walk.graph.tree.root())
    throw broken("manifest.json", 0, "root_hash is not the root of the nodes");
  verifySessionList(walk, manifest);
  for (const file of files.values()) {
    if (!file.path.startsWith("proofs/")) continue;
    const proof = verifyProof(file, walk);
    if (walk.condensed.get(proof.node_hash) !== proof.index)
      throw broken(file.path, 0, "no condensed node is at its index");
  }
  for (const hash of walk.condensed.keys())
    if (!files.has(proofPath(hash))) throw broken(proofPath(hash), 0, "is missing");
  return { uncovered };
}

const proofPath = (hash: Hash): string => `proofs/${hash.slice("sha256:".length)}.json`;

/** Some sessions: each node is shown to be a leaf of the tree to which the last checkpoint commits. */
function verifySessions(
  walk: Walk,
  files: Files,
  manifest: Manifest,
  orders: Iterable<Order>,
): { readonly uncovered: number } {
  const seen: Hash[] = [];
  for (const session of walk.sessions()) while (walk.more(session)) seen.push(walk.step(session));
  const [anchor, ...others] = orders;
  const known =
    anchor === undefined || anchor.checkpoint === "" ? undefined : walk.checkpoints.get(anchor.checkpoint);
  if (anchor === undefined || others.length > 0 || known === undefined)
    throw broken("checkpoints.jsonl", 1, "does not name one checkpoint of the pack");
  for (const size of [anchor.tree_size, manifest.tree_size])
    if (size !== known.size) throw broken("checkpoints.jsonl", 1, "tree_size is not the checkpoint's");
  for (const root of [anchor.root_hash, manifest.root_hash])
    if (root !== known.root) throw broken("checkpoints.jsonl", 1, "root_hash is not the checkpoint's");
  const proved = new Set<Hash>();
  for (const file of files.values()) {
    if (!file.path.startsWith("proofs/")) continue;
    const proof = verifyProof(file, walk);
    if (proof.checkpoint !== anchor.checkpoint)
      throw broken(file.path, 0, "is not for the pack's checkpoint");
    proved.add(proof.node_hash);
  }
  for (const hash of seen)
    if (hash !== anchor.checkpoint && !proved.delete(hash)) throw broken(proofPath(hash), 0, "is missing");
  for (const hash of proved) throw broken(proofPath(hash), 0, "proves a node that is not in the pack");
  for (const session of manifest.sessions)
    if (!files.has(pathOf(session))) throw broken(pathOf(session), 0, "is missing");
  return { uncovered: 0 };
}

function verifySessionList(walk: Walk, manifest: Manifest): void {
  const found = walk.sessions();
  if (found.length !== manifest.sessions.length || found.some((s, i) => manifest.sessions[i] !== s))
    throw broken("manifest.json", 0, "sessions are not those whose nodes are there");
}

function verifyProof(file: PackFile, walk: Walk) {
  const proof = inclusionIn(file);
  if (proofPath(proof.node_hash) !== file.path) throw broken(file.path, 0, "is named for another node");
  const checkpoint = walk.checkpoints.get(proof.checkpoint);
  if (checkpoint === undefined) throw broken(file.path, 0, "names a checkpoint that is not in the pack");
  if (!verifyInclusion({ ...proof, size: checkpoint.size, root: checkpoint.root }))
    throw broken(file.path, 0, "the proof does not lead to the checkpoint's root");
  return proof;
}

function verifyDocuments(files: Files): void {
  for (const file of files.values()) {
    const named = /^(policies|schemas|bundles)\/([0-9a-f]{64})\.json$/.exec(file.path);
    if (named !== null) {
      const value = placed(file.path, 0, () =>
        canonicalValue(wholeFile(file, LIMITS.policy.bytes), LIMITS.policy),
      );
      if (!isObject(value) || hashJson(value) !== `sha256:${named[2] ?? ""}`)
        throw broken(file.path, 0, "its content has another hash than its name", "POLICY_HASH_MISMATCH");
    } else if (file.path === "replay/run.sh") {
      if (sha256(wholeFile(file, 4096)) !== sha256(RUN_SH))
        throw broken(file.path, 0, "is not the script that packs have");
    }
  }
}
