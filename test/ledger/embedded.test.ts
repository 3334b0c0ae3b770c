import { rmSync } from "node:fs";
import { openStore } from "../../operator/ledger/ledger.ts";
import { newFolder } from "../journal/scene.ts";
import { ledgerContract } from "./contract.ts";

ledgerContract("the embedded store", async () => {
  const folder = newFolder();
  return {
    open: () => openStore(folder),
    other: () => openStore(`${folder}/other`),
    remove: async () => rmSync(folder, { recursive: true, force: true }),
  };
});
