// A clock that is set by ten years either way under load: order stays, and the jump is in the log.
import { expect, test } from "vitest";
import { verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { verifyStore } from "../../kernel/evidence/evidence.ts";
import { watchClock } from "../../sidecar/guard/clock.ts";
import { readJournal } from "../../sidecar/journal/journal.ts";
import { decisions, newFolder, newSigner, open } from "./scene.ts";

test("jumps of ten years leave order and chains as they are and are recorded, and a steady clock records nothing", async () => {
  const dir = newFolder();
  const signer = newSigner();
  let wall = 1_800_000_000_000;
  let steady = 0;
  const journal = await open({ dir, signer, clock: () => wall, checkpointNodes: 10 });
  const look = watchClock({
    journal,
    session: journal.ownSession,
    wall: () => wall,
    monotonic: () => steady,
  });
  const pass = (ms: number, jump = 0): void => {
    steady += ms;
    wall += ms + jump;
    look();
  };
  const TEN_YEARS = 315_576_000_000;
  for (let round = 0; round < 6; round++) {
    await decisions(journal, 12, { from: round * 12 });
    pass(1000);
    pass(1000, round % 2 === 0 ? TEN_YEARS : -TEN_YEARS);
    pass(1000, 150);
  }
  await journal.close();
  const reading = readJournal(dir);
  const verifier = verifierFromRaw(signer.publicKey);
  const report = verifyStore(reading.records(), () => verifier, reading.live);
  expect(report.nodes).toBe(journal.treeSize);
  const again = await open({ dir, signer, clock: () => wall });
  const jumps = [...again.entries()].flatMap((e) =>
    e.kind === "node" && e.sealed.node.body["event"] === "CLOCK_JUMP"
      ? [e.sealed.node.body["milliseconds"]]
      : [],
  );
  expect(jumps).toEqual([1, -1, 1, -1, 1, -1].map((sign) => sign * TEN_YEARS));
  await again.close();
});
