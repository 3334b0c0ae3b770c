// Approvals as the guardian keeps them: the kernel's ceremonies with the clock of this boot.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isId } from "../../kernel/contracts/contracts.ts";
import type { Journal, JsonObject } from "../../kernel/contracts/contracts.ts";
import { createCeremonies } from "../../kernel/escalation/ceremony/ceremony.ts";
import type { Approval, Ceremonies } from "../../kernel/escalation/ceremony/ceremony.ts";
import type { Approvals } from "../govern/govern.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";

/** The machine's boot: another one ends every approval. Where it cannot be known, each process is a boot of its own. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return randomBytes(16).toString("hex");
  }
}

export function openCeremonies(journal: Journal, telemetry: Telemetry): Ceremonies {
  const ceremonies = createCeremonies({
    journal,
    clock: {
      now: Date.now,
      monotonic: () => Math.floor(Number(process.hrtime.bigint() / 1_000_000n)),
      bootId: bootId(),
    },
    random: () => randomBytes(16),
  });
  const count = <T>(result: T): T => {
    telemetry.gauge("reviewsOpen", ceremonies.all.filter((a) => a.reviewOpen).length);
    return result;
  };
  return {
    ...ceremonies,
    get all() {
      return ceremonies.all;
    },
    answer: async (id, assertion) => count(await ceremonies.answer(id, assertion)),
    review: async (id, review, policy) => count(await ceremonies.review(id, review, policy)),
    restore(sealed, policy) {
      ceremonies.restore(sealed, policy);
      const { type } = sealed.node.body;
      if (type === "atoll.dev/override/v1" || type === "atoll.dev/review/v1") count(type);
    },
  };
}

const after = (ms: number, run: () => void): (() => void) => {
  const timer = setTimeout(run, Math.min(ms, 2 ** 31 - 1)).unref();
  return () => clearTimeout(timer);
};

export function approvalsOf(ceremonies: Ceremonies, opened: (approval: Approval) => void): Approvals {
  return {
    fact: (call, facts, policy) => ceremonies.fact(call, facts, policy),
    spend(permit) {
      const { approval } = permit.facts;
      if (approval.state !== "granted") throw new Error("the permit has no approval");
      ceremonies.spend(approval.id);
    },
    told: (id) => {
      if (isId("apr", id)) ceremonies.told(id);
    },
    async open(escalated, call, policy) {
      const result = await ceremonies.open(
        call,
        escalated.facts,
        policy,
        escalated.verdict.ceremony,
        escalated.node,
      );
      if (result.state === "limited") return { limited: result.reason };
      if (result.fresh) opened(result.approval);
      return { object: approvalObject(result.approval) };
    },
    settled(id, ms, signal) {
      if (!isId("apr", id)) return Promise.resolve(false);
      const gone = new Promise<boolean>((resolve) =>
        signal.addEventListener("abort", () => resolve(false), { once: true }),
      );
      // Decided either way: what a refusal says, the identical call hears when it is judged again.
      const decided = ceremonies.settled(id, ms, after).then(() => ceremonies.get(id)?.state !== "pending");
      return Promise.race([decided, gone]);
    },
  };
}

/** What a client is told of an approval. */
export const approvalObject = (a: Approval): JsonObject => ({
  id: a.id,
  state: a.state,
  tool: a.tool,
  ceremony: a.ceremony.name,
  quorum: a.ceremony.quorum,
  approved_by: a.approvedBy,
  expires_at: a.expiresAt,
  how: `atoll approve ${a.id} --key FILE`,
});
