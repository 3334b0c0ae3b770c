import { cpSync, rmSync } from "node:fs";
import { request } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { openStore, serveLedger } from "../../operator/ledger/ledger.ts";
import type { LedgerServer, LedgerStore } from "../../operator/ledger/ledger.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { createShipper, shippedJournal } from "../../sidecar/ship/ship.ts";
import type { LedgerLink, Shipper } from "../../sidecar/ship/ship.ts";
import type { OpenJournal } from "../../sidecar/journal/journal.ts";
import { attestation, decisions, newFolder, newSigner, open, session } from "../journal/scene.ts";
import { ledgerOver, linesOf } from "../ledger/contract.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const undo of cleanup.splice(0).reverse()) await undo();
});

/** A link without a network: a ledger that can be taken away. */
function world(store: LedgerStore, signer: ReturnType<typeof newSigner>) {
  const keys = new Map([["pod-1", signer]]);
  let ledger = ledgerOver(store, keys);
  let away = false;
  const link: LedgerLink = async (asked) => {
    if (away) throw new Error("connection refused");
    if (asked.method === "GET") return { status: 200, body: { ...(await ledger.status("pod-1")) } };
    const accepted = await ledger.accept("pod-1", asked.from, asked.body.split("\n").slice(0, -1));
    if (away) throw new Error("the connection broke");
    if (accepted.ok) return { status: 200, body: { count: accepted.count } };
    const body: JsonObject = Object.fromEntries(Object.entries(accepted).filter(([k]) => k !== "ok"));
    return { status: accepted.problem === "refused" ? 422 : 409, body };
  };
  return {
    link,
    keys,
    leave: () => (away = true),
    comeBack: () => (away = false),
    restart: () => (ledger = ledgerOver(store, keys)),
  };
}
const shipperOf = (journal: OpenJournal, link: LedgerLink): Shipper & { readonly lines: string[] } => {
  const lines: string[] = [];
  const shipper = createShipper({
    journal,
    link,
    log: (l) => lines.push(l),
    lag: () => undefined,
    retryMs: 5,
  });
  cleanup.push(() => shipper.stop());
  return Object.assign(shipper, { lines });
};
async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !what(); i++) await new Promise((r) => setTimeout(r, 10));
  expect(what()).toBe(true);
}
async function scene() {
  const dir = newFolder();
  const signer = newSigner();
  const store = await openStore(newFolder());
  cleanup.push(() => store.close());
  return { dir, signer, store, ledger: world(store, signer) };
}
const shipping = async (s: Awaited<ReturnType<typeof scene>>) => {
  let shipper: Shipper | undefined;
  const journal = await open({ dir: s.dir, signer: s.signer, landed: () => shipper?.poke() });
  shipper = shipperOf(journal, s.ledger.link);
  return { journal, shipper };
};
const stored = async (store: LedgerStore): Promise<readonly string[]> => store.lines("pod-1", 0, 1_000_000);

