// `atoll decide`: the pure decision over files, for whoever wants to know what a policy does with one call.

import { parseArgs } from "node:util";
import { LIMITS } from "../kernel/contracts/contracts.ts";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import { hashJson } from "../kernel/crypto/crypto.ts";
import { decide } from "../kernel/guardian/guardian.ts";
import type { Verdict } from "../kernel/guardian/guardian.ts";
import { compilePolicy, completeFacts, parseCall } from "../kernel/policy/policy.ts";
import { documentAt, valueAt } from "./document.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";

const USAGE = `usage: atoll decide --bundle FILE [--ceiling FILE] --call FILE [--facts FILE] [--json]
  --bundle   a PolicyBundle, or a policy document (a file or a folder of YAML or JSON)
  --ceiling  the same of the P0 layer
  --call     {tool, args?, source?}
  --facts    what differs from a quiet, healthy guardian; without it nothing does
exit 0 ALLOW, 3 DENY, 4 ESCALATE, 2 bad input
signatures are not looked at here; \`atoll bundle verify\` does that`;

const EXITS = { ALLOW: 0, DENY: 3, ESCALATE: 4 } as const;

export async function decideCall(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      bundle: { type: "string" },
      ceiling: { type: "string" },
      call: { type: "string" },
      facts: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (values.bundle === undefined || values.call === undefined)
    throw new UsageError("`--bundle` and `--call` are needed", USAGE);
  const ceiling = values.ceiling === undefined ? {} : { ceiling: documentAt(values.ceiling) };
  const policy = compilePolicy(documentAt(values.bundle), ceiling);
  const call = parseCall(valueAt(values.call, LIMITS.args));
  const facts = completeFacts(
    policy,
    call,
    values.facts === undefined ? {} : valueAt(values.facts, LIMITS.policy),
  );
  const verdict = decide(call, policy, facts);
  const report = reportOf(verdict, {
    tool: call.target,
    args_hash: call.argsHash,
    policy_hash: policy.hash,
    ceiling_hash: policy.ceilingHash,
    facts_hash: hashJson(facts),
  });
  io.stdout.write(values.json === true ? `${JSON.stringify(report)}\n` : inWords(verdict));
  return EXITS[verdict.verdict];
}

/** The members of \`--json\`, always all of them and in this order. */
function reportOf(verdict: Verdict, hashes: JsonObject): JsonObject {
  return {
    verdict: verdict.verdict,
    reason_code: verdict.verdict === "ALLOW" ? "" : verdict.code,
    detail: verdict.verdict === "ALLOW" ? "" : verdict.detail,
    rule_id: verdict.ruleId,
    effect_class: verdict.effect,
    gates: verdict.gates,
    ceremony: verdict.verdict === "ESCALATE" ? verdict.ceremony.name : "",
    shadows: verdict.shadows.map((s) => ({ rule_id: s.ruleId, would: s.would })),
    ...hashes,
  };
}

function inWords(verdict: Verdict): string {
  const rule = verdict.ruleId === "" ? "" : ` by rule ${verdict.ruleId}`;
  const shadows = verdict.shadows.map((s) => `  in shadow, ${s.ruleId} would ${s.would}\n`).join("");
  if (verdict.verdict === "ALLOW") return `ALLOW${rule}\n${shadows}`;
  return `${verdict.verdict} ${verdict.code}${rule} at gate ${verdict.gates.at(-1) ?? "none"}: ${verdict.detail}\n${shadows}`;
}
