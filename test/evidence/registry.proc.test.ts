// The registry in a pack: both verifiers take what its registrar signed, and find what somebody changed, left out or never
// said, each by itself.
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { judge } from "../../cli/verify.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { LIMITS, objectFrom, parseJson, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, SealedNode } from "../../kernel/contracts/contracts.ts";
import { sha256, signObject } from "../../kernel/crypto/crypto.ts";
import { registryFiles } from "../../kernel/evidence/evidence.ts";
import { createChains } from "../../kernel/receipts/receipts.ts";
import { parseTrustRoots, publishKey, signAct } from "../../kernel/trust/trust.ts";
import { newFolder, newSigner, session } from "../journal/scene.ts";
import { packOf, rootsFile } from "./packs.ts";
import { readFiles, reseal, writeFiles } from "./recipes.ts";
import type { Files } from "./recipes.ts";
import { binding, registered } from "./registered.ts";
import type { Registered } from "./registered.ts";

const VERIFY = join(import.meta.dirname, "../independent/verify.py");
const folder = newFolder();
const [registrar, exporter, root, stranger] = [newSigner(), newSigner(), newSigner(), newSigner()];
const rootsWith = (...keys: readonly (readonly [string, typeof registrar])[]): string =>
  keys.map(([role, key]) => readFileSync(rootsFile(key), "utf8").replace("guardian", role)).join("");
const roots = rootsWith(["registrar", registrar], ["ledger", exporter], ["guardian", root]);

async function both(tar: Buffer, trust = roots) {
  const file = join(newFolder(), "pack.tar");
  const rootsPem = join(folder, `${sha256(trust).slice(7, 20)}.pem`);
  writeFileSync(file, tar);
  writeFileSync(rootsPem, trust);
  const theirs = await new Promise<{ readonly code: number; readonly text: string }>((resolve) => {
    execFile("python3", [VERIFY, file, "--trust", rootsPem, "--json"], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), text: stdout + stderr });
    });
  });
  return { ours: judge(file, parseTrustRoots(trust)), theirs };
}
const packBy = async (
  scene: Registered,
  events: readonly SealedNode[] = scene.events,
  more: Partial<Parameters<typeof packOf>[1]> = {},
): Promise<Buffer> =>
  readFileSync(await packOf({ dir: scene.dir, signer: exporter }, { registry: events, ...more }));

async function accepted(tar: Buffer, trust?: string, height?: number): Promise<void> {
  const { ours, theirs } = await both(tar, trust);
  expect(ours).toMatchObject({
    kind: "pack",
    ...(height === undefined ? {} : { report: { registry: { height } } }),
  });
  expect(theirs.text).toContain('"valid": true');
}
async function refused(tar: Buffer, file: RegExp, code: string, trust?: string): Promise<void> {
  const { ours, theirs } = await both(tar, trust);
  expect(ours).toMatchObject({ finding: { file: expect.stringMatching(file), code } });
  expect(theirs.code, theirs.text).toBe(1);
  expect(JSON.parse(theirs.text)).toMatchObject({ valid: false });
}

let scene: Registered;
let whole: Buffer;
beforeAll(async () => {
  scene = await registered(registrar);
  whole = await packBy(scene);
});

describe("a pack with the registry in it (4.4, 4.5)", () => {
  test("is valid over a rotation to who trusts the registrar alone, whole, in part and condensed", async () => {
    await accepted(whole, roots, 3);
    await accepted(await packBy(scene, scene.events, { sessions: [session(1)] }));
    await accepted(await packBy(scene, scene.events, { condense: {} }));
  });
  test("may be signed by the key that the log has come to, and by none that has handed over", async () => {
    await accepted(await packBy(scene, scene.events, { signer: scene.last }));
    await refused(
      await packBy(scene, scene.events, { signer: scene.first }),
      /manifest.sig/,
      "TRUST_KEY_REVOKED",
    );
  });
  test("is valid without the registry to who trusts the guardian's first key, and to nobody else", async () => {
    const bare = await packBy(scene, []);
    await accepted(bare, rootsWith(["guardian", scene.first], ["ledger", exporter]), 0);
    await accepted(await packBy(scene, [], { signer: scene.last }), rootsWith(["guardian", scene.first]));
    await refused(bare, /nodes/, "TRUST_KEY_UNKNOWN");
    // The last key alone vouches for no beginning.
    await refused(
      bare,
      /nodes/,
      "TRUST_KEY_UNKNOWN",
      rootsWith(["guardian", scene.last], ["ledger", exporter]),
    );
  });
  test("is the same bytes each time", async () => {
    expect(sha256(await packBy(scene))).toBe(sha256(whole));
  });
  test("is refused by who knows no registrar, or another one", async () => {
    await refused(whole, /trust\/events/, "TRUST_KEY_UNKNOWN", rootsWith(["ledger", exporter]));
    await refused(
      whole,
      /trust\/events/,
      "TRUST_KEY_UNKNOWN",
      rootsWith(["registrar", stranger], ["ledger", exporter]),
    );
  });
});

