// A guardian's executor over a journal that is shipped: works until it is killed, and starts again where it was. Says on
// its fourth descriptor what the world has seen: `A hash` for what was acknowledged, `D key` for what was done, `X code`
// for a call that was refused for the ledger's or the journal's sake.
import { randomBytes } from "node:crypto";
import { readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { makeId } from "../../../kernel/contracts/contracts.ts";
import { signerFromPem } from "../../../kernel/crypto/crypto.ts";
import { createExecutor } from "../../../kernel/executor/executor.ts";
import { compilePolicy } from "../../../kernel/policy/policy.ts";
import { createStanding } from "../../../sidecar/guard/standing.ts";
import { openJournal } from "../../../sidecar/journal/journal.ts";
import { createShipper, httpsLink, shippedJournal } from "../../../sidecar/ship/ship.ts";
import type { Shipper } from "../../../sidecar/ship/ship.ts";
import { callOf, factsOf, sampleDoc } from "../../guardian/sample.ts";

const [dir = "", url = "", durability = "local", mode = "work"] = process.argv.slice(2);
const say = (line: string): void => void writeSync(3, `${line}\n`);
const signer = signerFromPem(readFileSync(join(dir, "guardian.pem"), "utf8"));
const policy = compilePolicy(sampleDoc);
let shipper: Shipper | undefined;
const standing = createStanding(() => true);
const journal = await openJournal({
  dir,
  standing,
  snapshotRecords: 500,
  signer,
  podUid: "pod",
  clock: Date.now,
  random: (n) => randomBytes(n),
  segmentBytes: 256 << 10,
  landed: () => shipper?.poke(),
});
shipper = createShipper({
  journal,
  link: httpsLink({ url, tokenFile: join(dir, "token"), caFile: "" }),
  log: (line) => process.stderr.write(`${line}\n`),
  lag: () => undefined,
  retryMs: 50,
});
const { unknown } = standing.restored(journal.ownSession, Date.now());
if (unknown.length > 0) await journal.append(unknown, []).durable;
const shipped = shippedJournal(journal, shipper, durability === "ledger" ? "ledger" : "local");
shipped.engage();

const executor = createExecutor({
  journal: shipped,
  clock: { now: Date.now, after: () => () => undefined },
  random: () => randomBytes(16),
  listen: ({ node }) => say(`A ${node.hash}`),
});
let stopped = mode !== "work";
const goesOn = (): boolean => !stopped && executor.healthy;
process.once("SIGTERM", () => {
  stopped = true;
});
const session = makeId("ses", randomBytes(16));
const decide = async (): Promise<void> => {
  const key = randomBytes(12).toString("hex");
  const facts = factsOf(policy);
  const told = await executor.run({
    call: callOf("tool:github/create_issue", { repo: Math.random() < 0.3 ? "evil/x" : "acme/x", title: key }),
    policy: () => policy,
    gather: () => ({ ...facts, session: { ...facts.session, id: session } }),
    dispatch: (permit) => {
      say(`D ${permit.call.argsHash}`);
      return Promise.resolve({ status: "succeeded", output: { number: 1 } });
    },
  });
  if (told.kind === "denied" && told.code === "JOURNAL_UNAVAILABLE") {
    say(`X ${told.code}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
async function work(): Promise<void> {
  while (goesOn()) {
    await decide();
    // A pace that leaves the machine to others.
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
}
await Promise.all(Array.from({ length: 4 }, work));
if (!executor.healthy) process.exit(3);
await journal.checkpoint();
// After an outage there is much to catch up with, and the machine may be busy.
const drained = await shipper.drain(mode === "work" ? 20_000 : 900_000);
shipper.stop();
await journal.close();
process.exit(drained ? 0 : 4);
