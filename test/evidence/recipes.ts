// Ways to tamper with a pack. In each, whoever tampers may also write and sign a new manifest with the exporter's
// key, which the auditor trusts: so it is not the manifest alone that finds them.
import { createHash } from "node:crypto";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { LIMITS, arrayFrom, parseJson } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { hashJson, sha256, signObject } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { TAR_END, padding, tarHeader } from "../../kernel/evidence/evidence.ts";
import { objectFrom } from "../../kernel/contracts/contracts.ts";

export type Files = Map<string, Buffer>;
export interface Tools {
  readonly exporter: Signer;
  readonly stranger: Signer;
}
export interface Recipe {
  readonly name: string;
  readonly pack: "whole" | "partial" | "condensed" | "conversation";
  /** What the verifier names: a part of the finding's file. */
  readonly file: RegExp;
  readonly code?: string;
  /** Changes the files; `reseal` writes a manifest that fits them again. */
  readonly files?: (files: Files, tools: Tools) => void;
  readonly reseal?: boolean | "stranger";
  readonly tar?: (tar: Buffer, files: Files) => Buffer;
}

export function readFiles(tar: Buffer): Files {
  const files: Files = new Map();
  for (let at = 0; tar[at] !== 0; ) {
    const path = tar
      .subarray(at, at + 100)
      .toString("latin1")
      .replace(/\0.*$/s, "");
    const size = Number.parseInt(tar.subarray(at + 124, at + 135).toString("latin1"), 8);
    files.set(path, Buffer.from(tar.subarray(at + 512, at + 512 + size)));
    at += 512 + size + padding(size);
  }
  return files;
}
const header = (path: string, size: number): Buffer => {
  try {
    return Buffer.from(tarHeader(path, size));
  } catch {
    const made = Buffer.from(tarHeader("manifest.sig", size));
    made.fill(0, 0, 100);
    made.write(path, 0, 100, "latin1");
    return checksum(made);
  }
};
function checksum(h: Buffer): Buffer {
  h.write("        ", 148, "latin1");
  let sum = 0;
  for (const b of h) sum += b;
  h.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return h;
}
export const writeFiles = (files: Files, order = [...files.keys()].sort()): Buffer =>
  Buffer.concat([
    ...order.flatMap((path) => {
      const content = files.get(path) ?? Buffer.alloc(0);
      return [header(path, content.byteLength), content, Buffer.alloc(padding(content.byteLength))];
    }),
    TAR_END,
  ]);
export function reseal(files: Files, signer: Signer, change: (m: JsonObject) => JsonObject = (m) => m): void {
  const old = json(files, "manifest.json");
  files.delete("manifest.json");
  files.delete("manifest.sig");
  const entries = [...files].map(([path, content]) => ({
    path,
    sha256: `sha256:${createHash("sha256").update(content).digest("hex")}`,
    size: content.byteLength,
  }));
  const text = canonicalize(change({ ...old, entries: entries.sort((a, b) => (a.path < b.path ? -1 : 1)) }));
  files.set("manifest.json", Buffer.from(text));
  const unsigned = { type: "atoll.dev/manifest-sig/v1", manifest_hash: sha256(text), key_id: signer.keyId };
  files.set("manifest.sig", Buffer.from(canonicalize(signObject(unsigned, signer))));
}

const at = (files: Files, path: string): Buffer => files.get(path) ?? Buffer.alloc(0);
const json = (files: Files, path: string): JsonObject =>
  objectFrom(parseJson(at(files, path), LIMITS.policy), path);
const first = (files: Files, form: RegExp, n = 0): string =>
  [...files.keys()].filter((path) => form.test(path)).sort()[n] ?? "absent";
const linesOf = (files: Files, path: string): string[] =>
  at(files, path).toString("utf8").split("\n").slice(0, -1);
