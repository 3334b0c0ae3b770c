// Idempotency keys whose calls outlive them, and records that no guardian wrote.

import { expect, test } from "vitest";
import { makeId } from "../../kernel/contracts/contracts.ts";
import type { Facts, JsonObject, SealedNode } from "../../kernel/contracts/contracts.ts";
import { createRepeats } from "../../kernel/executor/executor.ts";
import type { Result } from "../../kernel/executor/executor.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { factsOf } from "../guardian/sample.ts";
import { codeOf, issue, policy, scene, START } from "./scene.ts";

const DAY = 24 * 3_600_000;
const facts: Facts = { ...factsOf(policy), idempotencyKey: "k" };
const verdict = decide(issue, policy, facts);
const ids = (n: number) => ({
  effectId: makeId("eff", new Uint8Array(16).fill(n)),
  receiptId: makeId("rcp", new Uint8Array(16).fill(n)),
});
const failed: Result = {
  kind: "failed",
  code: "ERR_CONNECTOR_FAILED",
  detail: "",
  intent: ids(9).receiptId,
  receipt: null,
  node: null,
};
const settled = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await Promise.resolve();
};

test("a call that ends after its key was forgotten does not speak for the next holder of the key", async () => {
  for (const late of [failed, { ...failed, code: "POLICY_EPOCH_CHANGED" } as const]) {
    const repeats = createRepeats();
    const first = repeats.take(facts, issue, ids(1), START);
    expect(repeats.room(facts, START + DAY)).toBe(true);
    expect(repeats.find(facts, issue, verdict).state).toBe("new");
    repeats.take(facts, issue, ids(2), START + DAY);
    first.answer(Promise.resolve(late));
    await settled();
    const found = repeats.find(facts, issue, verdict);
    if (found.state !== "known") throw new Error(found.state);
    expect(await found.result).toMatchObject({ code: "ERR_OUTCOME_UNKNOWN", intent: ids(2).receiptId });
  }
});
test("a call that broke leaves its key free", async () => {
  const repeats = createRepeats();
  repeats.take(facts, issue, ids(1), START).answer(Promise.reject(new Error("broke")));
  await settled();
  expect(repeats.find(facts, issue, verdict).state).toBe("new");
});
test("an answer without a node is remembered as open", async () => {
  const repeats = createRepeats();
  repeats.take(facts, issue, ids(1), START).answer(Promise.resolve(failed));
  await settled();
  expect(JSON.stringify(repeats.export())).toContain('"open"');
});
test("without room for a key nothing is done under it", async () => {
  const s = scene({ options: { repeats: { ...createRepeats(), room: () => false } } });
  expect(codeOf(await s.run(issue, { idempotencyKey: "k" }))).toBe("denied OVERLOADED");
  expect(s.dispatched()).toBe(0);
});
test("a listener, a budget or an approval that fails does not fail the call", async () => {
  const s = scene({
    options: {
      listen: () => {
        throw new Error("deaf");
      },
    },
  });
  expect(codeOf(await s.run(issue))).toBe("done");
});

/** The records of one call under a key, as a restart reads them, with one body changed. */
async function restarted(change: (kind: string, body: JsonObject) => JsonObject) {
  const s = scene();
  await s.run(issue, { idempotencyKey: "k" });
  const repeats = createRepeats();
  for (const entry of s.entries) {
    if ("value" in entry) repeats.restoreInput(entry.value);
    else {
      const { node } = entry;
      const sealed: SealedNode = { ...entry, node: { ...node, body: change(node.kind, node.body) } };
      repeats.restore(sealed);
    }
  }
  const found = repeats.find(facts, issue, verdict);
  return found.state === "known" ? found.result : found.state;
}
test("a restart answers from the record, and what the record leaves open is unknown", async () => {
  expect(await restarted((_, body) => body)).toMatchObject({ kind: "done", forgotten: true });
  expect(
    await restarted((kind, body) =>
      kind === "EFFECT" ? { ...body, status: "FAILED", reason_code: "" } : body,
    ),
  ).toMatchObject({ kind: "failed", code: "ERR_OUTCOME_UNKNOWN" });
});
test("an INTENT with a key and without an effect is no record", async () => {
  await expect(
    restarted((kind, body) => (kind === "INTENT" ? { ...body, effect_id: "" } : body)),
  ).rejects.toThrow("INTENT: has a key and no effect");
});
