// What a call is aimed at, whose profile counts, which rules are asked and which proofs are found: the parts of a question
// before any gate is asked.

import { describe, expect, test } from "vitest";
import { targetFrom, timestampFrom } from "../../kernel/contracts/contracts.ts";
import type {
  EvidenceFact,
  Facts,
  JsonObject,
  Policy,
  Requirement,
} from "../../kernel/contracts/contracts.ts";
import { decide } from "../../kernel/guardian/guardian.ts";
import type { Verdict } from "../../kernel/guardian/guardian.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { callOf, factsOf, sampleDoc, someHash } from "./sample.ts";

const base = compilePolicy(sampleDoc);
const issue = callOf("tool:github/create_issue", { repo: "acme/web", title: "crash" });
const said = (v: Verdict): string => (v.verdict === "ALLOW" ? "ALLOW" : `${v.code} ${v.detail}`);
const known = (host: string, port: number): Partial<Facts> => ({
  destination: { state: "known", host, port },
});

describe("a connection", () => {
  const effect = (target: string): string => decide(callOf(target, {}), base, factsOf(base)).effect;
  test("has a port from 1 to 65535, else it is nothing that is known", () => {
    for (const port of ["1", "443", "65535", "00443"])
      expect(effect(`net:a.docs.example:${port}`)).toBe("E2");
    for (const target of [
      "net:a.docs.example:0",
      "net:a.docs.example:65536",
      "net:a.docs.example:99999",
      "net:a.docs.example",
      "tool:x:443",
    ])
      expect(effect(target)).toBe("");
  });
  test("names its host as it is written, with colons for what stands for them", () => {
    const v = decide(callOf("net:%3A%3A1:443", {}), base, factsOf(base, known("::1", 443)));
    expect(said(v)).toBe("DENY_DESTINATION `::1:443` is not allowed");
    const other = decide(
      callOf("net:a.docs.example:443", {}),
      base,
      factsOf(base, known("b.docs.example", 443)),
    );
    expect(said(other)).toBe("DENY_DESTINATION the destination is not the one that was named");
  });
  test("is asked the rules that name it and no others", () => {
    const policy = compilePolicy({
      ...sampleDoc,
      rules: [...sampleDoc.rules, { id: "not-b", tools: ["net:b.docs.example:443"], then: "deny" }],
    });
    const to = (host: string): string =>
      said(decide(callOf(`net:${host}:443`, {}), policy, factsOf(policy, known(host, 443))));
    expect(to("a.docs.example")).toBe("ALLOW");
    expect(to("b.docs.example")).toBe("DENY_RULE rule `not-b` denies");
  });
});

test("what cannot be asked at all is denied, and nothing is known of it", () => {
  const v = decide(issue, base, { ...factsOf(base), now: "yesterday" as never });
  expect(v).toMatchObject({
    verdict: "DENY",
    code: "POLICY_EVALUATION_ERROR",
    effect: "",
    ruleId: "",
    gates: [],
    profile: null,
    shadows: [],
  });
});

describe("a profile that asks for nothing", () => {
  const [first] = base.profiles;
  if (first === undefined) throw new Error("no profile");
  const open = {
    ...first,
    serviceAccount: "",
    principal: "",
    role: "",
    namespaceLabels: {},
    matchesPrincipal: () => false,
  };
  const policy: Policy = { ...base, profiles: [open] };
  test("is everybody's who is verified, whatever their name is", () => {
    expect(decide(issue, policy, factsOf(policy)).profile).toBe(open);
  });
  test("is nobody's who is not", () => {
    const refused: Partial<Facts> = { principal: { state: "refused", code: "AUTH_INVALID", detail: "no" } };
    const v = decide(issue, policy, factsOf(policy, refused));
    expect([said(v), v.profile]).toEqual(["AUTH_INVALID no", null]);
  });
});

