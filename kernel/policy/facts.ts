// Facts from outside: recorded ones read back strictly, and partial ones completed, so that a person can write a
// test with what matters to it alone.

import {
  ContractError,
  SOURCES,
  STATUSES,
  THREAT_LEVELS,
  at,
  closed,
  isHash,
  isId,
  isKeyId,
  isObject,
  isTarget,
  isTimestamp,
  makeId,
  objectFrom,
  oneOf,
  targetFrom,
} from "../contracts/contracts.ts";
import type { Facts, JsonObject, JsonValue, Policy, Source, ToolCall } from "../contracts/contracts.ts";
import { canonicalArgs } from "../manifest/manifest.ts";
import { boolean, checkShape, choice, integer, list, map, object, text } from "./shape.ts";
import type { Shape } from "./shape.ts";

const word = text("a text", () => true);
const hash = text("a hash", isHash);
const time = text("a time such as `2026-11-20T08:17:06.123Z`", isTimestamp);
const target = text("a name such as `tool:github/create_issue`", isTarget);
const approvalId = text("an approval's id", (t) => isId("apr", t));
const labels = map(word, /^.{1,317}$/);
const all = (members: Readonly<Record<string, Shape>>): Shape => object(members, ...Object.keys(members));
const amounts = all({ calls: integer(), tokens: integer(), costMicroUsd: integer() });
const json: Shape = { is: "json" };
const by = (member: string, cases: Readonly<Record<string, Readonly<Record<string, Shape>>>>): Shape => ({
  is: "tagged",
  by: member,
  cases: Object.fromEntries(
    Object.entries(cases).map(([name, members]) => [name, all({ [member]: choice(name), ...members })]),
  ),
});

const FACTS: Shape = all({
  type: choice("atoll.dev/facts/v1"),
  now: time,
  freeze: by("state", { clear: {}, frozen: { node: hash, reason: word } }),
  context: all({
    podUid: word,
    guardianPodUid: word,
    policyHash: text("a hash or nothing", (t) => t === "" || isHash(t)),
    heartbeatAgeMs: { is: "either", of: [integer(), choice("never", "unbound")] },
    policyExpiresAt: text("a time or nothing", (t) => t === "" || isTimestamp(t)),
    tls: boolean,
    concurrent: integer(),
  }),
  session: all({
    id: text("a session's id", (t) => isId("ses", t)),
    principal: word,
    openedAt: time,
    calls: integer(),
    tainted: boolean,
  }),
  principal: by("state", {
    verified: {
      id: word,
      serviceAccount: word,
      namespace: word,
      roles: list(word),
      tenant: word,
      delegator: word,
    },
    refused: { code: choice("AUTH_NOT_CONFIGURED", "AUTH_INVALID"), detail: word },
  }),
  pod: all({ namespace: word, labels, namespaceLabels: labels }),
  destination: by("state", { none: {}, known: { host: word, port: integer(1, 65_535) } }),
  scan: all({
    level: choice(...THREAT_LEVELS),
    findings: list(
      all({
        code: choice("PROMPT_INJECTION_DETECTED", "UNICODE_OBFUSCATION_DETECTED", "DATA_EGRESS_BLOCKED"),
        detail: word,
      }),
    ),
    dataClasses: list(word),
  }),
  definition: by("state", { unobserved: {}, observed: { hash } }),
  rate: all({ toolLastMinute: integer(), sessionLastSecond: integer() }),
  budget: all({
    session: amounts,
    daily: amounts,
    estimate: amounts,
    leased: { is: "either", of: [choice("own"), amounts] },
  }),
  evidence: list(
    by("kind", {
      receipt: {
        node: hash,
        tool: target,
        status: choice(...STATUSES),
        at: time,
        source: choice(...SOURCES),
        args: json,
      },
      artifact: { artifactType: word, signer: text("a key id", isKeyId), hash },
    }),
  ),
  approval: by("state", {
    none: {},
    pending: { id: approvalId },
    refused: {
      id: approvalId,
      code: choice("APPROVAL_REJECTED", "DENY_APPROVAL_TIMEOUT", "APPROVAL_INVALID"),
    },
    granted: { id: approvalId, node: hash, evidence: json },
  }),
  idempotencyKey: word,
});

const isFacts = (v: JsonValue): v is JsonValue & Facts => {
  checkShape(v, FACTS, "facts");
  return true;
};

/** Recorded facts, or a ContractError that names the path at fault. */
export function parseFacts(value: JsonValue): Facts {
  if (isFacts(value)) return value;
  throw new ContractError("facts", "are no facts");
}

