// What is killed: a guardian's executor over a journal, an export, a condensation, or a recovery. It says on its
// fourth descriptor what the world outside has seen: `D effect` when something is done, `A hash` when a record was
// acknowledged.
import { randomBytes } from "node:crypto";
import { readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { writeJournalPack } from "../../../cli/export.ts";
import { makeId } from "../../../kernel/contracts/contracts.ts";
import type { SessionId } from "../../../kernel/contracts/contracts.ts";
import { signerFromPem } from "../../../kernel/crypto/crypto.ts";
import { createExecutor } from "../../../kernel/executor/executor.ts";
import { compilePolicy } from "../../../kernel/policy/policy.ts";
import { createStanding } from "../../../sidecar/guard/standing.ts";
import { openJournal } from "../../../sidecar/journal/journal.ts";
import { countCalls } from "./calls.ts";
import { callOf, factsOf, sampleDoc } from "../../guardian/sample.ts";

const [path = "", dir = "", count = "0", width = "1"] = process.argv.slice(2);
const signer = signerFromPem(readFileSync(join(dir, "guardian.pem"), "utf8"));
// What the world sees is none of the calls that are counted.
const write = writeSync.bind(undefined);
const say = (line: string): void => void write(3, `${line}\n`);
const calls = countCalls(Number(process.env["ATOLL_KILL_AT"] ?? 0));
process.on("exit", () => say(`N ${calls()}`));

export const journalOptions = {
  podUid: "pod",
  clock: Date.now,
  random: (n: number) => randomBytes(n),
  segmentBytes: 48 << 10,
  checkpointNodes: 25,
  checkpointMs: 3_600_000,
  snapshotRecords: 60,
};

async function run(decisions: number, concurrent: number): Promise<void> {
  const policy = compilePolicy(sampleDoc);
  const journal = await openJournal({ ...journalOptions, dir, signer, standing: createStanding(() => true) });
  const executor = createExecutor({
    journal,
    clock: { now: Date.now, after: () => () => undefined },
    random: () => randomBytes(16),
    listen: ({ node }) => say(`A ${node.hash}`),
  });
  const session = (n: number): SessionId => makeId("ses", new Uint8Array(16).fill(n));
  const decide = async (n: number): Promise<void> => {
    const facts = factsOf(policy);
    const refused = n % 3 === 0;
    await executor.run({
      call: callOf("tool:github/create_issue", {
        repo: refused ? "evil/web" : "acme/web",
        title: `issue ${n}`,
      }),
      policy: () => policy,
      gather: () => ({ ...facts, session: { ...facts.session, id: session(n % 3), calls: n } }),
      dispatch: (permit) => {
        say(`D ${permit.call.argsHash}`);
        return Promise.resolve({ status: "succeeded", output: { number: n } });
      },
    });
  };
  for (let n = 0; n < decisions; n += concurrent)
    await Promise.all(Array.from({ length: Math.min(concurrent, decisions - n) }, (_, i) => decide(n + i)));
  await journal.close();
}

switch (path) {
  case "run":
    await run(Number(count), Number(width));
    break;
  case "export":
    await writeJournalPack({ dir, signer, file: join(dir, "..", "pack.tar") });
    say("A pack");
    break;
  case "condense":
    await writeJournalPack({ dir, signer, file: join(dir, "..", "pack.tar"), condense: {} });
    say("A pack");
    break;
  case "recover":
    await openJournal({ ...journalOptions, dir, signer, standing: createStanding(() => true) });
    say("A open");
    process.exit(0);
    break;
  default:
    throw new Error(`no path \`${path}\``);
}
