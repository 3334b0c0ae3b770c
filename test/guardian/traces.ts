// Ten thousand judgements and what they leave behind, as one hash: run by every major of Node that is at hand, it has
// to come out the same.

import * as fc from "fast-check";
import { hashJson, signerFromPem } from "../../kernel/crypto/crypto.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import { callOf } from "./sample.ts";
import { factsIn, policyOf, world } from "./worlds.ts";

const seed = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.alloc(32, 7)]);
const signer = signerFromPem(
  `-----BEGIN PRIVATE KEY-----\n${seed.toString("base64")}\n-----END PRIVATE KEY-----\n`,
);
const verdicts = new Map<string, number>();
let chain = "genesis";
let n = 0;
for (const w of fc.sample(world, { seed: 26, numRuns: 10_000 })) {
  const policy = policyOf(w.base, w.narrowing) ?? policyOf(w.base, -1);
  if (policy === null) throw new Error("a base that does not load");
  const call = callOf(w.target, w.args);
  const facts = factsIn(w, policy);
  const v = decide(call, policy, facts);
  const code = v.verdict === "ALLOW" ? "" : v.code;
  verdicts.set(`${v.verdict} ${code}`, (verdicts.get(`${v.verdict} ${code}`) ?? 0) + 1);
  const trace: JsonValue = {
    verdict: v.verdict,
    code,
    rule_id: v.ruleId,
    effect: v.effect,
    gates: v.gates,
    shadows: v.shadows.map((s) => ({ ...s })),
    args_hash: call.argsHash,
    facts_hash: hashJson({ ...facts }),
    policy_hash: policy.hash,
    expires_at: v.verdict === "ALLOW" ? v.permit.expiresAtMs : 0,
  };
  chain = hashJson([chain, trace, ++n % 100 === 0 ? signer.sign(chain) : ""]);
}
process.stdout.write(
  `${JSON.stringify({ node: process.versions.node, n, hash: chain, kinds: verdicts.size, allowed: verdicts.get("ALLOW ") ?? 0 })}\n`,
);
