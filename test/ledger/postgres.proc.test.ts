import { openStore } from "../../operator/ledger/ledger.ts";
import { ledgerContract } from "./contract.ts";
import { startPostgres } from "./postgres.ts";

ledgerContract("PostgreSQL", async () => {
  const server = await startPostgres();
  return {
    open: () => openStore(server.url),
    other: () => openStore(server.url.replace("/postgres?", "/template1?")),
    remove: () => server.remove(),
  };
});
