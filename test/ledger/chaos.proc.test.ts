// Seconds of what test/long/ledger-chaos.ts does for ten minutes.
import { rmSync } from "node:fs";
import { expect, test } from "vitest";
import { newFolder } from "../journal/scene.ts";
import { chaos } from "./chaos/chaos.ts";
import { startPostgres } from "./postgres.ts";

test("guardian and embedded ledger killed at random: what was acknowledged is there once and in order", async () => {
  const folder = newFolder();
  const report = await chaos({ seconds: 14, durability: "local", store: folder });
  rmSync(folder, { recursive: true, force: true });
  console.log(JSON.stringify(report));
  expect(report.wrong).toEqual([]);
  expect(report.guardianKills + report.ledgerKills).toBeGreaterThan(0);
  expect(report.acknowledged).toBeGreaterThan(0);
});

test("the same with PostgreSQL, whose server is killed too, and calls that wait for the ledger", async () => {
  const server = await startPostgres();
  try {
    const report = await chaos({
      seconds: 14,
      durability: "ledger",
      store: server.url,
      shake: async () => {
        await server.kill();
        await server.start();
      },
    });
    console.log(JSON.stringify(report));
    expect(report.wrong).toEqual([]);
    expect(report.guardianKills + report.ledgerKills).toBeGreaterThan(0);
    expect(report.acknowledged).toBeGreaterThan(0);
  } finally {
    await server.remove();
  }
});

test("a program that does not start ends it at once, with its name and its words", async () => {
  const nowhere = chaos({ seconds: 600, durability: "local", store: "postgres://127.0.0.1:1/none" });
  await expect(nowhere).rejects.toThrow(/^the ledger ended with 1 before it worked: [^]*ECONNREFUSED/);
});