describe("shipping (4.3)", () => {
  test("everything arrives once and in order, over a ledger that comes and goes", async () => {
    const s = await scene();
    const { journal, shipper } = await shipping(s);
    for (let round = 0; round < 6; round++) {
      await decisions(journal, 20, { from: round * 20 });
      if (round % 2 === 0) s.ledger.leave();
      else s.ledger.comeBack();
      if (round === 3) s.ledger.restart();
      await new Promise((r) => setTimeout(r, 30));
    }
    s.ledger.comeBack();
    await journal.checkpoint();
    expect(await shipper.drain(4000)).toBe(true);
    await journal.close();
    expect(await stored(s.store)).toEqual(linesOf(s.dir));
    expect(shipper.acknowledged).toBe(journal.records);
  });

  test("goes on after the guardian's restart from where the ledger stands", async () => {
    const s = await scene();
    const first = await shipping(s);
    await decisions(first.journal, 30);
    await first.journal.checkpoint();
    expect(await first.shipper.drain(4000)).toBe(true);
    first.shipper.stop();
    await decisions(first.journal, 30, { from: 30 });
    await first.journal.close();
    const second = await shipping(s);
    expect(await second.shipper.drain(4000)).toBe(true);
    await second.journal.close();
    expect(await stored(s.store)).toEqual(linesOf(s.dir));
  });

  test("waits until its key is published", async () => {
    const s = await scene();
    s.ledger.keys.clear();
    const { journal, shipper } = await shipping(s);
    await decisions(journal, 5);
    expect(await shipper.drain(100)).toBe(false);
    s.ledger.keys.set("pod-1", s.signer);
    s.ledger.restart();
    expect(await shipper.drain(4000)).toBe(true);
    expect(shipper.refused).toBe("");
    await journal.close();
  });

  test("a journal that was set back is refused, and takes nothing any more", async () => {
    const s = await scene();
    const { journal, shipper } = await shipping(s);
    await decisions(journal, 10);
    await journal.checkpoint();
    await shipper.drain(4000);
    const old = newFolder();
    rmSync(old, { recursive: true });
    cpSync(s.dir, old, { recursive: true });
    await decisions(journal, 20, { from: 10 });
    await journal.checkpoint();
    expect(await shipper.drain(4000)).toBe(true);
    shipper.stop();
    await journal.close();
    const again = await shipping({ ...s, dir: old });
    await until(() => again.shipper.refused !== "");
    expect(again.shipper.refused).toMatch(
      /holds \d+ records of this journal, which has \d+: it was set back/,
    );
    const wrapped = shippedJournal(again.journal, again.shipper, "local");
    await expect(wrapped.append([attestation(session(), 1)], []).durable).rejects.toThrow("set back");
    await again.journal.close();
  });

  test("a journal that was set back and has grown again is shown as a fork with both records", async () => {
    const s = await scene();
    const { journal, shipper } = await shipping(s);
    await decisions(journal, 10);
    await journal.checkpoint();
    await shipper.drain(4000);
    const old = newFolder();
    rmSync(old, { recursive: true });
    cpSync(s.dir, old, { recursive: true });
    await decisions(journal, 10, { from: 10 });
    await journal.checkpoint();
    expect(await shipper.drain(4000)).toBe(true);
    shipper.stop();
    await journal.close();
    const other = await open({ dir: old, signer: s.signer });
    await decisions(other, 40, { from: 500 });
    await other.close();
    const again = await shipping({ ...s, dir: old });
    await until(() => again.shipper.refused !== "");
    expect(again.shipper.refused).toMatch(
      /fork at record \d+: the ledger has sha256:.*, this journal sha256:/,
    );
    await again.journal.close();
  });
});

test("a ledger that cannot take much in the time of a request is sent less, until it has everything", async () => {
  const s = await scene();
  const journal = await open({ dir: s.dir, signer: s.signer });
  await decisions(journal, 400);
  await journal.checkpoint();
  const sizes: number[] = [];
  const shipper = shipperOf(journal, async (asked) => {
    if (asked.method === "POST") {
      sizes.push(asked.body.length);
      if (asked.body.length > 300_000) throw new Error("the ledger is silent");
    }
    return s.ledger.link(asked);
  });
  expect(await shipper.drain(20_000)).toBe(true);
  expect(Math.max(...sizes)).toBeGreaterThan(300_000);
  await journal.close();
  expect(await stored(s.store)).toEqual(linesOf(s.dir));
});

