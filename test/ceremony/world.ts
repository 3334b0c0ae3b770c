// A guardian with a two-of-three ceremony whose clocks the test holds.

import type { ApprovalId, Facts, JsonObject, Policy } from "../../kernel/contracts/contracts.ts";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import { createCeremonies } from "../../kernel/escalation/ceremony/ceremony.ts";
import type { Ceremonies } from "../../kernel/escalation/ceremony/ceremony.ts";
import { createExecutor } from "../../kernel/executor/executor.ts";
import type { Executor, Result } from "../../kernel/executor/executor.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { trustRoots } from "../../kernel/trust/trust.ts";
import { callOf, factsOf, memoryJournal, quickSigner, sampleDoc } from "../guardian/sample.ts";
import { quickKey } from "../quick-key.ts";

export const approvers = ["ann", "bob", "cyd"].map(quickKey);
export const overrider = quickKey("oda");
export const bundleKey = quickKey("bundle");
const roots = trustRoots([
  ...approvers.map((k) => ({ role: "approver" as const, keyId: k.keyId, verifier: k })),
  { role: "override", keyId: overrider.keyId, verifier: overrider },
  { role: "policy", keyId: bundleKey.keyId, verifier: bundleKey },
]);

export const ceremonyDoc = (over: JsonObject = {}): JsonObject => ({
  ...sampleDoc,
  approvals: {
    one: {
      approvers: [...approvers.map((k) => k.keyId), bundleKey.keyId],
      quorum: 2,
      timelockSeconds: 60,
      holdSeconds: 3,
      expiresSeconds: 900,
      maxPerHour: 6,
      ...over,
    },
  },
});
const START = Date.parse("2026-11-18T10:00:00.000Z");

const compiled = new Map<string, Policy>();
function policyOf(doc: JsonObject): Policy {
  const name = JSON.stringify(doc);
  const policy = compiled.get(name) ?? compilePolicy(doc, { keys: roots });
  compiled.set(name, policy);
  return policy;
}

export function world(doc: JsonObject = ceremonyDoc()) {
  let policy = policyOf(doc);
  const journal = memoryJournal(() => false, quickSigner);
  let wall = START;
  let mono = 5_000;
  let boot = "boot-1";
  let counter = 0;
  let dispatched = 0;
  const random = () => {
    const bytes = new Uint8Array(16);
    new DataView(bytes.buffer).setUint32(0, ++counter);
    return bytes;
  };
  let ceremonies: Ceremonies;
  let executor: Executor;
  const start = (): void => {
    ceremonies = createCeremonies({
      journal,
      random,
      clock: { now: () => wall, monotonic: () => mono, bootId: boot },
    });
    const made = ceremonies;
    for (const sealed of journal.nodes) made.restore(sealed, policy);
    executor = createExecutor({
      journal,
      random,
      clock: { now: () => wall, after: () => () => {} },
      spendApproval: ({ facts }) => {
        if (facts.approval.state === "granted") made.spend(facts.approval.id);
      },
      refusalTold: (id) => made.told(id),
    });
  };
  start();
  const release = (args: JsonObject) => callOf("tool:github/create_release", args);
  return {
    journal,
    get ceremonies() {
      return ceremonies;
    },
    get policy() {
      return policy;
    },
    get dispatched() {
      return dispatched;
    },
    get wall() {
      return wall;
    },
    pass(ms: number) {
      wall += ms;
      mono += ms;
    },
    jump: (ms: number) => (wall += ms),
    restart(newBoot = false) {
      if (newBoot) boot = `${boot}+`;
      start();
    },
    swap(next: JsonObject) {
      policy = policyOf(next);
      ceremonies.policyChanged(policy);
    },
    async call(
      args: JsonObject = { repo: "acme/web", title: "v1" },
      over: Partial<Facts> = {},
    ): Promise<Result> {
      const call = release(args);
      const gather = (): Facts => {
        const base = factsOf(policy, { now: timestampOf(wall), ...over });
        const session = { ...base.session, openedAt: base.now };
        const facts = { ...base, session };
        return { ...facts, approval: ceremonies.fact(call, facts, policy) };
      };
      const result = await executor.run({
        call,
        policy: () => policy,
        gather,
        dispatch: async () => {
          dispatched++;
          return { status: "succeeded", output: {} };
        },
      });
      if (result.kind === "escalated")
        await ceremonies.open(call, result.facts, policy, result.verdict.ceremony, result.node);
      return result;
    },
    waiting(): ApprovalId {
      const found = ceremonies.all.find((a) => a.state === "pending" || a.state === "granted");
      if (found === undefined) throw new Error("nothing waits");
      return found.id;
    },
  };
}
export const codeOf = (r: Result): string =>
  r.kind === "done" ? "done" : r.kind === "escalated" ? "escalated" : r.code;
