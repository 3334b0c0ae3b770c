// The gates of 2.5 that look at the world around a call: freeze to surface. Each is closed: what it cannot read
// it denies, so every comparison is written so that a missing value falls on the denying side.

import { EFFECT_CLASSES, SIDE_EFFECTS, THREAT_LEVELS, isObject, present } from "../contracts/contracts.ts";
import type {
  ConnectorPolicy,
  EffectClass,
  Facts,
  JsonValue,
  SideEffect,
  ThreatLevel,
} from "../contracts/contracts.ts";
import { denial } from "./question.ts";
import type { Answer, Gate, Question } from "./question.ts";

const rankIn = <T extends string>(order: readonly T[], value: T): number => {
  const rank = order.indexOf(value);
  if (rank < 0) throw new RangeError(`\`${value}\` is not one of ${order.join(", ")}`);
  return rank;
};
export const effectRank = (e: EffectClass): number => rankIn(EFFECT_CLASSES, e);
export const sideEffectRank = (e: SideEffect): number => rankIn(SIDE_EFFECTS, e);
const threatRank = (t: ThreatLevel): number => rankIn(THREAT_LEVELS, t);

/** Exactly that: a fact that is not there is neither true nor false. */
const is = (wanted: boolean | string, found: unknown): boolean => found === wanted;

export const freeze: Gate<"freeze"> = {
  name: "freeze",
  judge: ({ facts }) =>
    facts.freeze.state === "clear" ? null : denial("SYSTEM_FROZEN", facts.freeze.reason),
};

export const context: Gate<"context"> = {
  name: "context",
  judge({ policy, facts, now }) {
    const c = facts.context;
    if (policy.hash === "") return denial("POLICY_NOT_READY", "no policy is active");
    if (c.policyHash !== policy.hash)
      return denial("CONTEXT_MISMATCH", "the call was gathered under another policy");
    if (c.podUid !== c.guardianPodUid || c.podUid === "")
      return denial("CONTEXT_MISMATCH", "the call comes from another pod");
    if (c.heartbeatAgeMs !== "unbound" && !(Number(c.heartbeatAgeMs) <= policy.maxStaleMs))
      return denial(
        "POLICY_STALE",
        `last heartbeat ${c.heartbeatAgeMs} ms ago, ${policy.maxStaleMs} allowed`,
      );
    if (c.policyExpiresAt !== "" && !(now < Date.parse(c.policyExpiresAt)))
      return denial("POLICY_STALE", `the policy expired at ${c.policyExpiresAt}`);
    return perimeter({ policy, facts, now });
  },
};

function perimeter({ policy, facts, now }: Pick<Question, "policy" | "facts" | "now">): Answer {
  const p = policy.perimeter;
  if (!p.open(now)) return denial("PERIMETER_VIOLATION", `outside the allowed hours at ${facts.now}`);
  if (p.requireTls && !is(true, facts.context.tls))
    return denial("PERIMETER_VIOLATION", "the call would leave without TLS");
  if (p.maxConcurrent >= 0 && !(facts.context.concurrent < p.maxConcurrent))
    return denial("PERIMETER_VIOLATION", `${p.maxConcurrent} calls are under way already`);
  const kept = facts.scan.dataClasses.find((c) => p.deniedDataClasses.has(c));
  if (kept !== undefined) return denial("PERIMETER_VIOLATION", `data of class \`${kept}\` may not leave`);
  return null;
}

export const identity: Gate<"identity"> = {
  name: "identity",
  judge({ call, policy, facts, subject }) {
    const p = facts.principal;
    if (p.state === "refused") return denial(p.code, p.detail);
    if (p.id === "" || p.id !== facts.session.principal)
      return denial("IDENTITY_ISOLATION_VIOLATION", `the session belongs to \`${facts.session.principal}\``);
    if (subject.kind !== "tool") return null;
    for (const check of subject.tool.relationChecks) {
      const object = objectOf(check.object, call.args);
      if (object === null)
        return denial("AUTHZ_DENIED", "an argument that names an object has a value outside the allowed set");
      if (!policy.identity.relates(object, check.relation, p.id))
        return denial("AUTHZ_DENIED", `\`${p.id}\` is not \`${check.relation}\` of \`${object}\``);
    }
    return null;
  },
};

const OBJECT_PART = /^[A-Za-z0-9._/-]{1,255}$/;

function objectOf(
  parts: readonly (string | { readonly path: readonly string[] })[],
  args: Question["call"]["args"],
): string | null {
  let text = "";
  for (const part of parts) {
    if (typeof part === "string") {
      text += part;
      continue;
    }
    let value: JsonValue | undefined = args;
    for (const key of part.path)
      value = isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
    if (typeof value !== "string" || !OBJECT_PART.test(value)) return null;
    text += value;
  }
  return text;
}

const THREATS: ReadonlySet<string> = new Set(["PROMPT_INJECTION_DETECTED", "UNICODE_OBFUSCATION_DETECTED"]);