describe("a revoked key", () => {
  test("keeps what is under the checkpoint that is honoured, and nothing after it", async () => {
    const all = await registered(registrar);
    await accepted(await packBy(all, await all.revoked(all.checkpoints.last)));
    const some = await registered(registrar);
    // The honoured one is of the key before: of the revoked key there is none.
    await refused(await packBy(some, await some.revoked(some.checkpoints.old)), /nodes/, "TRUST_KEY_REVOKED");
    const none = await registered(registrar);
    const events = await none.revoked("");
    await refused(await packBy(none, events), /nodes/, "TRUST_KEY_REVOKED");
    await refused(await packBy(none, events, { sessions: [session(1)] }), /nodes/, "TRUST_KEY_REVOKED");
    await refused(await packBy(none, events, { signer: none.last }), /manifest.sig/, "TRUST_KEY_REVOKED");
  });
  test("is refused for a receipt that it signed later, whoever ships it", async () => {
    const one = await registered(registrar, { noHandOver: false });
    const middle = [...checkpointsIn(readFiles(await packBy(one)), one.last.keyId)];
    expect(middle.length).toBeGreaterThan(0);
    const events = await one.revoked(middle[0] ?? "");
    const later = await packBy(one, events);
    if (middle.length > 1) await refused(later, /nodes/, "TRUST_KEY_REVOKED");
    else await accepted(later);
  });
  test("is revoked by a root of its role too, and by nobody who only says so", async () => {
    const by = (key: typeof root, honoured: Registered["checkpoints"]["last"], id: Registered["last"]) =>
      signAct(
        { type: "atoll.dev/key-revocation/v1", key: id.keyId, reason: "left", honoured },
        timestampOf(0),
        key,
      );
    const one = await registered(registrar, {}, root);
    await accepted(await packBy(one, await one.revoked("", by(root, one.checkpoints.last, one.last))));
    const two = await registered(registrar, {}, root);
    await expect(two.revoked("", by(stranger, two.checkpoints.last, two.last))).rejects.toThrow(
      "TRUST_KEY_UNKNOWN",
    );
    expect((await two.revoked(two.checkpoints.last)).length).toBe(two.events.length + 1);
  });
});

describe("what the log and the registry say of each other", () => {
  test("a key that was followed in the registry and went on in the log is refused", async () => {
    const wrong = await registered(registrar, { noHandOver: true });
    await refused(await packBy(wrong), /nodes/, "CHAIN_BROKEN");
  });
  test("a hand-over that the registry does not know is refused", async () => {
    const wrong = await registered(registrar, { unpublished: true });
    await refused(await packBy(wrong), /nodes/, "TRUST_KEY_UNKNOWN");
  });
  test("a checkpoint that names another registry, or a later one, is refused", async () => {
    const other = await registered(registrar, { head: { height: 1, hash: sha256("other") } });
    await refused(await packBy(other), /nodes/, "CHAIN_BROKEN");
    const later = await registered(registrar, { head: { height: 99, hash: sha256("later") } });
    await refused(await packBy(later), /nodes/, "CHAIN_BROKEN");
  });
});

function* checkpointsIn(files: Files, key: string) {
  for (const [path, content] of files)
    if (path.startsWith("nodes/"))
      for (const line of content.toString("utf8").split("\n")) {
        if (!line.includes('"kind":"CHECKPOINT"') || !line.includes(`"key_id":"${key}"`)) continue;
        yield sha256(line);
      }
}