describe("a proof", () => {
  const receipt = (args: JsonObject, more: object = {}): EvidenceFact => ({
    kind: "receipt",
    node: someHash,
    tool: targetFrom("tool:calc/sum", "tool"),
    status: "SUCCEEDED",
    at: timestampFrom("2026-11-18T09:59:59.000Z", "at"),
    source: "wasm",
    args,
    ...more,
  });
  const judged = (
    requires: Requirement,
    evidence: readonly EvidenceFact[],
    args: JsonObject = {},
  ): string => {
    const call = callOf("tool:github/create_issue", { repo: "acme/web", title: "crash", ...args });
    const tool = base.tools.get(call.target);
    const [rule] = tool?.rules ?? [];
    if (tool === undefined || rule === undefined) throw new Error("no rule");
    const tools = new Map([...base.tools, [call.target, { ...tool, rules: [{ ...rule, requires }] }]]);
    const policy: Policy = { ...base, tools };
    return said(decide(call, policy, factsOf(policy, { evidence })));
  };
  const ran = (more: object = {}): Requirement => ({
    kind: "receipt",
    matches: () => true,
    tool: "tool:calc/sum",
    status: "SUCCEEDED",
    withinMs: -1,
    sameArgs: [],
    ...more,
  });
  const lacking =
    "MISSING_REQUIREMENT rule `own-repos-only`: receipt of `tool:calc/sum` with status SUCCEEDED";
  test("within no time has to be of this very moment", () => {
    expect(judged(ran({ withinMs: 0 }), [receipt({})])).toBe(lacking);
    expect(judged(ran({ withinMs: 0 }), [receipt({}, { at: factsOf(base).now })])).toBe("ALLOW");
    expect(judged(ran({ withinMs: 999 }), [receipt({})])).toBe(lacking);
    expect(judged(ran({ withinMs: 1000 }), [receipt({})])).toBe("ALLOW");
  });
  test("is found among others that do not fit", () => {
    expect(judged(ran(), [receipt({}, { status: "FAILED" }), receipt({})])).toBe("ALLOW");
    expect(judged(ran(), [])).toBe(lacking);
  });
  test("has an argument of its own and not one that every object has", () => {
    const same = ran({ sameArgs: ["constructor"] });
    expect(judged(same, [receipt({ constructor: "x" })], {})).toBe(lacking);
    expect(judged(same, [receipt({})], { constructor: "x" })).toMatch(/^(MISSING_REQUIREMENT|DENY_SCHEMA)/);
    expect(judged(same, [receipt({})])).toBe(lacking);
    expect(judged(ran({ sameArgs: ["repo", "title"] }), [receipt({ repo: "acme/web" })])).toBe(lacking);
    expect(judged(ran({ sameArgs: ["repo"] }), [receipt({ repo: "acme/web" })])).toBe("ALLOW");
  });
  test("that is an artifact is no receipt that looks like one", () => {
    const signer = `ed25519:${"b".repeat(16)}`;
    const wanted: Requirement = { kind: "artifact", artifactType: "sbom", signer };
    const artifact = { kind: "artifact", artifactType: "sbom", signer, hash: someHash } as never;
    expect(judged(wanted, [artifact])).toBe("ALLOW");
    expect(judged(wanted, [receipt({}, { artifactType: "sbom", signer })])).toMatch(/^MISSING_REQUIREMENT/);
  });
  test("of several, one suffices, and of none, none does", () => {
    const one = base.ceremonies.get("one");
    if (one === undefined) throw new Error("no ceremony");
    const asked: Requirement = { kind: "approval", ceremony: one };
    const all = (...of: readonly Requirement[]): Requirement => ({ kind: "all", of });
    const any = (...of: readonly Requirement[]): Requirement => ({ kind: "any", of });
    expect(judged(any(asked, all()), [])).toBe("ALLOW");
    expect(judged(any(asked, all(ran())), [receipt({})])).toBe("ALLOW");
    expect(judged(any(all(asked), ran()), [])).toBe("DENY_APPROVAL_REQUIRED ceremony `one`");
    expect(judged(any(), [])).toBe("MISSING_REQUIREMENT rule `own-repos-only`: `any` of nothing");
  });
});