export const egress: Gate<"egress"> = {
  name: "egress",
  judge({ policy, facts, subject, profile }) {
    // What is none of the other findings blocks.
    const blocked = facts.scan.findings.find((f) => !THREATS.has(f.code));
    if (blocked !== undefined) return denial("DATA_EGRESS_BLOCKED", blocked.detail);
    const d = facts.destination;
    if (d.state !== "none" && !(is("known", d.state) && d.port >= 1))
      return denial("DENY_DESTINATION", "the destination is not whole");
    if (subject.kind === "net") {
      if (d.state !== "known" || d.host !== subject.host || d.port !== subject.port)
        return denial("DENY_DESTINATION", "the destination is not the one that was named");
      const served = [...policy.connectors.values()].some(
        (c) => c.kind === "connect" && c.destinations.allows(d.host, d.port),
      );
      if (!served || profile === null || !profile.destinations.allows(d.host, d.port))
        return denial("DENY_DESTINATION", `\`${d.host}:${d.port}\` is not allowed`);
    }
    if (d.state === "known" && profile !== null && profile.destinations.denies(d.host, d.port))
      return denial("DENY_DESTINATION", `\`${d.host}:${d.port}\` is denied`);
    const connector = connectorOf({ policy, subject });
    return connector === null ? null : reaches(connector, d);
  },
};

function connectorOf({ policy, subject }: Pick<Question, "policy" | "subject">): ConnectorPolicy | null {
  if (subject.kind === "tool") return policy.connectors.get(subject.tool.connector) ?? null;
  if (subject.kind !== "model") return null;
  return policy.connectors.get(present(subject.model.name.slice("model:".length).split("/", 1)[0])) ?? null;
}

function reaches(connector: ConnectorPolicy, d: Facts["destination"]): Answer {
  if (connector.url === "") return null;
  if (d.state !== "known") return denial("DENY_DESTINATION", "the destination of the call is not known");
  return connector.destinations.allows(d.host, d.port)
    ? null
    : denial("DENY_DESTINATION", `connector \`${connector.name}\` may not reach \`${d.host}:${d.port}\``);
}

export const threat: Gate<"threat"> = {
  name: "threat",
  judge({ policy, facts, subject, effect }) {
    if (threatRank(facts.scan.level) >= threatRank(policy.threat.denyAt)) {
      // Any other finding has ended at the egress gate.
      const [finding] = facts.scan.findings;
      return denial(
        finding?.code ?? "PROMPT_INJECTION_DETECTED",
        finding?.detail ?? `threat ${facts.scan.level}`,
      );
    }
    if (subject.kind === "unknown" || is(false, facts.session.tainted)) return null;
    return effectRank(effect) <= effectRank(policy.threat.taintedMaxEffect)
      ? null
      : denial("TAINTED_HIGH_RISK", `effect ${effect} in a session that read untrusted content`);
  },
};

/** No delegation can be checked yet, so whoever claims to act for another is denied. */
export const delegation: Gate<"delegation"> = {
  name: "delegation",
  judge: ({ facts }) =>
    facts.principal.state === "verified" && facts.principal.delegator === ""
      ? null
      : denial("POLICY_EVALUATION_ERROR", "the claim to act for another cannot be checked"),
};

export const ceiling: Gate<"ceiling"> = {
  name: "ceiling",
  judge({ call, policy, subject, effect }) {
    if (subject.kind === "unknown" || !policy.ceiling.present) return null;
    const reason = policy.ceiling.forbids(call.target);
    if (reason !== "") return denial("FORBIDDEN_EFFECT", reason);
    return effectRank(effect) <= effectRank(policy.ceiling.maxEffect)
      ? null
      : denial("DENY_CEILING", `effect ${effect} is above ${policy.ceiling.maxEffect}`);
  },
};

export const surface: Gate<"surface"> = {
  name: "surface",
  judge({ call, policy, facts, subject, profile }) {
    if (subject.kind === "unknown") {
      const model = call.target.startsWith("model:");
      return denial(model ? "DENY_MODEL" : "DENY_TOOL_NOT_FOUND", `\`${call.target}\` is not declared`);
    }
    if (profile === null)
      return denial(
        subject.kind === "model" ? "DENY_MODEL" : "DENY_TOOL_NOT_FOUND",
        "no profile matches the principal",
      );
    if (subject.kind === "net") return null;
    const connector = connectorOf({ policy, subject });
    if (subject.kind === "model") {
      if (!profile.models.has(subject.model.name))
        return denial("DENY_MODEL", `\`${subject.model.name}\` is not in the profile`);
      return connector !== null && (connector.kind === "openai" || connector.kind === "anthropic")
        ? null
        : denial("DENY_CONNECTOR", `no connector serves \`${subject.model.name}\``);
    }
    const { tool } = subject;
    if (!profile.tools.has(tool.name))
      return denial("DENY_TOOL_NOT_FOUND", `\`${tool.name}\` is in no toolset of the profile`);
    if (tool.kind !== "agent" && (connector === null || connector.kind === "connect"))
      return denial("DENY_CONNECTOR", `connector \`${tool.connector}\` may not serve \`${tool.name}\``);
    if (sideEffectRank(tool.sideEffect) > sideEffectRank(profile.maxSideEffect))
      return denial("DENY_SIDE_EFFECT", `\`${tool.sideEffect}\` is above \`${profile.maxSideEffect}\``);
    if ((tool.kind === "wasm") !== (tool.sandbox === "restricted"))
      return denial("DENY_SANDBOX_PROFILE", `\`${tool.sandbox}\` does not fit a ${tool.kind} tool`);
    if (tool.definition !== "") {
      if (facts.definition.state !== "observed")
        return denial("DENY_TOOL_DRIFT", "the upstream's definition has not been seen");
      if (facts.definition.hash !== tool.definition)
        return denial("DENY_TOOL_DRIFT", `pinned ${tool.definition}, found ${facts.definition.hash}`);
    }
    return null;
  },
};
