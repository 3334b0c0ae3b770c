// From a journal's records, in their order, to the files of a pack. What goes where is decided here; the bytes are
// kept by whoever calls, so that a pack may be larger than memory.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import { isHash, isObject } from "../contracts/contracts.ts";
import type { Hash, JsonValue, KeyId, SessionId } from "../contracts/contracts.ts";
import { createFrontier, createTree, parseCheckpoint } from "../proofgraph/proofgraph.ts";
import { condensedText, inclusionText, orderLineText } from "./manifest.ts";
import type { Manifest } from "./manifest.ts";
import { RUN_SH } from "./replayscript.ts";
import type { Entry, InputEntry } from "./record.ts";
import { isModelCall } from "./messages.ts";

export interface PackOptions {
  /** Adds text to the end of a file of the pack. */
  readonly emit: (path: string, text: string) => void;
  /** Only these sessions, and the guardian's own; a node then carries its proof, and what no checkpoint covers stays out. */
  readonly only?: { readonly sessions: readonly SessionId[]; readonly own: SessionId };
  /** Which nodes to leave out for the proof that they were there. Asked for nodes under a checkpoint alone. */
  readonly condense?: (entry: Entry & { readonly kind: "node" }) => boolean;
}
export type PackSummary = Omit<Manifest, "entries"> & {
  readonly nodes: number;
  readonly condensed: number;
  /** Nodes that were left out because no checkpoint covers them. */
  readonly leftOut: number;
};
export interface PackBuilder {
  add(entry: Entry): void;
  finish(): PackSummary;
  /** After `finish`: where not every input goes in, those that the pack's nodes name, out of the same records. */
  addNamed(entries: () => Iterable<Entry>): void;
}

type NodeEntry = Entry & { readonly kind: "node" };
const hex = (hash: Hash): string => hash.slice("sha256:".length);

export function createPack(options: PackOptions): PackBuilder {
  const { emit, only } = options;
  const proving = only !== undefined || options.condense !== undefined;
  const tree = createTree();
  const frontier = createFrontier();
  const wanted = only === undefined ? undefined : new Set([...only.sessions, only.own]);
  const sessions = new Set<SessionId>(only?.sessions);
  const keys = new Set<KeyId>();
  const named = new Set<Hash>();
  const modelCalls = new Set<Hash>();
  let apart = false;
  const written = new Set<Hash>();
  const proofs: { readonly hash: Hash; readonly index: number }[] = [];
  let pending: { readonly entry: NodeEntry; readonly index: number }[] = [];
  let runs: [SessionId, number][] = [];
  let anchor: { readonly checkpoint: Hash; readonly size: number; readonly root: Hash } | undefined;
  let nodes = 0;
  let condensed = 0;
  let size = 0;

  function write(entry: NodeEntry, index: number, covered: boolean): void {
    const { node, hash, text } = entry.sealed;
    const path = `nodes/${node.session_id}.jsonl`;
    nodes++;
    keys.add(node.key_id);
    sessions.add(node.session_id);
    const leaveOut = covered && node.kind !== "CHECKPOINT" && options.condense?.(entry) === true;
    if (leaveOut) {
      condensed++;
      emit(path, `${condensedText({ node_hash: hash, prev_hash: node.prev_hash, lamport: node.lamport })}\n`);
    } else {
      emit(path, `${text}\n`);
      for (const name of ["args_hash", "facts_hash", "output_hash"] as const) {
        const value = node.body[name];
        if (proving && isHash(value)) named.add(value);
      }
      const { tool, args_hash } = node.body;
      if (proving && isModelCall(tool) && isHash(args_hash)) modelCalls.add(args_hash);
    }
    if (leaveOut || only !== undefined) proofs.push({ hash, index });
  }
  function addNode(entry: NodeEntry): void {
    const { node, hash } = entry.sealed;
    const index = size++;
    if (proving) tree.append(hash);
    else frontier.append(hash);
    const last = runs.at(-1);
    if (last?.[0] === node.session_id) last[1]++;
    else runs.push([node.session_id, 1]);
    if (proving) {
      if (wanted === undefined || wanted.has(node.session_id)) pending.push({ entry, index });
    } else write(entry, index, false);
    if (node.kind !== "CHECKPOINT") return;
    const body = parseCheckpoint(node.body);
    anchor = { checkpoint: hash, size: body.tree_size, root: body.root_hash };
    for (const waiting of pending) write(waiting.entry, waiting.index, waiting.index < body.tree_size);
    pending = [];
    if (only === undefined) order(hash);
  }
  function order(checkpoint: Hash | ""): void {
    const root = proving ? tree.root() : frontier.root();
    emit(
      "checkpoints.jsonl",
      `${orderLineText({ checkpoint, order: runs, tree_size: size, root_hash: root })}\n`,
    );
    runs = [];
  }

  function addInput(entry: InputEntry): void {
    const { hash, redacted, value } = entry.input;
    if (written.has(hash)) return;
    const place = redacted ? undefined : placeOf(value);
    if (proving && place === undefined && !named.has(hash)) return;
    written.add(hash);
    if (place === undefined) emit("replay/inputs.jsonl", `${entry.text}\n`);
    else emit(`${place}/${hex(hash)}.json`, canonicalize(value));
  }

  return {
    addNamed(entries) {
      if (!proving) return;
      const inputs = function* (): Generator<InputEntry> {
        for (const entry of entries()) if (entry.kind === "input") yield entry;
      };
      // A message stands before the call that names it, and stays there.
      if (apart)
        for (const { input, refers } of inputs())
          if (input.redacted ? modelCalls.has(input.hash) : named.has(input.hash))
            for (const message of refers) named.add(message);
      for (const entry of inputs()) addInput(entry);
    },
    add(entry) {
      if (entry.kind === "node") addNode(entry);
      else if (!proving) addInput(entry);
      else if (entry.refers.length > 0) apart = true;
    },
    finish() {
      const leftOut = only === undefined ? 0 : pending.length;
      if (only === undefined) {
        for (const waiting of pending) write(waiting.entry, waiting.index, false);
        if (runs.length > 0) order("");
      } else if (anchor !== undefined)
        emit(
          "checkpoints.jsonl",
          `${orderLineText({ checkpoint: anchor.checkpoint, order: [], tree_size: anchor.size, root_hash: anchor.root })}\n`,
        );
      if (anchor !== undefined)
        for (const { hash, index } of proofs)
          if (index < anchor.size)
            emit(
              `proofs/${hex(hash)}.json`,
              inclusionText({
                node_hash: hash,
                index,
                checkpoint: anchor.checkpoint,
                path: tree.inclusion(index, anchor.size),
              }),
            );
      emit("replay/run.sh", RUN_SH);
      return {
        sessions: [...sessions].sort(),
        tree_size: only === undefined ? size : (anchor?.size ?? 0),
        root_hash:
          only === undefined ? (proving ? tree : frontier).root() : (anchor?.root ?? createFrontier().root()),
        trust_root_ids: [...keys].sort(),
        nodes,
        condensed,
        leftOut,
      };
    },
  };
}

/** Documents that have a folder of their own. A message that looks like one has a role or a type, which they have not. */
function placeOf(value: JsonValue): "policies" | "bundles" | undefined {
  if (!isObject(value) || "role" in value || "type" in value) return undefined;
  if (value["apiVersion"] === "atoll.dev/policy/v1") return "policies";
  return value["kind"] === "PolicyBundle" ? "bundles" : undefined;
}
