// Guardian, ledger and database killed at random under load, for ten minutes each with both stores and both
// durabilities; the ledger is away once for as long as is said.
//
//   node test/long/ledger-chaos.ts [--seconds 600] [--outage 300] [--runs embedded-local,embedded-ledger,postgres-local,postgres-ledger]
//
// Needs Debian's `postgresql` for the runs with it. Exits 1 when something acknowledged is not in the ledger once and in
// order, or a ledger does not verify.
import { rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { newFolder } from "../journal/scene.ts";
import { chaos } from "../ledger/chaos/chaos.ts";
import { startPostgres } from "../ledger/postgres.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "600" },
    outage: { type: "string", default: "300" },
    runs: { type: "string", default: "embedded-local,embedded-ledger,postgres-local,postgres-ledger" },
    help: { type: "boolean", short: "h" },
  },
});
if (values.help === true) {
  console.log(
    "usage: node test/long/ledger-chaos.ts [--seconds 600] [--outage 300] [--runs embedded-local,…]",
  );
  process.exit(0);
}
for (const run of values.runs.split(",")) {
  const durability = run.endsWith("-ledger") ? "ledger" : "local";
  const server = run.startsWith("postgres") ? await startPostgres() : undefined;
  const folder = newFolder();
  const report = await chaos({
    seconds: Number(values.seconds),
    durability,
    store: server?.url ?? folder,
    ...(Number(values.outage) > 0 ? { outageSeconds: Number(values.outage) } : {}),
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
