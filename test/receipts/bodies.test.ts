// The receipt: every member is there, each of its form, and what does not go together is refused.

import { describe, expect, test } from "vitest";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { GATES, makeId, targetFrom, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import {
  EMPTY_USAGE,
  gatesHash,
  outcomeReceipt,
  overlayHash,
  parseReceipt,
  permittedReceipt,
  receiptBody,
  refusedReceipt,
} from "../../kernel/receipts/receipts.ts";
import type { Judged } from "../../kernel/receipts/receipts.ts";

const bytes = (n: number) => new Uint8Array(16).fill(n);
const [one, two] = [hashJson("one"), hashJson("two")];
const judged: Judged = {
  receiptId: makeId("rcp", bytes(1)),
  decisionId: makeId("dec", bytes(2)),
  callId: makeId("call", bytes(3)),
  principal: "alice",
  delegator: "bob",
  tool: targetFrom("tool:github/create_issue", "tool"),
  effectClass: "E2",
  source: "mcp",
  ruleId: "r",
  argsHash: hashJson({}),
  policyHash: hashJson("policy"),
  ceilingHash: hashJson("ceiling"),
  overlays: [one, two],
  gatesRan: ["freeze", "context"],
  factsHash: hashJson("facts"),
};
const usage = { ...EMPTY_USAGE, calls: 1, gas: 5 };
const permitted = permittedReceipt(judged, {
  effectId: makeId("eff", bytes(4)),
  expiresAt: timestampOf(0),
  usage,
});

test("a permitted, a refused, an escalated call and an outcome state what they are", () => {
  const common = {
    type: "atoll.dev/receipt/v1",
    receipt_id: judged.receiptId,
    decision_id: judged.decisionId,
    call_id: judged.callId,
    principal: "alice",
    delegator: "bob",
    tool: "tool:github/create_issue",
    effect_class: "E2",
    source: "mcp",
    rule_id: "r",
    args_hash: judged.argsHash,
    output_hash: "",
    policy_hash: judged.policyHash,
    ceiling_hash: judged.ceilingHash,
    overlay_hash: hashJson([one, two].toSorted()),
    gates_hash: hashJson(["freeze", "context"]),
    facts_hash: judged.factsHash,
  };
  const allowed = {
    verdict: "ALLOW",
    expires_at: "1970-01-01T00:00:00.000Z",
    effect_id: makeId("eff", bytes(4)),
  };
  expect(permitted).toEqual({ ...common, ...allowed, status: "PERMITTED", reason_code: "", usage });
  expect(permittedReceipt(judged, { effectId: "", expiresAt: timestampOf(0) }).usage).toEqual(EMPTY_USAGE);
  const refused = { ...common, effect_id: "", expires_at: "", usage: EMPTY_USAGE };
  expect(refusedReceipt(judged, "DENY", "DENY_RULE")).toEqual({
    ...refused,
    verdict: "DENY",
    status: "DENIED",
    reason_code: "DENY_RULE",
  });
  expect(refusedReceipt(judged, "ESCALATE", "DENY_APPROVAL_REQUIRED", usage)).toEqual({
    ...refused,
    verdict: "ESCALATE",
    status: "ESCALATED",
    reason_code: "DENY_APPROVAL_REQUIRED",
    usage,
  });
  const outcome = outcomeReceipt(permitted, {
    receiptId: makeId("rcp", bytes(9)),
    status: "FAILED",
    code: "ERR_CONNECTOR_FAILED",
    outputHash: one,
    usage: EMPTY_USAGE,
  });
  expect(outcome).toEqual({
    ...common,
    ...allowed,
    receipt_id: makeId("rcp", bytes(9)),
    status: "FAILED",
    reason_code: "ERR_CONNECTOR_FAILED",
    output_hash: one,
    usage: EMPTY_USAGE,
  });
  for (const r of [permitted, outcome]) expect(parseReceipt(receiptBody(r))).toEqual(r);
});

test("no gate and no overlay have no hash, and the order of overlays is none", () => {
  expect([gatesHash([]), overlayHash([])]).toEqual(["", ""]);
  expect(gatesHash(GATES)).toBe(hashJson([...GATES]));
  expect(overlayHash([two, one])).toBe(overlayHash([one, two]));
  expect(Object.values(EMPTY_USAGE)).toEqual(Array.from({ length: 11 }, () => 0));
  expect(Object.keys(EMPTY_USAGE)).toEqual([
    "bytes_in",
    "bytes_out",
    "calls",
    "cost_microusd",
    "duration_ms",
    "gas",
    "gas_limit",
    "gas_schedule",
    "peak_pages",
    "tokens_in",
    "tokens_out",
  ]);
});
test("a body is made in canonical order, so that nothing has to be put into it", () => {
  expect(JSON.stringify(receiptBody(permitted))).toBe(canonicalize(receiptBody(permitted)));
});

const body = receiptBody(permitted);
describe("a body is refused", () => {
  const members = Object.keys(body);
  test.each(members)("without %s", (name) => {
    expect(() => parseReceipt(Object.fromEntries(Object.entries(body).filter(([k]) => k !== name)))).toThrow(
      `${name}: is missing`,
    );
  });
  test.each(Object.keys(EMPTY_USAGE))("without usage.%s, or with a part of it", (name) => {
    const used = Object.entries(EMPTY_USAGE);
    expect(() =>
      parseReceipt({ ...body, usage: Object.fromEntries(used.filter(([k]) => k !== name)) }),
    ).toThrow(`usage.${name}: is missing`);
    expect(() => parseReceipt({ ...body, usage: { ...EMPTY_USAGE, [name]: 0.5 } })).toThrow(
      `usage.${name}: expected an integer`,
    );
    expect(parseReceipt({ ...body, usage: { ...EMPTY_USAGE, [name]: 7 } }).usage).toEqual({
      ...EMPTY_USAGE,
      [name]: 7,
    });
  });
  test.each<[string, JsonValue]>([
    ["type", "atoll.dev/receipt/v2"],
    ["receipt_id", makeId("dec", bytes(1))],
    ["decision_id", ""],
    ["effect_id", "eff_1"],
    ["call_id", "x"],
    ["principal", 1],
    ["delegator", null],
    ["tool", "github"],
    ["effect_class", "E5"],
    ["source", "http"],
    ["verdict", "MAYBE"],
    ["reason_code", "NO_SUCH_CODE"],
    ["rule_id", 1],
    ["status", "DONE"],
    ["args_hash", "sha256:1"],
    ["output_hash", "x"],
    ["policy_hash", "x"],
    ["ceiling_hash", "x"],
    ["overlay_hash", "x"],
    ["gates_hash", "x"],
    ["facts_hash", "x"],
    ["expires_at", "2026-11-18"],
    ["usage", []],
  ])("with %s %j", (name, value) => {
    expect(() => parseReceipt({ ...body, [name]: value })).toThrow(`${name}: `);
  });
  test("with a member beside them", () => {
    expect(() => parseReceipt({ ...body, more: 1 })).toThrow("more: is not a known member");
    expect(() => parseReceipt([])).toThrow("expected an object");
  });
  test("with a status that does not go with its verdict", () => {
    const verdicts = {
      PERMITTED: "ALLOW",
      SUCCEEDED: "ALLOW",
      FAILED: "ALLOW",
      UNKNOWN: "ALLOW",
      DENIED: "DENY",
      ESCALATED: "ESCALATE",
    };
    for (const [status, own] of Object.entries(verdicts))
      for (const verdict of ["ALLOW", "DENY", "ESCALATE"]) {
        const made: JsonObject = { ...body, status, verdict };
        if (verdict === own) expect(parseReceipt(made)).toMatchObject({ status, verdict });
        else expect(() => parseReceipt(made)).toThrow("status: `");
      }
  });
});

test("what does not apply is empty, and only that", () => {
  for (const name of [
    "effect_id",
    "tool",
    "effect_class",
    "reason_code",
    "args_hash",
    "output_hash",
    "policy_hash",
    "ceiling_hash",
    "overlay_hash",
    "gates_hash",
    "facts_hash",
    "expires_at",
  ])
    expect(parseReceipt({ ...body, [name]: "" })).toMatchObject({ [name]: "" });
  for (const name of ["receipt_id", "decision_id", "call_id", "source", "verdict", "status", "type"])
    expect(() => parseReceipt({ ...body, [name]: "" })).toThrow(`${name}: `);
});