const putLines = (files: Files, path: string, lines: readonly string[]): void => {
  files.set(path, Buffer.from(lines.map((line) => `${line}\n`).join("")));
};
const editLine = (files: Files, path: string, n: number, edit: (o: JsonObject) => JsonObject): void => {
  const lines = linesOf(files, path);
  const value = objectFrom(parseJson(Buffer.from(lines[n] ?? ""), LIMITS.policy), path);
  lines[n] = canonicalize(edit(value));
  putLines(files, path, lines);
};
const object = (o: JsonObject, name: string): JsonObject => objectFrom(o[name], name);
const without = (o: JsonObject, name: string): JsonObject =>
  Object.fromEntries(Object.entries(o).filter(([key]) => key !== name));
/** Index of the session's first line of a kind. */
const lineOf = (files: Files, path: string, kind: string): number =>
  linesOf(files, path).findIndex((line) => line.includes(`"kind":"${kind}"`));

const INPUTS = /^replay\/inputs.jsonl$/;
const NODES = /^nodes\/ses_0/;
const session = (files: Files, n = 0): string => first(files, /^nodes\/ses_(00|01|02)/, n);
const own = (files: Files): string =>
  [...files.keys()].find((p) => p.startsWith("nodes/") && at(files, p).includes('"kind":"CHECKPOINT"')) ??
  "absent";

const flip = (buffer: Buffer, from: number): Buffer => {
  const copy = Buffer.from(buffer);
  copy[from] = (copy[from] ?? 0) ^ 1;
  return copy;
};
const headerEdit =
  (path: string, edit: (h: Buffer) => void) =>
  (tar: Buffer, files: Files): Buffer => {
    const copy = Buffer.from(tar);
    let position = 0;
    for (const name of [...files.keys()].sort()) {
      if (name === path) break;
      const size = files.get(name)?.byteLength ?? 0;
      position += 512 + size + padding(size);
    }
    const h = copy.subarray(position, position + 512);
    edit(h);
    checksum(h);
    return copy;
  };
const extra = (path: string, content = "x"): ((tar: Buffer, files: Files) => Buffer) => {
  return (_, files) => writeFiles(new Map([...files, [path, Buffer.from(content)]]));
};

