// Writes decisions into a journal until it dies, and says on its output what was acknowledged: `A hash`. It waits for a
// line with the folder, so that it can be started before it is needed.
import { randomBytes } from "node:crypto";
import { readFileSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { effectDraft } from "../../../sidecar/govern/govern.ts";
import { signerFromPem } from "../../../kernel/crypto/crypto.ts";
import { createStanding } from "../../../sidecar/guard/standing.ts";
import { diskAt, openJournal } from "../../../sidecar/journal/journal.ts";
import type { Disk } from "../../../sidecar/journal/journal.ts";
import { receiptBody } from "../../../kernel/receipts/receipts.ts";
import { makeId, timestampOf } from "../../../kernel/contracts/contracts.ts";
import { JOURNAL } from "./options.ts";
import { input, receipt, session } from "../scene.ts";

/** A disk that says that it has synced and has not. */
function lying(disk: Disk): Disk {
  return {
    ...disk,
    syncNames: () => Promise.resolve(),
    open: (name, how) => ({ ...disk.open(name, how), sync: () => Promise.resolve() }),
  };
}

const [pemFile = "", sync = "honest"] = process.argv.slice(2);
const signer = signerFromPem(readFileSync(pemFile, "utf8"));
const { value: dir = "" } = await createInterface(process.stdin)[Symbol.asyncIterator]().next();
const disk = diskAt(dir);
const journal = await openJournal({
  ...JOURNAL,
  dir,
  signer,
  clock: Date.now,
  random: (n) => randomBytes(n),
  standing: createStanding(() => true),
  disk: sync === "lying" ? lying(disk) : disk,
});
const told = (hashes: readonly string[]): void =>
  void writeSync(1, hashes.map((hash) => `A ${hash}\n`).join(""));
// What the last power loss has left open, as a guardian closes it.
let n = randomBytes(4).readUInt32BE(0);
async function work(w: number): Promise<void> {
  for (;;) {
    const at = n++ % 0xffffffff;
    const facts = input(at);
    const permit = receipt(at, {
      effect_id: makeId("eff", randomBytes(16)),
      receipt_id: makeId("rcp", randomBytes(16)),
      args_hash: facts.hash,
      facts_hash: facts.hash,
    });
    const intent = journal.append(
      [
        {
          kind: "INTENT",
          session_id: session(w),
          parents: [],
          issued_at: timestampOf(Date.now()),
          body: receiptBody(permit),
        },
      ],
      [facts],
    );
    await intent.durable;
    told(intent.nodes.map((sealed) => sealed.hash));
    const [sealed] = intent.nodes;
    if (sealed === undefined) return;
    const effect = journal.append(
      [effectDraft({ sealed, receipt: permit }, Date.now(), { status: "SUCCEEDED", code: "" })],
      [],
    );
    await effect.durable;
    told(effect.nodes.map((node) => node.hash));
  }
}
await Promise.all(Array.from({ length: 6 }, (_, w) => work(w))).catch(() => undefined);
// The disk is gone: whoever has switched it off ends this process.
setInterval(() => undefined, 60_000);