/** A call as a person writes it: `{tool, args?, source?}`. */
export function parseCall(value: JsonValue): ToolCall {
  const o = closed(value, "call", ["tool"], ["args", "source", "callId"]);
  const args = o["args"] === undefined ? {} : objectFrom(o["args"], "call.args");
  const tool = targetFrom(o["tool"], "call.tool");
  const source: Source = o["source"] === undefined ? "rest" : oneOf(o["source"], "call.source", SOURCES);
  const { text: argsText, hash: argsHash } = canonicalArgs(args);
  return { callId: makeId("call", new Uint8Array(16)), target: tool, source, args, argsText, argsHash };
}

/**
 * Facts of a quiet, healthy guardian in which only what is given differs:
 * `now` 2026-01-01T12:00Z (a Thursday); stream heard at once, TLS, nothing under way; principal and session of
 * `serviceAccount:default/<serviceAccount>` (`default` when none is given) without roles, opened at `now`; no labels;
 * the destination, the definition and the cost that the policy expects of this call; nothing used, seen or approved.
 */
export function completeFacts(policy: Policy, call: ToolCall, partial: JsonValue = {}): Facts {
  const given = objectFrom(partial, "facts");
  const principal = isObject(given["principal"]) ? given["principal"] : {};
  const pod = isObject(given["pod"]) ? given["pod"] : {};
  const now = given["now"] ?? "2026-01-01T12:00:00.000Z";
  const namespace = principal["namespace"] ?? pod["namespace"] ?? "default";
  const serviceAccount = principal["serviceAccount"] ?? "default";
  const id =
    principal["id"] ??
    (typeof namespace === "string" && typeof serviceAccount === "string"
      ? `serviceAccount:${namespace}/${serviceAccount}`
      : "");
  const tool = policy.tools.get(call.target);
  const none = { calls: 0, tokens: 0, costMicroUsd: 0 };
  const base: JsonObject = {
    type: "atoll.dev/facts/v1",
    now,
    freeze: { state: "clear" },
    context: {
      podUid: "local",
      guardianPodUid: "local",
      policyHash: policy.hash,
      heartbeatAgeMs: 0,
      policyExpiresAt: "",
      tls: true,
      concurrent: 0,
    },
    session: {
      id: makeId("ses", new Uint8Array(16)),
      principal: id,
      openedAt: now,
      calls: 0,
      tainted: false,
    },
    principal: { state: "verified", id, serviceAccount, namespace, roles: [], tenant: "", delegator: "" },
    pod: { namespace, labels: {}, namespaceLabels: {} },
    destination: expectedDestination(policy, call),
    scan: { level: "NONE", findings: [], dataClasses: [] },
    definition:
      tool === undefined || tool.definition === ""
        ? { state: "unobserved" }
        : { state: "observed", hash: tool.definition },
    rate: { toolLastMinute: 0, sessionLastSecond: 0 },
    budget: {
      session: none,
      daily: none,
      estimate: { calls: 1, tokens: 0, costMicroUsd: tool?.costMicroUsd ?? 0 },
      leased: "own",
    },
    evidence: [],
    approval: { state: "none" },
    idempotencyKey: "",
  };
  return parseFacts(over(base, given, "facts"));
}

/** Free maps are replaced whole by what is given, the rest member by member; a change of variant replaces it. */
const FREE = new Set(["facts.pod.labels", "facts.pod.namespaceLabels"]);
function over(base: JsonObject, given: JsonObject, path: string): JsonObject {
  const merged: Record<string, JsonValue> = { ...base };
  for (const [name, value] of Object.entries(given)) {
    const inner = at(path, name);
    const before = Object.hasOwn(base, name) ? base[name] : undefined;
    const other =
      isObject(value) &&
      isObject(before) &&
      value["state"] !== undefined &&
      value["state"] !== before["state"];
    merged[name] =
      isObject(before) && isObject(value) && !other && !FREE.has(inner) ? over(before, value, inner) : value;
  }
  return merged;
}

function expectedDestination(policy: Policy, call: ToolCall): JsonValue {
  const net = /^net:(.+):(\d{1,5})$/.exec(call.target);
  if (net?.[1] !== undefined) return { state: "known", host: net[1], port: Number(net[2]) };
  const name = /^(?:tool|model):([^/]+)\//.exec(call.target)?.[1] ?? "";
  const url = policy.connectors.get(name)?.url ?? "";
  if (url === "") return { state: "none" };
  const { hostname, port, protocol } = new URL(url);
  return {
    state: "known",
    host: hostname,
    port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
  };
}