describe("durability", () => {
  test("ledger: an append resolves only when the ledger has it, and nothing begins while it does not answer", async () => {
    const s = await scene();
    const { journal, shipper } = await shipping(s);
    const wrapped = shippedJournal(journal, shipper, "ledger");
    wrapped.engage();
    await until(() => shipper.up);
    const first = wrapped.append([attestation(session(), 1)], []);
    await first.durable;
    expect((await stored(s.store)).length).toBe(journal.records);
    s.ledger.leave();
    let told = false;
    const second = wrapped.append([attestation(session(), 2)], []);
    void second.durable.then(() => (told = true)).catch(() => undefined);
    await until(() => !shipper.up);
    expect(told).toBe(false);
    await expect(wrapped.append([attestation(session(), 3)], []).durable).rejects.toThrow("does not answer");
    s.ledger.comeBack();
    await second.durable;
    await until(() => shipper.up);
    await wrapped.append([attestation(session(), 4)], []).durable;
    await journal.close();
  });

  test("local: goes on while the ledger is away, and catches up", async () => {
    const s = await scene();
    const { journal, shipper } = await shipping(s);
    const wrapped = shippedJournal(journal, shipper, "local");
    wrapped.engage();
    s.ledger.leave();
    for (let n = 0; n < 20; n++) await wrapped.append([attestation(session(), n)], []).durable;
    s.ledger.comeBack();
    expect(await shipper.drain(4000)).toBe(true);
    await journal.close();
  });
});

test("the server asks for a token and takes a guardian's own records only", async () => {
  const s = await scene();
  const server: LedgerServer = await serveLedger({
    ledger: ledgerOver(s.store, s.ledger.keys),
    podOf: async (token) => (token === "good" ? "pod-1" : undefined),
    host: "127.0.0.1",
    port: 0,
  });
  cleanup.push(() => server.stop());
  const url = `http://127.0.0.1:${server.port}/v1/ledger`;
  const ask = (init: RequestInit, query = "", token = "good") =>
    fetch(url + query, { ...init, headers: { authorization: `Bearer ${token}` } });
  expect((await ask({}, "", "bad")).status).toBe(401);
  expect((await fetch(url)).status).toBe(401);
  expect(await (await ask({})).json()).toMatchObject({ pod: "pod-1", count: 0 });
  expect((await ask({ method: "POST", body: "x" })).status).toBe(400);
  expect((await ask({ method: "POST", body: "no end" }, "?from=0")).status).toBe(400);
  expect((await ask({ method: "POST", body: "{}\n" }, "?from=0")).status).toBe(422);
  expect((await ask({ method: "POST", body: "{}\n" }, "?from=7")).status).toBe(409);
  const journal = await open({ dir: s.dir, signer: s.signer });
  await decisions(journal, 5);
  await journal.close();
  const body = `${linesOf(s.dir).join("\n")}\n`;
  expect((await ask({ method: "POST", body }, "?from=0")).status).toBe(200);
});

test("the server takes one request of a guardian at a time, and not more of all than it can hold", async () => {
  const s = await scene();
  const gates = Promise.withResolvers<void>();
  const seen = { taken: 0 };
  const ledger = ledgerOver(s.store, s.ledger.keys);
  const server = await serveLedger({
    ledger: {
      ...ledger,
      accept: async () => {
        seen.taken++;
        await gates.promise;
        return { ok: true, count: 0 };
      },
    },
    podOf: async (token) => token,
    host: "127.0.0.1",
    port: 0,
  });
  cleanup.push(() => server.stop());
  const post = (pod: string, size: number) =>
    fetch(`http://127.0.0.1:${server.port}/v1/ledger?from=0`, {
      method: "POST",
      body: `${"x".repeat(size)}\n`,
      headers: { authorization: `Bearer ${pod}` },
    });
  const large = 15 << 20;
  const first = [post("a", large), post("b", large), post("c", large)];
  for (let i = 0; i < 3000 && seen.taken < 3; i++) await new Promise((r) => setTimeout(r, 10));
  expect(seen.taken).toBe(3);
  expect((await post("a", 10)).status).toBe(503);
  expect((await post("d", large)).status).toBe(503);
  gates.resolve();
  for (const answer of await Promise.all(first)) expect(answer.status).toBe(200);
  expect((await post("a", 10)).status).toBe(200);
  // A half request that its guardian has given up does not keep it away.
  const half = request({
    port: server.port,
    path: "/v1/ledger?from=0",
    method: "POST",
    headers: { authorization: "Bearer f" },
  });
  half.on("error", () => undefined);
  half.write("x");
  await new Promise((r) => setTimeout(r, 200));
  expect((await post("f", 10)).status).toBe(200);
  expect((await post("e", 17 << 20)).status).toBe(413);
});