// Each with a manifest that fits again, and a snapshot that fits the events unless the snapshot is what was changed.
const EVENTS = "trust/events.jsonl";
const SNAPSHOT = "trust/snapshot.json";
type Lines = (lines: string[]) => readonly string[];
const edit = (line: string | undefined, change: (o: JsonObject) => JsonObject): string =>
  canonicalize(change(objectFrom(parseJson(Buffer.from(line ?? ""), LIMITS.policy), "line")));
const resigned = (
  line: string | undefined,
  by: typeof registrar,
  change: (o: JsonObject) => JsonObject,
): string =>
  edit(line, (o) => {
    const { sig: _, ...unsigned } = change(o);
    return signObject(unsigned, by);
  });
const body = (o: JsonObject): JsonObject => objectFrom(o["body"], "body");
/** One more event, in its place in the chain, by `by`. */
const appended = (lines: string[], event: JsonObject, by = registrar): string[] => {
  const last = objectFrom(parseJson(Buffer.from(lines.at(-1) ?? ""), LIMITS.policy), "line");
  const chains = createChains(by);
  const id = last["session_id"];
  const sealed = chains.seal({
    kind: "TRUST_EVENT",
    session_id: session(0),
    parents: [],
    issued_at: timestampOf(0),
    body: { type: "atoll.dev/trust-event/v1", ...event },
  });
  return [
    ...lines,
    resigned(sealed.text, by, (o) => ({
      ...o,
      session_id: id ?? "",
      lamport: lines.length + 1,
      prev_hash: sha256(lines.at(-1) ?? ""),
    })),
  ];
};
const RECIPES: readonly (readonly [name: string, file: RegExp, code: string, Lines])[] = [
  ["the last event dropped", /nodes/, "TRUST_KEY_UNKNOWN|CHAIN_BROKEN", (l) => l.slice(0, -1)],
  ["the first event dropped", /trust\/events/, "CHAIN_BROKEN", (l) => l.slice(1)],
  ["an event dropped from the middle", /trust\/events/, "CHAIN_BROKEN", (l) => l.toSpliced(1, 1)],
  ["two events swapped", /trust\/events/, "CHAIN_BROKEN", (l) => [l[1] ?? "", l[0] ?? "", ...l.slice(2)]],
  ["an event there twice", /trust\/events/, "CHAIN_BROKEN", (l) => [...l, l.at(-1) ?? ""]],
  [
    "an event edited",
    /trust\/events/,
    "SIGNATURE_INVALID",
    (l) => [edit(l[0], (o) => ({ ...o, body: { ...body(o), image: "other" } })), ...l.slice(1)],
  ],
  [
    "an event signed by a stranger",
    /trust\/events/,
    "TRUST_KEY_UNKNOWN",
    (l) => [...l.slice(0, -1), resigned(l.at(-1), stranger, (o) => ({ ...o, key_id: stranger.keyId }))],
  ],
  [
    "a stranger's signature under the registrar's id",
    /trust\/events/,
    "SIGNATURE_INVALID",
    (l) => [...l.slice(0, -1), resigned(l.at(-1), stranger, (o) => o)],
  ],
  [
    "an event signed by the guardian, who is no registrar",
    /trust\/events/,
    "TRUST_KEY_UNKNOWN",
    (l) => [...l.slice(0, -1), resigned(l.at(-1), scene.first, (o) => ({ ...o, key_id: scene.first.keyId }))],
  ],
  [
    "a rotation that the old key has not signed",
    /trust\/events/,
    "SIGNATURE_INVALID",
    (l) => [
      ...l.slice(0, -1),
      resigned(l.at(-1), registrar, (o) => {
        const act = objectFrom(body(o)["rotation"], "rotation");
        return { ...o, body: { ...body(o), rotation: { ...act, key: { ...publishKey(stranger) } } } };
      }),
    ],
  ],
  [
    "a rotation to a stranger by the registrar alone",
    /trust\/events/,
    "TRUST_KEY_UNKNOWN",
    (l) =>
      appended(l, {
        event: "KEY_ROTATE",
        rotation: signAct(
          { type: "atoll.dev/key-rotation/v1", old: registrar.keyId, key: publishKey(stranger) },
          timestampOf(0),
          stranger,
        ),
      }),
  ],
  [
    "a second publication for the pod",
    /trust\/events/,
    "REPLAY_DETECTED",
    (l) => appended(l, { event: "KEY_PUBLISH", key: { ...publishKey(stranger) }, ...binding("pod-1") }),
  ],
  [
    "an event that belongs to a guardian's own session",
    /trust\/events/,
    "TRUST_KEY_UNKNOWN",
    (l) => appended(l, { event: "CLOCK_JUMP" }),
  ],
  ["an event of no known kind", /trust\/events/, "CHAIN_BROKEN", (l) => appended(l, { event: "KEY_ESCROW" })],
  [
    "the key in force revoked, with nothing honoured",
    /nodes/,
    "TRUST_KEY_REVOKED",
    (l) =>
      appended(l, {
        event: "KEY_REVOKE",
        key: scene.last.keyId,
        honoured: "",
        reason: "r",
        at: timestampOf(0),
      }),
  ],
  [
    "the key before revoked, with nothing honoured",
    /nodes/,
    "TRUST_KEY_REVOKED",
    (l) =>
      appended(l, {
        event: "KEY_REVOKE",
        key: scene.first.keyId,
        honoured: "",
        reason: "r",
        at: timestampOf(0),
      }),
  ],
  [
    "a checkpoint honoured that the pack does not have",
    /nodes/,
    "TRUST_KEY_REVOKED",
    (l) =>
      appended(l, {
        event: "KEY_REVOKE",
        key: scene.last.keyId,
        honoured: sha256("elsewhere"),
        reason: "r",
        at: timestampOf(0),
      }),
  ],
  [
    "an event with a space more",
    /trust\/events/,
    "CHAIN_BROKEN",
    (l) => [(l[0] ?? "").replace("{", "{ "), ...l.slice(1)],
  ],
];

