// A real guardian's log over everything that a replay meets, and the same log signed again with a lie in it.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writePack } from "../../cli/export.ts";
import type { PackSource } from "../../cli/export.ts";
import { replayPack } from "../../cli/replay.ts";
import { isObject, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue, NodeDraft, SealedNode } from "../../kernel/contracts/contracts.ts";
import { hashJson, signObject, signerFromPem } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { signAssertion } from "../../kernel/escalation/ceremony/ceremony.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import type { Entry } from "../../kernel/evidence/evidence.ts";
import { readJournal } from "../../sidecar/journal/journal.ts";
import { rootsFile } from "../evidence/packs.ts";
import { newFolder, newSigner, open } from "../journal/scene.ts";
import { scene } from "../surfaces/scene.ts";

/** Allowed, denied, escalated, approved, repeated, frozen, malformed: each way a verdict can come about. */
export async function livedThrough(rounds: number) {
  const s = await scene();
  const call = async (tool: string, args: JsonValue, key = ""): Promise<JsonObject> => {
    const body = { tool, arguments: args, ...(key === "" ? {} : { idempotency_key: key }) };
    const answer = await fetch(`${s.base}/mcp/v1/execute`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const value: unknown = await answer.json();
    return isJsonObject(value) ? value : {};
  };
  const approver = signerFromPem(s.approverPem);
  const codes = new Set<string>();
  const note = ({ reason_code }: JsonObject): void => {
    if (typeof reason_code === "string") codes.add(reason_code);
  };
  try {
    for (let n = 0; n < rounds; n++) {
      note(await call("tool:github/list_issues", { repo: `acme/r${n}` }));
      note(await call("tool:github/create_issue", { repo: "acme/web", title: `t${n}` }, `k${n}`));
      note(await call("tool:github/create_issue", { repo: "acme/web", title: `other ${n}` }, `k${n}`));
      note(await call("tool:github/create_issue", { repo: "evil/web", title: "x" }));
      note(await call("tool:github/create_issue", { repo: 7 }));
      note(await call("tool:github/delete_repo", { repo: "acme/web" }));
      note(await call("tool:nowhere/none", { n }));
      note(await call("tool:github/list_issues", ["no object"]));
    }
    const release = { repo: "acme/web", tag: "v1" };
    note(await call("tool:github/create_release", release));
    const [pending] = s.guardian.ceremonies.all;
    if (pending === undefined) throw new Error("nothing was escalated");
    const at = Date.now();
    const assertion = signAssertion(
      pending.challenge,
      { decision: "approve", shownAt: at - 1000, at },
      approver,
    );
    await s.guardian.ceremonies.answer(pending.id, assertion);
    note(await call("tool:github/create_release", release));
    const node = await s.guardian.freezer.freeze("a test", "someone");
    note(await call("tool:github/list_issues", { repo: "acme/frozen" }));
    await s.guardian.freezer.unfreeze(
      signObject(
        {
          type: "atoll.dev/unfreeze/v1",
          freeze: node,
          reason: "",
          at: timestampOf(Date.now()),
          key_id: approver.keyId,
        },
        approver,
      ),
    );
    note(await call("tool:github/list_issues", { repo: "acme/thawed" }));
    const again = await s.again();
    const answer = await fetch(`${again.base}/mcp/v1/execute`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ tool: "tool:github/list_issues", arguments: { repo: "acme/after" } }),
    });
    await answer.text();
    await again.guardian.drain(200);
    const dir = join(s.folder, "journal");
    const signer = signerFromPem(readFileSync(join(dir, "guardian.pem"), "utf8"));
    const reading = readJournal(dir);
    const entries = [...reading.records()].map((r) => readEntry(r.line));
    return { entries, signer, own: reading.meta.session_id, approver, codes };
  } finally {
    await s.close();
  }
}
const isJsonObject = (v: unknown): v is JsonObject => typeof v === "object" && v !== null;

export type Log = Awaited<ReturnType<typeof livedThrough>>;

/** `log` as a pack, and the keys to verify it with. */
export async function packed(
  log: Pick<Log, "entries" | "signer" | "own" | "approver">,
  more: Pick<PackSource, "condense"> = {},
) {
  const file = join(newFolder(), "pack.tar");
  await writePack({ file, signer: log.signer, own: log.own, entries: () => log.entries, ...more });
  return { file, roots: roots(log.signer, log.approver) };
}
function roots(guardian: Signer, approver: Signer): string {
  const file = rootsFile(guardian);
  const other = readFileSync(rootsFile(approver), "utf8").replace("role: guardian", "role: approver");
  writeFileSync(file, readFileSync(file, "utf8") + other);
  return file;
}

export interface Lie {
  readonly node?: ((node: SealedNode) => JsonObject | undefined) | undefined;
  readonly input?: ((value: JsonObject) => JsonObject | undefined) | undefined;
}

/**
 * The log as its guardian would have written it had it lied: every hash, link and signature is right. What `lie`
 * changes is changed everywhere it is named.
 */
export async function lying(log: Log, lie: Lie): Promise<Log> {
  const renamed = new Map<Hash, Hash>();
  const rename = (v: JsonValue): JsonValue => {
    if (typeof v === "string") {
      for (const [old, now] of renamed) if (v === old) return now;
      return v;
    }
    if (Array.isArray(v)) return v.map(rename);
    if (!isObject(v)) return v;
    return Object.fromEntries(Object.entries(v).map(([k, inner]) => [k, rename(inner)]));
  };
  const signer = newSigner();
  const dir = newFolder();
  const journal = await open({ dir, signer, checkpointNodes: 1_000_000 });
  const entries: Entry[] = [];
  const inputs: { hash: Hash; redacted: boolean; value: JsonValue }[] = [];
  for (const entry of log.entries) {
    if (entry.kind === "input") {
      const { value } = entry.input;
      const renamedValue = isObject(value) ? rename(value) : value;
      const changed = (isObject(renamedValue) ? lie.input?.(renamedValue) : undefined) ?? renamedValue;
      const hash = hashJson(changed);
      if (hash !== entry.input.hash) renamed.set(entry.input.hash, hash);
      inputs.push({ hash, redacted: entry.input.redacted, value: changed });
      continue;
    }
    const { node, hash } = entry.sealed;
    if (node.kind === "CHECKPOINT") continue;
    const body = lie.node?.(entry.sealed) ?? node.body;
    const draft: NodeDraft = {
      kind: node.kind,
      session_id: node.session_id === log.own ? journal.ownSession : node.session_id,
      parents: node.parents.map((p) => renamed.get(p) ?? p),
      issued_at: node.issued_at,
      body: objectOf(rename(body)),
    };
    const { nodes } = journal.append([draft], inputs.splice(0));
    const [sealed] = nodes;
    if (sealed !== undefined) renamed.set(hash, sealed.hash);
  }
  await journal.close();
  for (const { line } of readJournal(dir).records()) entries.push(readEntry(line));
  return { ...log, entries, signer, own: journal.ownSession };
}
const objectOf = (v: JsonValue): JsonObject => (isObject(v) ? v : {});

export async function run(...argv: string[]) {
  const out: string[] = [];
  const io = {
    stdin: (async function* () {})(),
    stdout: { write: (t: string | Uint8Array) => out.push(String(t)) },
    stderr: { write: (t: string | Uint8Array) => out.push(String(t)) },
    env: {},
  };
  const code = await replayPack(argv, io);
  return { code, text: out.join("") };
}
