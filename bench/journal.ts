// Durable appends: 64 writers that share syncs against one record per sync, same code, same run, same disk.
//
//   node bench/journal.ts [--seconds 5] [--dir DIR]
//
// Bound: at 64 writers >= 25 times the appends of one record per sync. Never an acknowledgement before its sync: that is
// shown by test/journal (faults, power).
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asked, text, amount } from "../kind-e2e/asked.ts";
import type { OpenJournal } from "../sidecar/journal/journal.ts";
import { attestation, newSigner, open, session } from "../test/journal/scene.ts";

const wish = asked(
  `usage: node bench/journal.ts [--seconds 5] [--dir DIR]
exit 0 when 64 writers make 25 times the durable appends of one, 1 otherwise. A disk whose sync costs next to nothing leaves little to
share: there the records that share a sync, which are printed too, are the better figure.`,
  { seconds: amount(5, 1), dir: text(tmpdir()) },
);
const seconds = wish.seconds;
const home = mkdtempSync(join(wish.dir, "atoll-bench-journal-"));

async function rate(
  writers: number,
): Promise<{ readonly appends: number; readonly syncs: number; readonly perSecond: number }> {
  let syncs = 0;
  const journal: OpenJournal = await open({
    dir: mkdtempSync(join(home, "j-")),
    signer: newSigner(),
    segmentBytes: 8 << 20,
    landed: () => syncs++,
  });
  let appends = 0;
  const begun = performance.now();
  const until = begun + seconds * 1000;
  await Promise.all(
    Array.from({ length: writers }, async (_, w) => {
      for (let n = 0; performance.now() < until; n++) {
        await journal.append([attestation(session(w), n)], []).durable;
        appends++;
      }
    }),
  );
  const perSecond = appends / ((performance.now() - begun) / 1000);
  await journal.close();
  return { appends, syncs, perSecond };
}

await rate(8);
const rounds: number[] = [];
for (let round = 0; round < 3; round++) {
  const one = await rate(1);
  const many = await rate(64);
  rounds.push(many.perSecond / one.perSecond);
  console.log(
    `1 writer ${one.perSecond.toFixed(0)}/s (${one.syncs} syncs), 64 writers ${many.perSecond.toFixed(0)}/s (${many.syncs} syncs, ${(many.appends / many.syncs).toFixed(1)} records each): x ${(many.perSecond / one.perSecond).toFixed(1)}`,
  );
}
rounds.sort((a, b) => a - b);
const median = rounds[1] ?? 0;
console.log(`median x ${median.toFixed(1)} (>= 25)${median >= 25 ? "" : ": missed"}`);
process.exitCode = median >= 25 ? 0 : 1;
rmSync(home, { recursive: true, force: true });