describe("a registry that was tampered with is refused by both verifiers:", () => {
  const cooked = (change: (files: Files) => void): Buffer => {
    const files: Files = readFiles(whole);
    change(files);
    reseal(files, exporter);
    return writeFiles(files);
  };
  const linesIn = (files: Files): string[] =>
    (files.get(EVENTS) ?? Buffer.alloc(0)).toString("utf8").split("\n").slice(0, -1);
  test("nothing changed is accepted", () => accepted(cooked(() => undefined)));
  for (const [name, file, code, change] of RECIPES)
    test.concurrent(name, async () => {
      const tar = cooked((files) => {
        const lines = change(linesIn(files));
        files.set(EVENTS, Buffer.from(lines.map((l) => `${l}\n`).join("")));
        files.set(SNAPSHOT, Buffer.from(snapshotOf(lines)));
      });
      const { ours, theirs } = await both(tar);
      expect(ours).toMatchObject({
        finding: {
          file: expect.stringMatching(file),
          code: expect.stringMatching(new RegExp(`^(${code})$`)),
        },
      });
      expect(theirs.code, theirs.text).toBe(1);
      expect(JSON.parse(theirs.text)).toMatchObject({ valid: false });
    });
  test.concurrent("another key in the snapshot", () =>
    refused(
      cooked((files) => {
        const text = (files.get(SNAPSHOT) ?? Buffer.alloc(0)).toString("utf8");
        files.set(SNAPSHOT, Buffer.from(text.replace(scene.last.keyId, stranger.keyId)));
      }),
      /trust\/snapshot/,
      "CHAIN_BROKEN",
    ));
  test.concurrent("no snapshot", () =>
    refused(
      cooked((files) => files.delete(SNAPSHOT)),
      /trust\/snapshot/,
      "CHAIN_BROKEN",
    ));
  test.concurrent("no events under a snapshot", () =>
    refused(
      cooked((files) => files.delete(EVENTS)),
      /trust\/snapshot/,
      "CHAIN_BROKEN",
    ));
  test.concurrent("neither", () =>
    refused(
      cooked((files) => {
        files.delete(EVENTS);
        files.delete(SNAPSHOT);
      }),
      /nodes/,
      "TRUST_KEY_UNKNOWN",
    ));
});

/** As an exporter would write it, whatever the events are worth. */
function snapshotOf(lines: readonly string[]): string {
  const events = lines.map((text): SealedNode => {
    const node: SealedNode["node"] = JSON.parse(text);
    return { node, hash: sha256(text), text };
  });
  return registryFiles(events)[1]?.text ?? "";
}
