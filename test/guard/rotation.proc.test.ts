// The guardian's key followed by another again and again while it works, and killed in the middle of that; then revoked.

import { spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { callAdmin } from "../../cli/admin.ts";
import { keyIdFrom, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { KeyId } from "../../kernel/contracts/contracts.ts";
import { signerFromPem } from "../../kernel/crypto/crypto.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import { signAct } from "../../kernel/trust/trust.ts";
import { readJournal } from "../../sidecar/journal/journal.ts";
import { atoll, place } from "./lab.ts";
import type { Guardian, Place } from "./lab.ts";
import { Load, account, everything, loadPolicy } from "./load.ts";
import { Status, startUpstream } from "./upstream.ts";
import type { Upstream } from "./upstream.ts";

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const VERIFY = join(import.meta.dirname, "../independent/verify.py");

let up: Upstream;
let p: Place;
let g: Guardian;
const registrar = generateKeyPairSync("ed25519");
beforeAll(async () => {
  up = await startUpstream();
  up.tools.set("do", () => pause(Math.random() * 30));
  up.tools.set("denied", () => undefined);
  up.tools.set("keyed", () => undefined);
  up.tools.set("fails", () => {
    throw new Status(500);
  });
  p = place();
  const pem = registrar.publicKey.export({ type: "spki", format: "pem" });
  appendFileSync(join(p.folder, "roots.pem"), `\nrole: registrar\n${pem}`);
  g = await p.start({ policy: loadPolicy(up) });
});
afterAll(async () => {
  await g.kill();
  await up.close();
  p.remove();
});

const socket = (): string => join(p.journal, "admin.sock");
/** Which keys signed the log's nodes, in their order. */
function keysUsed(): readonly KeyId[] {
  const used: KeyId[] = [];
  for (const { line } of readJournal(p.journal).records()) {
    const entry = readEntry(line);
    if (entry.kind === "node" && used.at(-1) !== entry.sealed.node.key_id)
      used.push(entry.sealed.node.key_id);
  }
  return used;
}
function verifiedByBothAndReplayed(): void {
  const verified = p.verified();
  expect(verified.code, verified.text).toBe(0);
  const theirs = spawnSync("python3", [VERIFY, verified.pack, "--trust", join(p.folder, "auditor.pem")], {
    encoding: "utf8",
  });
  expect(theirs.status, theirs.stdout + theirs.stderr).toBe(0);
  const replayed = atoll("replay", verified.pack, "--trust", join(p.folder, "auditor.pem"));
  expect(replayed.code, replayed.text).toBe(0);
}

test("rotations under load and kills in the middle of them: one key after the other, nothing lost, nothing done twice", async () => {
  const load = new Load(g.base);
  const stop = new AbortController();
  const driving = load.run(60, stop.signal, everything);
  let rotations = 0;
  for (let round = 0; round < 5; round++) {
    for (let n = 0; n < 4; n++) {
      await pause(60);
      const told = await callAdmin(socket(), "POST", "/keys/rotate", {});
      expect(told.status, JSON.stringify(told.body)).toBe(200);
      rotations++;
    }
    const last = callAdmin(socket(), "POST", "/keys/rotate", {}).catch(() => undefined);
    await pause(Math.random() * 25);
    await g.kill();
    if ((await last)?.status === 200) rotations++;
    g = await p.start({ policy: loadPolicy(up) });
    load.moveTo(g.base);
  }
  await pause(300);
  stop.abort();
  await driving;
  await load.settled(20_000);
  await g.kill();
  g = await p.start({ policy: loadPolicy(up) });
  expect(account(p, up, load.sent).broken).toEqual([]);
  await load.close();
  await g.stop();
  const used = keysUsed();
  expect(new Set(used).size).toBe(used.length);
  expect(used.length).toBeGreaterThan(rotations);
  expect([...load.sent.values()].filter((s) => s.status === 200).length).toBeGreaterThan(10);
  verifiedByBothAndReplayed();
  console.log(`${rotations} rotations told, ${used.length} keys, 6 kills`);
}, 120_000);

test("a revoked key signs nothing from then on, nor after a kill and a restart; what it signed before verifies", async () => {
  g = await p.start({ policy: loadPolicy(up) });
  const load = new Load(g.base);
  for (let n = 0; n < 10; n++) expect((await load.fire("do")).status).toBe(200);
  const status = await callAdmin(socket(), "GET", "/status");
  const key = keyIdFrom(status.body["key_id"], "key_id");
  const act = (by: ReturnType<typeof signerFromPem>, id: KeyId) =>
    signAct(
      { type: "atoll.dev/key-revocation/v1", key: id, reason: "stolen", honoured: "" },
      timestampOf(Date.now()),
      by,
    );
  const pem = registrar.privateKey.export({ type: "pkcs8", format: "pem" });
  const by = signerFromPem(pem);
  const stranger = signerFromPem(
    generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }),
  );
  expect((await callAdmin(socket(), "POST", "/keys/revoke", act(stranger, key))).status).toBe(400);
  expect((await callAdmin(socket(), "POST", "/keys/revoke", act(by, stranger.keyId))).status).toBe(400);
  expect((await load.fire("do")).status).toBe(200);
  const flying = Array.from({ length: 20 }, () => load.fire("do"));
  expect((await callAdmin(socket(), "POST", "/keys/revoke", act(by, key))).status).toBe(200);
  await Promise.all(flying);
  const size = (await callAdmin(socket(), "GET", "/status")).body["tree_size"];
  for (let n = 0; n < 5; n++) expect((await load.fire("do")).status).not.toBe(200);
  const after = await callAdmin(socket(), "GET", "/status");
  expect(after.body).toMatchObject({
    ready: false,
    why: expect.stringContaining("revoked"),
    tree_size: size,
  });
  expect((await callAdmin(socket(), "POST", "/keys/rotate", {})).status).toBe(500);
  await g.kill();
  await load.close();
  await expect(p.start({ policy: loadPolicy(up) })).rejects.toThrow("revoked");
  verifiedByBothAndReplayed();
}, 60_000);
