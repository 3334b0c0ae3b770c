// A guardian that is told to stop ships what it has: over a ledger that was away, is slow, and over a rotation of its key.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { callAdmin } from "../../cli/admin.ts";
import { verifierFromPem } from "../../kernel/crypto/crypto.ts";
import { createLedger, openStore, serveLedger } from "../../operator/ledger/ledger.ts";
import type { LedgerServer } from "../../operator/ledger/ledger.ts";
import { newFolder, newSigner } from "../journal/scene.ts";
import { linesOf } from "../ledger/contract.ts";
import { place } from "./lab.ts";
import type { Place } from "./lab.ts";
import { Load, everything, loadPolicy } from "./load.ts";
import { startUpstream } from "./upstream.ts";
import type { Upstream } from "./upstream.ts";

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
let up: Upstream;
let p: Place;
let server: LedgerServer | undefined;
beforeAll(async () => {
  up = await startUpstream();
  for (const name of ["do", "denied", "keyed", "fails"]) up.tools.set(name, () => pause(5));
  p = place();
});
afterAll(async () => {
  await server?.stop();
  await up.close();
  p.remove();
});

test("on SIGTERM everything that was acknowledged is in the ledger, once and in order", async () => {
  const store = await openStore(newFolder());
  const key = () => verifierFromPem(readFileSync(join(p.journal, "guardian.pub"), "utf8"));
  let slow = 0;
  const ledger = createLedger({
    store,
    signer: newSigner(),
    keysOf: async () => {
      await pause(slow);
      return [key()];
    },
    clock: Date.now,
    random: (n) => crypto.getRandomValues(new Uint8Array(n)),
  });
  const serve = async (port: number): Promise<LedgerServer> =>
    (server = await serveLedger({
      ledger: {
        ...ledger,
        accept: async (pod, from, lines) => {
          await pause(slow);
          return await ledger.accept(pod, from, lines);
        },
      },
      podOf: async (token) => (token === "token" ? "pod" : undefined),
      host: "127.0.0.1",
      port,
    }));
  const { port } = await serve(0);
  const token = join(p.folder, "token");
  writeFileSync(token, "token");
  const more = ["--ledger", `http://127.0.0.1:${port}`, "--ledger-token", token];
  const g = await p.start({ policy: loadPolicy(up), more });
  const load = new Load(g.base);
  const stop = new AbortController();
  const driving = load.run(60, stop.signal, everything);
  await pause(800);
  await server?.stop();
  await pause(800);
  expect((await callAdmin(join(p.journal, "admin.sock"), "POST", "/keys/rotate", {})).status).toBe(200);
  await pause(500);
  slow = 150;
  await serve(port);
  stop.abort();
  await driving;
  await load.settled(20_000);
  expect(await g.stop()).toBe(0);
  await load.close();
  const lines = linesOf(p.journal);
  expect(lines.length).toBeGreaterThan(20);
  expect(await store.lines("pod", 0, 1_000_000)).toEqual(lines);
  await server?.stop();
  server = undefined;
  await store.close();
}, 90_000);

test("with a ledger that stays away it ends in its time, and its own journal has it all", async () => {
  const token = join(p.folder, "token");
  const more = ["--ledger", "http://127.0.0.1:9", "--ledger-token", token];
  const g = await p.start({ policy: loadPolicy(up), more });
  const load = new Load(g.base);
  for (let n = 0; n < 5; n++) expect((await load.fire("do")).status).toBe(200);
  await load.close();
  expect(await g.stop()).toBe(0);
  expect(p.verified().code).toBe(0);
}, 60_000);