export const RECIPES: readonly Recipe[] = [
  // the tar
  { name: "an empty file", pack: "whole", file: /./, tar: () => Buffer.alloc(0) },
  { name: "a file of noise", pack: "whole", file: /./, tar: () => Buffer.alloc(5000, 7) },
  {
    name: "an extra file",
    pack: "whole",
    file: /schemas/,
    tar: extra(`schemas/${"0".repeat(64)}.json`, "{}"),
  },
  { name: "a path that climbs out", pack: "whole", file: /./, tar: extra("nodes/../../etc/passwd") },
  { name: "an absolute path", pack: "whole", file: /./, tar: extra("/etc/passwd") },
  { name: "a path of another case", pack: "whole", file: /./, tar: extra("Nodes/x.jsonl") },
  {
    name: "an entry there twice",
    pack: "whole",
    file: /manifest/,
    tar: (_, files) => writeFiles(files, [...files.keys(), "manifest.sig"].sort()),
  },
  {
    name: "entries in another order",
    pack: "whole",
    file: /./,
    tar: (_, files) => writeFiles(files, [...files.keys()].sort().reverse()),
  },
  {
    name: "a symbolic link",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("2", 156)),
  },
  {
    name: "a hard link",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("1", 156)),
  },
  {
    name: "an extension header",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("x", 156)),
  },
  {
    name: "a long-name header of GNU",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("L", 156)),
  },
  {
    name: "a name split over the prefix",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("nodes", 345)),
  },
  {
    name: "a date",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("00000000001", 136)),
  },
  {
    name: "an owner",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("root", 265)),
  },
  {
    name: "a set-uid mode",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("0004755", 100)),
  },
  {
    name: "an entry that claims to be huge",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.write("77777777777", 124)),
  },
  {
    name: "a size in base 256",
    pack: "whole",
    file: /./,
    tar: headerEdit("manifest.sig", (h) => h.fill(0x80, 124, 125)),
  },
  { name: "a wrong checksum", pack: "whole", file: /./, tar: (tar) => flip(tar, 150) },
  {
    name: "a byte in the padding",
    pack: "whole",
    file: /./,
    tar: (tar, files) => flip(tar, 512 + (files.get(first(files, /./))?.byteLength ?? 0)),
  },
  {
    name: "bytes after the end",
    pack: "whole",
    file: /./,
    tar: (tar) => Buffer.concat([tar, Buffer.alloc(512)]),
  },
  { name: "one zero block at the end", pack: "whole", file: /./, tar: (tar) => tar.subarray(0, -512) },
  {
    name: "a tar cut short",
    pack: "whole",
    file: /./,
    tar: (tar) => tar.subarray(0, Math.trunc(tar.byteLength / 2)),
  },
  // the manifest
  { name: "no manifest", pack: "whole", file: /manifest.json/, files: (f) => f.delete("manifest.json") },
  { name: "no signature", pack: "whole", file: /manifest.sig/, files: (f) => f.delete("manifest.sig") },
  {
    name: "a manifest signed by a stranger",
    pack: "whole",
    file: /manifest.sig/,
    code: "TRUST_KEY_UNKNOWN",
    reseal: "stranger",
  },
  {
    name: "a manifest with a space more",
    pack: "whole",
    file: /manifest.json/,
    files: (f) => f.set("manifest.json", Buffer.concat([at(f, "manifest.json"), Buffer.from(" ")])),
  },
  {
    name: "a key brought along in the pack",
    pack: "whole",
    file: /manifest/,
    files: (f, t) => reseal(f, t.exporter, (m) => ({ ...m, keys: [t.stranger.keyId] })),
  },
  {
    name: "another tree size in the manifest",
    pack: "whole",
    file: /manifest.json/,
    files: (f, t) => reseal(f, t.exporter, (m) => ({ ...m, tree_size: Number(m["tree_size"]) - 1 })),
  },
  {
    name: "a session that is not listed",
    pack: "whole",
    file: /manifest.json/,
    files: (f, t) => reseal(f, t.exporter, (m) => ({ ...m, sessions: [] })),
  },
  {
    name: "the manifest lists itself",
    pack: "whole",
    file: /manifest/,
    files: (f, t) =>
      reseal(f, t.exporter, (m) => ({
        ...m,
        entries: [
          ...(Array.isArray(m["entries"]) ? m["entries"] : []),
          { path: "manifest.json", sha256: sha256("x"), size: 1 },
        ].sort((a, b) => (String(a.path) < String(b.path) ? -1 : 1)),
      })),
  },
  {
    name: "a byte of a node, manifest as it was",
    pack: "whole",
    file: NODES,
    files: (f) => f.set(session(f), flip(at(f, session(f)), 300)),
  },
  // the nodes
  {
    name: "a node dropped",
    pack: "whole",
    file: /nodes|checkpoints/,
    reseal: true,
    files: (f) => putLines(f, session(f), linesOf(f, session(f)).toSpliced(3, 1)),
  },
  {
    name: "the last node dropped",
    pack: "whole",
    file: /nodes|checkpoints/,
    reseal: true,
    files: (f) => putLines(f, session(f), linesOf(f, session(f)).slice(0, -1)),
  },
  {
    name: "two nodes swapped",
    pack: "whole",
    file: NODES,
    reseal: true,
    files: (f) => {
      const lines = linesOf(f, session(f));
      putLines(f, session(f), [lines[1] ?? "", lines[0] ?? "", ...lines.slice(2)]);
    },
  },
  {
    name: "a node there twice",
    pack: "whole",
    file: /nodes|checkpoints/,
    reseal: true,
    files: (f) =>
      putLines(
        f,
        session(f),
        linesOf(f, session(f)).flatMap((line, i) => (i === 2 ? [line, line] : [line])),
      ),
  },
  {
    name: "a verdict edited",
    pack: "whole",
    file: NODES,
    code: "SIGNATURE_INVALID",
    reseal: true,
    files: (f) =>
      editLine(f, session(f), lineOf(f, session(f), "ATTESTATION"), (o) => ({
        ...o,
        body: { ...object(o, "body"), reason_code: "DENY_NO_MATCH" },
      })),
  },
  {
    name: "a node signed again by a stranger",
    pack: "whole",
    file: NODES,
    code: "TRUST_KEY_UNKNOWN",
    reseal: true,
    files: (f, t) =>
      editLine(f, session(f), 0, (o) =>
        signObject(without({ ...o, key_id: t.stranger.keyId }, "sig"), t.stranger),
      ),
  },
  {
    name: "a node signed by the exporter, whose role is another",
    pack: "whole",
    file: NODES,
    code: "TRUST_KEY_UNKNOWN",
    reseal: true,
    files: (f, t) =>
      editLine(f, session(f), 0, (o) =>
        signObject(without({ ...o, key_id: t.exporter.keyId }, "sig"), t.exporter),
      ),
  },
  {
    name: "a stranger's signature under the guardian's key id",
    pack: "whole",
    file: NODES,
    code: "SIGNATURE_INVALID",
    reseal: true,
    files: (f, t) => editLine(f, session(f), 0, (o) => signObject(without(o, "sig"), t.stranger)),
  },
  {
    name: "a node not in canonical form",
    pack: "whole",
    file: NODES,
    reseal: true,
    files: (f) =>
      putLines(
        f,
        session(f),
        linesOf(f, session(f)).map((line, i) => (i === 0 ? line.replace("{", "{ ") : line)),
      ),
  },
  {
    name: "a key there twice in a node",
    pack: "whole",
    file: NODES,
    reseal: true,
    files: (f) =>
      putLines(
        f,
        session(f),
        linesOf(f, session(f)).map((line, i) => (i === 0 ? line.replace("{", '{"body":{},') : line)),
      ),
  },
  {
    name: "a member more in a node",
    pack: "whole",
    file: NODES,
    reseal: true,
    files: (f) => editLine(f, session(f), 0, (o) => ({ ...o, zz: 1 })),
  },
  {
    name: "a session's file under another session's name",
    pack: "whole",
    file: /nodes|manifest|checkpoints/,
    reseal: true,
    files: (f) => {
      const [a, b] = [session(f, 0), session(f, 1)];
      const held = at(f, a);
      f.set(a, at(f, b));
      f.set(b, held);
    },
  },
  {
    name: "a whole session dropped",
    pack: "whole",
    file: /nodes/,
    reseal: true,
    files: (f) => f.delete(session(f)),
  },
  {
    name: "the last line without its end",
    pack: "whole",
    file: NODES,
    reseal: true,
    files: (f) => f.set(session(f), at(f, session(f)).subarray(0, -1)),
  },
  {
    name: "a condensed link in the place of a node that no proof covers",
    pack: "whole",
    file: /nodes|proofs/,
    reseal: true,
    files: (f) => {
      const lines = linesOf(f, session(f));
      const node = objectFrom(parseJson(Buffer.from(lines[0] ?? ""), LIMITS.policy), "node");
      lines[0] = canonicalize({
        type: "atoll.dev/condensed/v1",
        node_hash: sha256(lines[0] ?? ""),
        prev_hash: node["prev_hash"] ?? "",
        lamport: node["lamport"] ?? 0,
      });
      putLines(f, session(f), lines);
    },
  },
  // the order and the checkpoints
  {
    name: "no checkpoints",
    pack: "whole",
    file: /checkpoints/,
    reseal: true,
    files: (f) => f.delete("checkpoints.jsonl"),
  },
  {
    name: "another order of the sessions",
    pack: "whole",
    file: /nodes|checkpoints/,
    reseal: true,
    files: (f) =>
      editLine(f, "checkpoints.jsonl", 0, (o) => ({
        ...o,
        order: Array.isArray(o["order"]) ? [...o["order"]].reverse() : [],
      })),
  },
  {
    name: "a checkpoint line with another root",
    pack: "whole",
    file: /checkpoints/,
    reseal: true,
    files: (f) => editLine(f, "checkpoints.jsonl", 0, (o) => ({ ...o, root_hash: sha256("x") })),
  },
  {
    name: "a checkpoint with another root",
    pack: "whole",
    file: /nodes/,
    code: "SIGNATURE_INVALID",
    reseal: true,
    files: (f) =>
      editLine(f, own(f), 0, (o) => ({ ...o, body: { ...object(o, "body"), root_hash: sha256("x") } })),
  },
  // proofs
  {
    name: "a proof with bytes behind it",
    pack: "condensed",
    file: /proofs/,
    reseal: true,
    files: (f) => f.set(first(f, /^proofs/), Buffer.concat([at(f, first(f, /^proofs/)), Buffer.from("\n")])),
  },
  {
    name: "a proof with a step more",
    pack: "condensed",
    file: /proofs/,
    reseal: true,
    files: (f) => editProof(f, (o) => ({ ...o, path: [...list(o), sha256("x")] })),
  },
  {
    name: "a proof with a step less",
    pack: "condensed",
    file: /proofs/,
    reseal: true,
    files: (f) => editProof(f, (o) => ({ ...o, path: list(o).slice(1) })),
  },
  {
    name: "a proof at another index",
    pack: "condensed",
    file: /proofs/,
    reseal: true,
    files: (f) => editProof(f, (o) => ({ ...o, index: Number(o["index"]) + 1 })),
  },
  {
    name: "a proof to a checkpoint that is not there",
    pack: "condensed",
    file: /proofs/,
    reseal: true,
    files: (f) => editProof(f, (o) => ({ ...o, checkpoint: sha256("x") })),
  },
  {
    name: "no proof for a condensed node",
    pack: "condensed",
    file: /proofs/,
    reseal: true,
    files: (f) => f.delete(first(f, /^proofs/)),
  },
  {
    name: "a condensed link with another hash",
    pack: "condensed",
    file: /nodes|checkpoints/,
    reseal: true,
    files: (f) => {
      const path =
        [...f.keys()].find((p) => p.startsWith("nodes/") && at(f, p).includes("condensed/v1")) ?? "absent";
      const n = linesOf(f, path).findIndex((line) => line.includes("condensed/v1"));
      editLine(f, path, n, (o) => ({ ...o, node_hash: sha256("x") }));
    },
  },
  {
    name: "no proof for a node of some sessions",
    pack: "partial",
    file: /proofs/,
    reseal: true,
    files: (f) => f.delete(first(f, /^proofs/)),
  },
  {
    name: "another node's proof under this one's name",
    pack: "partial",
    file: /proofs/,
    reseal: true,
    files: (f) => f.set(first(f, /^proofs/, 0), at(f, first(f, /^proofs/, 1))),
  },
  {
    name: "the first node of a partial pack dropped",
    pack: "partial",
    file: /nodes/,
    reseal: true,
    files: (f) => putLines(f, session(f), linesOf(f, session(f)).slice(1)),
  },
  {
    name: "a partial pack anchored to an older checkpoint",
    pack: "partial",
    file: /checkpoints/,
    reseal: true,
    files: (f) =>
      editLine(f, "checkpoints.jsonl", 0, (o) => ({
        ...o,
        checkpoint: sha256(linesOf(f, own(f))[0] ?? "") satisfies Hash,
      })),
  },
  // documents
  {
    name: "an edited policy",
    pack: "whole",
    file: /policies/,
    code: "POLICY_HASH_MISMATCH",
    reseal: true,
    files: (f) =>
      f.set(
        first(f, /^policies/),
        Buffer.from(
          at(f, first(f, /^policies/))
            .toString()
            .replace("demo", "done"),
        ),
      ),
  },
  {
    name: "an edited input",
    pack: "whole",
    file: /inputs/,
    reseal: true,
    files: (f) => editLine(f, "replay/inputs.jsonl", 0, (o) => ({ ...o, value: { n: 999 } })),
  },
  // messages of a conversation
  {
    name: "a message dropped",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) => editMessages(f, (lines) => lines.filter((line) => !line.includes("question 0"))),
  },
  {
    name: "an edited message",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) => editMessages(f, (lines) => lines.map((line) => line.replace("question 1", "question 9"))),
  },
  {
    name: "an edited message under its own hash",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) =>
      editMessages(f, (lines) =>
        lines.map((line) => (line.includes("answer 0") ? message("answer 9") : line)),
      ),
  },
  {
    name: "another message in a message's place",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) => editReferences(f, (r) => [...r.slice(1, 2), ...r.slice(0, 1), ...r.slice(2)]),
  },
  {
    name: "a message left out of a call",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) => editReferences(f, (references) => references.slice(1)),
  },
  {
    name: "a message that is there twice",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) =>
      editMessages(f, (lines) =>
        lines.flatMap((line) => (line.includes("question 0") ? [line, line] : [line])),
      ),
  },
  {
    name: "a message after the calls that name it",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) => editMessages(f, ([line = "", ...more]) => [...more, line]),
  },
  {
    name: "a message dropped that only redacted arguments name",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) =>
      editMessages(f, (lines) =>
        lines.filter((line) => !line.includes("question 8") || !line.includes('"role":"user"')),
      ),
  },
  {
    name: "a message in the place of what names it",
    pack: "conversation",
    file: INPUTS,
    reseal: true,
    files: (f) =>
      editReferences(f, (references) => [{ role: "user", content: "question 0" }, ...references.slice(1)]),
  },
  {
    name: "a script of one's own",
    pack: "whole",
    file: /run.sh/,
    reseal: true,
    files: (f) => f.set("replay/run.sh", Buffer.from("#!/bin/sh\nrm -rf ~\n")),
  },
];

