// A small agent's world for tests: its policy, a call, the facts, and a journal in memory.

import { canonicalArgs } from "../../kernel/manifest/manifest.ts";
import {
  hashFrom,
  keyIdFrom,
  signatureFrom,
  makeId,
  targetFrom,
  timestampFrom,
} from "../../kernel/contracts/contracts.ts";
import type {
  Facts,
  Input,
  JsonObject,
  Journal,
  NodeDraft,
  Policy,
  PolicyDoc,
  SealedNode,
  Source,
  ToolCall,
} from "../../kernel/contracts/contracts.ts";
import { createChains } from "../../kernel/receipts/receipts.ts";
import { signerFromPem } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { generateKeyPairSync } from "node:crypto";

const issue: JsonObject = {
  type: "object",
  required: ["repo", "title"],
  properties: { repo: { type: "string", maxLength: 100 }, title: { type: "string", maxLength: 200 } },
};

export const approver = `ed25519:${"a".repeat(16)}`;

export const sampleDoc = {
  apiVersion: "atoll.dev/policy/v1",
  name: "repo-agents",
  layer: "P1",
  connectors: {
    github: { kind: "mcp", url: "https://mcp.github.example/mcp", destinations: ["mcp.github.example:443"] },
    openai: { kind: "openai", url: "https://api.openai.example/v1", credential: "OPENAI_API_KEY" },
    calc: { kind: "wasm" },
    web: { kind: "connect", destinations: ["*.docs.example:443"] },
  },
  tools: [
    {
      name: "tool:github/create_issue",
      effect: "E2",
      sideEffect: "write_limited",
      sandbox: "isolated",
      input: issue,
      output: { type: "object", required: ["number"], properties: { number: { type: "integer" } } },
      rate: { perMinute: 10 },
      cost: { microUsd: 100 },
    },
    {
      name: "tool:github/create_release",
      effect: "E3",
      sideEffect: "full",
      sandbox: "isolated",
      input: issue,
    },
    { name: "tool:agent/note", effect: "E1", sideEffect: "read_only", sandbox: "native", input: true },
    {
      name: "tool:calc/sum",
      effect: "E0",
      sideEffect: "read_only",
      sandbox: "restricted",
      module: `sha256:${"1".repeat(64)}`,
      input: {
        type: "object",
        properties: { n: { type: "array", maxItems: 9, items: { type: "integer" } } },
      },
    },
  ],
  models: [
    {
      name: "model:openai/gpt-x",
      price: { inputMicroUsdPerMTok: 250_000, outputMicroUsdPerMTok: 2_000_000 },
    },
  ],
  toolsets: { triage: ["tool:github/*", "tool:calc/sum", "tool:agent/note"] },
  profiles: [
    {
      match: { serviceAccount: "triage-bot" },
      toolsets: ["triage"],
      models: ["model:openai/gpt-x"],
      maxSideEffect: "full",
      budgets: { session: { calls: 200, tokens: 500_000, costMicroUsd: 5_000_000, durationSeconds: 3600 } },
      destinations: { allow: ["*.docs.example:443"], deny: ["*.internal:*"] },
    },
  ],
  rules: [
    {
      id: "own-repos-only",
      when: 'call.args.repo.startsWith("acme/")',
      tools: ["tool:github/*"],
      then: "allow",
    },
    { id: "sums", tools: ["tool:calc/*", "tool:agent/*"], then: "allow" },
    { id: "releases-need-two", tools: ["tool:github/create_release"], then: "escalate", approval: "one" },
    {
      id: "no-secrets",
      when: 'call.args.title.contains("secret")',
      tools: ["tool:github/create_issue"],
      then: "deny",
    },
  ],
  approvals: { one: { approvers: [approver], quorum: 1, timelockSeconds: 0 } },
} as const satisfies PolicyDoc & JsonObject;

export function callOf(target: string, args: JsonObject, source: Source = "rest"): ToolCall {
  const { text, hash } = canonicalArgs(args);
  return {
    callId: makeId("call", new Uint8Array(16).fill(1)),
    target: targetFrom(target, "tool"),
    source,
    args,
    argsText: text,
    argsHash: hash,
  };
}

export const session = makeId("ses", new Uint8Array(16).fill(2));

export function factsOf(policy: Policy, over: Partial<Facts> = {}): Facts {
  return {
    type: "atoll.dev/facts/v1",
    now: timestampFrom("2026-11-18T10:00:00.000Z", "now"),
    freeze: { state: "clear" },
    context: {
      podUid: "pod",
      guardianPodUid: "pod",
      policyHash: policy.hash,
      heartbeatAgeMs: 1000,
      policyExpiresAt: "",
      tls: true,
      concurrent: 0,
    },
    session: {
      id: session,
      principal: "serviceAccount:acme/triage-bot",
      openedAt: timestampFrom("2026-11-18T09:50:00.000Z", "openedAt"),
      calls: 3,
      tainted: false,
    },
    principal: {
      state: "verified",
      id: "serviceAccount:acme/triage-bot",
      serviceAccount: "triage-bot",
      namespace: "acme",
      roles: ["sre"],
      tenant: "",
      delegator: "",
    },
    pod: { namespace: "acme", labels: { app: "bot" }, namespaceLabels: { team: "core" } },
    destination: { state: "known", host: "mcp.github.example", port: 443 },
    scan: { level: "NONE", findings: [], dataClasses: [] },
    definition: { state: "unobserved" },
    rate: { toolLastMinute: 0, sessionLastSecond: 0 },
    budget: {
      session: { calls: 3, tokens: 0, costMicroUsd: 300 },
      daily: { calls: 3, tokens: 0, costMicroUsd: 300 },
      estimate: { calls: 1, tokens: 0, costMicroUsd: 100 },
      leased: "own",
    },
    evidence: [],
    approval: { state: "none" },
    idempotencyKey: "",
    ...over,
  };
}

export const someHash = hashFrom(`sha256:${"0".repeat(64)}`, "hash");

const platformSigner = (): Signer =>
  signerFromPem(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));

/** Signs nothing: for properties that run by the ten thousand and look at no signature. */
export const quickSigner: Signer = {
  keyId: keyIdFrom(`ed25519:${"0".repeat(16)}`, "key_id"),
  publicKey: new Uint8Array(32),
  sign: () => signatureFrom("0".repeat(128), "sig"),
};

/** A journal in memory. `fails` says of each append, by its number from 1, whether its sync fails. */
export function memoryJournal(
  fails: (append: number) => boolean = () => false,
  signer: Signer = platformSigner(),
): Journal & { readonly nodes: SealedNode[]; readonly inputs: Input[] } {
  const chains = createChains(signer);
  const nodes: SealedNode[] = [];
  const inputs: Input[] = [];
  let appends = 0;
  return {
    nodes,
    inputs,
    append(drafts: readonly NodeDraft[], named: readonly Input[] = []) {
      const n = ++appends;
      const sealed = drafts.map((d) => chains.seal(d));
      if (fails(n)) return { nodes: sealed, durable: Promise.reject(new Error("JOURNAL_UNAVAILABLE")) };
      nodes.push(...sealed);
      inputs.push(...named);
      return { nodes: sealed, durable: Promise.resolve() };
    },
  };
}
