// Guardian, ledger and database killed at random under load, for ten minutes each with both stores and both
// durabilities; the ledger is away once for as long as is said.
//
//   node test/long/ledger-chaos.ts [--seconds 600] [--outage 300] [--runs embedded-local,embedded-ledger,postgres-local,postgres-ledger]
//
// Needs Debian's `postgresql` for the runs with it. Exits 1 when something acknowledged is not in the ledger once and in
// order, or a ledger does not verify.
import { rmSync } from "node:fs";
import { asked, someOf, amount } from "../../kind-e2e/asked.ts";
import { newFolder } from "../journal/scene.ts";
import { chaos } from "../ledger/chaos/chaos.ts";
import { startPostgres } from "../ledger/postgres.ts";

const wish = asked(
  "usage: node test/long/ledger-chaos.ts [--seconds 600] [--outage 300] [--runs embedded-local,…]",
  {
    seconds: amount(600, 1),
    outage: 300,
    runs: someOf("embedded-local", "embedded-ledger", "postgres-local", "postgres-ledger"),
  },
);
for (const run of wish.runs) {
  const durability = run.endsWith("-ledger") ? "ledger" : "local";
  const server = run.startsWith("postgres") ? await startPostgres() : undefined;
  const folder = newFolder();
  const report = await chaos({
    seconds: wish.seconds,
    durability,
    store: server?.url ?? folder,
    ...(wish.outage > 0 ? { outageSeconds: wish.outage } : {}),
    ...(server === undefined
      ? {}
      : {
          shake: async () => {
            await server.kill();
            await server.start();
          },
        }),
  });
  await server?.remove();
  rmSync(folder, { recursive: true, force: true });
  console.log(run, JSON.stringify(report));
  if (report.wrong.length > 0) process.exitCode = 1;
}