const editMessages = (files: Files, edit: (lines: readonly string[]) => readonly string[]): void =>
  putLines(files, "replay/inputs.jsonl", edit(linesOf(files, "replay/inputs.jsonl")));
/** What the second call names: three messages, and nothing of it is redacted. */
const editReferences = (files: Files, edit: (references: JsonValue[]) => JsonValue[]): void => {
  const calls = linesOf(files, "replay/inputs.jsonl").flatMap((line, n) =>
    line.includes("$input") ? [n] : [],
  );
  editLine(files, "replay/inputs.jsonl", calls[1] ?? -1, (o) => {
    const value = object(o, "value");
    return { ...o, value: { ...value, messages: edit([...arrayFrom(value["messages"], "messages")]) } };
  });
};
const message = (content: string): string => {
  const value = { role: "assistant", content };
  return canonicalize({ type: "atoll.dev/input/v1", hash: hashJson(value), redacted: false, value });
};
const list = (o: JsonObject) => (Array.isArray(o["path"]) ? o["path"] : []);
function editProof(files: Files, edit: (o: JsonObject) => JsonObject): void {
  const path = first(files, /^proofs/);
  files.set(path, Buffer.from(canonicalize(edit(json(files, path)))));
}

/** The tar that a recipe makes of a good pack. */
export function cook(recipe: Recipe, pack: Buffer, tools: Tools): Buffer {
  const files = readFiles(pack);
  recipe.files?.(files, tools);
  if (recipe.reseal !== undefined && recipe.reseal !== false)
    reseal(files, recipe.reseal === "stranger" ? tools.stranger : tools.exporter);
  const tar = writeFiles(files);
  return recipe.tar?.(tar, files) ?? tar;
}
