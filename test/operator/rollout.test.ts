import { expect, test } from "vitest";
import { beginStage, choosePods, judgeStage } from "../../operator/rollout/rollout.ts";
import type { StagedPod } from "../../operator/rollout/rollout.ts";

const NEW = "sha256:new";
const OLD = "sha256:old";
const pod = (uid: string, hash: string, total = 0, denied = 0, errors = 0, at = 60_000): StagedPod => ({
  uid,
  hash,
  totals: { total, denied, errors },
  at,
});
const rollout = {
  strategy: "Staged",
  percent: 25,
  band: { denyPercent: 10, errorPercent: 5, seconds: 60 },
} as const;
const begin = (pods: readonly StagedPod[]) => {
  const stage = beginStage(NEW, pods, 25, 0);
  if (stage === undefined) throw new Error("no stage");
  return stage;
};
const four = ["a", "b", "c", "d"].map((uid) => pod(uid, OLD));

test("a share of the pods is taken, at least one, and the same ones each time", () => {
  expect([...choosePods(["d", "c", "b", "a"], 50)]).toEqual(["a", "b"]);
  expect([...choosePods(["b", "a"], 1)]).toEqual(["a"]);
  expect(beginStage(NEW, [], 25, 0)).toBeUndefined();
});
test("inside the band it holds, and after its time it commits", () => {
  const stage = begin(four);
  const pods = [pod("a", NEW, 100, 5), ...four.slice(1)];
  expect(judgeStage(stage, pods, rollout, 1000)).toMatchObject({ kind: "hold", againMs: 2000 });
  expect(judgeStage(stage, pods, rollout, 60_000).kind).toBe("commit");
});
test("denied calls above the band roll it back at once", () => {
  const stage = begin(four);
  expect(judgeStage(stage, [pod("a", NEW, 100, 50), ...four.slice(1)], rollout, 1000)).toMatchObject({
    kind: "rollback",
    message: expect.stringContaining("denied 50.0 %"),
  });
});
test("failed calls above the band roll it back at once", () => {
  const stage = begin(four);
  expect(judgeStage(stage, [pod("a", NEW, 100, 0, 6), ...four.slice(1)], rollout, 1000).kind).toBe(
    "rollback",
  );
  expect(judgeStage(stage, [pod("a", NEW, 100, 0, 5), ...four.slice(1)], rollout, 1000).kind).toBe("hold");
});
test("what all pods see is no reason: the others are the measure", () => {
  const stage = begin(four);
  const everybody = [pod("a", NEW, 100, 50), pod("b", OLD, 100, 48), pod("c", OLD, 100, 50), pod("d", OLD)];
  expect(judgeStage(stage, everybody, rollout, 1000).kind).toBe("hold");
});
test("of a single pod its own past is the measure", () => {
  const one = [pod("a", OLD, 100, 30)];
  const stage = begin(one);
  expect(judgeStage(stage, [pod("a", NEW, 200, 65)], rollout, 1000).kind).toBe("hold");
  expect(judgeStage(stage, [pod("a", NEW, 200, 75)], rollout, 1000).kind).toBe("rollback");
});
test("a few calls say nothing, and what was counted before the stage does not count", () => {
  const stage = begin([pod("a", OLD, 50, 50), ...four.slice(1)]);
  expect(judgeStage(stage, [pod("a", NEW, 59, 59), ...four.slice(1)], rollout, 1000).kind).toBe("hold");
});
test("a guardian that has restarted counts from nothing", () => {
  const stage = begin([pod("a", OLD, 1000), ...four.slice(1)]);
  expect(judgeStage(stage, [pod("a", NEW, 20, 20), ...four.slice(1)], rollout, 1000).kind).toBe("rollback");
});
test("what a staged pod does not take up is not given to the rest", () => {
  const stage = begin(four);
  expect(judgeStage(stage, four, rollout, 60_000)).toMatchObject({
    kind: "rollback",
    message: expect.stringContaining("not taken up"),
  });
});
test("when the staged pods are gone the rest follows", () => {
  const stage = begin(four);
  expect(judgeStage(stage, four.slice(1), rollout, 60_000).kind).toBe("commit");
});

test("a report from before the end is waited for, and a pod that stays silent ends the rollout", () => {
  const stage = begin(four);
  const pods = [pod("a", NEW, 100, 0, 0, 59_000), ...four.slice(1)];
  expect(judgeStage(stage, pods, rollout, 61_000)).toMatchObject({
    kind: "hold",
    message: expect.stringContaining("have still to report"),
  });
  expect(judgeStage(stage, pods, rollout, 120_000).kind).toBe("rollback");
});
