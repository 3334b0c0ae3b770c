// A disk that fails: on its first, second, third … step, once or until the cause goes.
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createExecutor } from "../../kernel/executor/executor.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { openJournal } from "../../sidecar/journal/journal.ts";
import type { Disk, OpenJournal } from "../../sidecar/journal/journal.ts";
import { callOf, factsOf, sampleDoc } from "../guardian/sample.ts";
import { attestation, newSigner, session } from "./scene.ts";
import { tape } from "./tape.ts";

const policy = compilePolicy(sampleDoc);
const signer = newSigner();
const opened = (disk: Disk): Promise<OpenJournal> =>
  openJournal({
    dir: "/nowhere",
    signer,
    podUid: "pod",
    clock: () => 1_800_000_000_000,
    random: (n: number) => randomBytes(n),
    disk,
    lock: () => () => undefined,
    segmentBytes: 12 << 10,
    checkpointNodes: 6,
    checkpointMs: 3_600_000,
  });

interface Seen {
  readonly codes: Set<string>;
  readonly dispatched: string[];
  readonly done: string[];
}
async function calls(journal: OpenJournal, count: number, seen: Seen): Promise<boolean> {
  const executor = createExecutor({
    journal,
    clock: { now: () => Date.parse("2026-11-18T10:00:00.000Z"), after: () => () => undefined },
    random: () => randomBytes(16),
  });
  for (let n = 0; n < count && executor.healthy; n++) {
    const refused = n % 4 === 3;
    const told = await executor.run({
      call: callOf("tool:github/create_issue", {
        repo: refused ? "evil/x" : "acme/x",
        title: `${seen.done.length} ${n}`,
      }),
      policy: () => policy,
      gather: () => factsOf(policy),
      dispatch: (permit) => {
        seen.dispatched.push(permit.call.argsHash);
        return Promise.resolve({ status: "succeeded", output: { number: n } });
      },
    });
    if (told.kind === "done") seen.done.push(told.node.hash);
    else if (told.kind === "denied" && told.node !== null) seen.done.push(told.node.hash);
    else if ("code" in told) seen.codes.add(told.code);
  }
  return executor.healthy;
}

const met = new Set<string>();
/** What is wrong after a fault at step `at`, "" when nothing is. */
async function withFault(code: string, at: number, persistent: boolean): Promise<string> {
  let begun = false;
  let gone = false;
  let counted = 0;
  const t = tape({
    fault(step) {
      if (!begun || gone) return;
      const n = counted++;
      if (n === at || (persistent && n > at)) throw Object.assign(new Error(`${code}: ${step.op}`), { code });
    },
  });
  const journal = await opened(t.disk);
  const seen: Seen = { codes: new Set(), dispatched: [], done: [] };
  begun = true;
  await calls(journal, 9, seen);
  gone = true;
  for (const found of seen.codes) met.add(found);
  // The cause has gone: the service comes back by itself.
  for (let i = 0; i < 400 && journal.state().state !== "open"; i++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  const state = journal.state();
  if (state.state !== "open") return `the journal is ${state.state}`;
  if (!(await calls(journal, 3, seen))) return "calls fail after the cause has gone";
  await journal.append([attestation(session(5), 1)], []).durable;
  await journal.close();
  for (const found of seen.codes)
    if (found !== "JOURNAL_UNAVAILABLE" && found !== "ERR_RECEIPT_UNSEALED") return `code ${found}`;
  const again = await opened(t.disk);
  const hashes = new Set<string>();
  const intents = new Set<string>();
  for (const entry of again.entries()) {
    if (entry.kind !== "node") continue;
    hashes.add(entry.sealed.hash);
    if (entry.sealed.node.kind === "INTENT") intents.add(parseReceipt(entry.sealed.node.body).args_hash);
  }
  await again.close();
  for (const hash of seen.done) if (!hashes.has(hash)) return `acknowledged and lost: ${hash}`;
  for (const args of seen.dispatched) if (!intents.has(args)) return "an effect without an intent";
  return seen.done.length > 2 ? "" : "nothing was done at all";
}

describe("a disk that fails (4.1)", () => {
  for (const code of ["ENOSPC", "EIO", "EROFS", "EMFILE"])
    test(`with ${code} at any step: documented codes, no effect without an intent, and service again`, async () => {
      const wrong: string[] = [];
      const points = [
        ...Array.from({ length: 34 }, (_, at) => ({ at, persistent: false })),
        ...Array.from({ length: 12 }, (_, n) => ({ at: n * 3, persistent: true })),
      ];
      await Promise.all(
        points.map(async ({ at, persistent }) => {
          const said = await withFault(code, at, persistent);
          if (said !== "") wrong.push(`${persistent ? "from" : "at"} step ${at}: ${said}`);
        }),
      );
      expect(wrong).toEqual([]);
      // The faults were felt: before an effect, and between it and its record.
      expect([...met].toSorted()).toEqual(["ERR_RECEIPT_UNSEALED", "JOURNAL_UNAVAILABLE"]);
    });
});
