// What is legal and still wrong: a way round, a rule without effect, a promise that cannot be kept. Pure: document in, findings out.

import type {
  BudgetDoc,
  JsonValue,
  PolicyDoc,
  RequirementDoc,
  RuleDoc,
  ToolDoc,
} from "../contracts/contracts.ts";

export interface LintFinding {
  readonly lint: LintName;
  readonly severity: "error" | "warning";
  readonly path: string;
  readonly message: string;
  readonly hint: string;
}

export const LINTS = {
  "way-round": "a `connect` destination is also the host of a governed connector",
  "destructive-unapproved": "a destructive tool can run without an approval",
  "dead-rule": "a rule that can never match",
  "unreached-tool": "a tool that no profile reaches",
  "allow-without-schema": "a tool is allowed and its input is not described",
  "above-ceiling": "a budget is above its ceiling",
  "forbids-nothing": "a forbidden pattern matches no tool",
  "quorum-unreachable": "an approval whose quorum cannot be met",
  "requires-hearsay": "a requirement looks at an outcome that the agent itself reports",
  "unpinned-definition": "the definition of an upstream tool is not pinned",
} as const;
export type LintName = keyof typeof LINTS;

/** A star in a pattern such as `tool:github/*` stands for any characters, also none. */
export function matchesPattern(pattern: string, name: string): boolean {
  const parts = pattern.split("*");
  const head = parts[0] ?? "";
  if (parts.length === 1) return pattern === name;
  if (!name.startsWith(head)) return false;
  let at = head.length;
  for (const [i, part] of parts.slice(1).entries()) {
    const last = i === parts.length - 2;
    if (last) return part === "" || (name.endsWith(part) && name.length - part.length >= at);
    const found = name.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return true;
}

const overlaps = (rule: RuleDoc, tool: string): boolean => rule.tools.some((p) => matchesPattern(p, tool));

export function lintPolicy(doc: PolicyDoc, other?: PolicyDoc): readonly LintFinding[] {
  const governance = doc.layer === "P1" ? doc : other;
  const ceiling = doc.layer === "P0" ? doc : other;
  const findings: LintFinding[] = [];
  const say = (
    lint: LintName,
    severity: "error" | "warning",
    path: string,
    message: string,
    hint: string,
  ): void => {
    findings.push({ lint, severity, path, message, hint });
  };
  if (doc.layer === "P1") {
    lintConnectors(doc, say);
    lintTools(doc, say);
    lintRules(doc, say);
    for (const [name, c] of Object.entries(doc.approvals ?? {})) {
      const distinct = new Set(c.approvers).size;
      if (c.quorum > distinct || c.quorum < 1) {
        say(
          "quorum-unreachable",
          "error",
          `approvals.${name}.quorum`,
          `a quorum of ${c.quorum} cannot be met by ${distinct} distinct approvers`,
          `name at least ${Math.max(c.quorum, 1)} approvers or lower the quorum`,
        );
      }
    }
    if (ceiling !== undefined) lintBudgets(doc, ceiling, say);
  }
  if (doc.layer === "P0" && governance !== undefined) {
    for (const [i, f] of (doc.ceiling?.forbidden ?? []).entries()) {
      for (const [j, pattern] of f.tools.entries()) {
        if (!(governance.tools ?? []).some((t) => matchesPattern(pattern, t.name))) {
          say(
            "forbids-nothing",
            "warning",
            `ceiling.forbidden[${i}].tools[${j}]`,
            `\`${pattern}\` matches no tool of \`${governance.name}\``,
            "correct the pattern or remove it",
          );
        }
      }
    }
  }
  return findings;
}

type Say = (
  lint: LintName,
  severity: "error" | "warning",
  path: string,
  message: string,
  hint: string,
) => void;

interface HostPort {
  readonly host: string;
  readonly port: string;
}
const hostPort = (destination: string): HostPort => {
  const at = destination.lastIndexOf(":");
  return { host: destination.slice(0, at).toLowerCase(), port: destination.slice(at + 1) };
};
const covers = (pattern: HostPort, d: HostPort): boolean =>
  (pattern.port === "*" || pattern.port === d.port) &&
  (pattern.host === "*" ||
    pattern.host === d.host ||
    (pattern.host.startsWith("*.") &&
      d.host.endsWith(pattern.host.slice(1)) &&
      d.host.length > pattern.host.length - 1));

function lintConnectors(doc: PolicyDoc, say: Say): void {
  const governed = Object.entries(doc.connectors ?? {}).filter(
    ([, c]) => c.kind !== "connect" && c.url !== undefined,
  );
  const lists = Object.entries(doc.connectors ?? {})
    .filter(([, c]) => c.kind === "connect")
    .map(([n, c]): [string, readonly string[]] => [`connectors.${n}.destinations`, c.destinations ?? []]);
  for (const [path, destinations] of lists) {
    for (const [i, destination] of destinations.entries()) {
      for (const [name, c] of governed) {
        if (!URL.canParse(c.url ?? "")) continue;
        const url = new URL(c.url ?? "");
        const own = {
          host: url.hostname.toLowerCase(),
          port: url.port === "" ? (url.protocol === "https:" ? "443" : "80") : url.port,
        };
        if (covers(hostPort(destination), own)) {
          say(
            "way-round",
            "error",
            `${path}[${i}]`,
            `\`${destination}\` also reaches \`${own.host}:${own.port}\`, the host of connector \`${name}\``,
            "the agent could call it without being judged per tool: remove or narrow the destination",
          );
        }
      }
    }
  }
}

function lintTools(doc: PolicyDoc, say: Say): void {
  const reached = new Set<string>();
  for (const p of doc.profiles ?? []) {
    for (const set of p.toolsets ?? []) for (const t of doc.toolsets?.[set] ?? []) reached.add(t);
  }
  const isReached = (name: string): boolean => [...reached].some((p) => matchesPattern(p, name));
  for (const [i, tool] of (doc.tools ?? []).entries()) {
    const path = `tools[${i}]`;
    const rules = (doc.rules ?? []).filter((r) => r.shadow !== true && overlaps(r, tool.name));
    if (!isReached(tool.name))
      say(
        "unreached-tool",
        "warning",
        `${path}.name`,
        `no profile reaches \`${tool.name}\``,
        "add it to a toolset that a profile names, or remove it",
      );
    if (tool.sideEffect === "destructive" && !alwaysEscalates(rules)) {
      say(
        "destructive-unapproved",
        "error",
        `${path}.sideEffect`,
        `\`${tool.name}\` is destructive and no rule without \`when\` escalates it to an approval`,
        "add a rule with `then: escalate` and an `approval` for it",
      );
    }
    if (rules.some((r) => r.then === "allow") && !isDescribed(tool.input)) {
      say(
        "allow-without-schema",
        "error",
        `${path}.input`,
        `\`${tool.name}\` is allowed and its input says nothing about its members`,
        "describe `properties`, or forbid all with `properties: {}`",
      );
    }
    if (tool.definition === undefined && connectorOf(doc, tool) === "mcp") {
      say(
        "unpinned-definition",
        "warning",
        `${path}.name`,
        `the upstream may change \`${tool.name}\` unnoticed`,
        "pin it with `definition:`",
      );
    }
  }
}

const alwaysEscalates = (rules: readonly RuleDoc[]): boolean =>
  !rules.some((r) => r.then === "allow") ||
  rules.some((r) => r.then === "escalate" && r.approval !== undefined && r.when === undefined);

const connectorName = (tool: string): string => /^tool:([^/]+)\//.exec(tool)?.[1] ?? "";
const connectorOf = (doc: PolicyDoc, tool: ToolDoc): string =>
  doc.connectors?.[connectorName(tool.name)]?.kind ?? "";

function isDescribed(schema: JsonValue): boolean {
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return schema === false;
  return (
    ["properties", "$ref", "allOf", "anyOf", "oneOf", "enum", "const", "maxProperties", "propertyNames"].some(
      (k) => Object.hasOwn(schema, k),
    ) ||
    ("additionalProperties" in schema && schema["additionalProperties"] === false)
  );
}

function lintRules(doc: PolicyDoc, say: Say): void {
  const names = [...(doc.tools ?? []).map((t) => t.name), ...(doc.models ?? []).map((m) => m.name)];
  for (const [i, rule] of (doc.rules ?? []).entries()) {
    for (const [j, pattern] of rule.tools.entries()) {
      const matched = names.filter((n) => matchesPattern(pattern, n));
      const elsewhere = pattern.startsWith("net:") || pattern.startsWith("agent:") || pattern === "*";
      if (matched.length === 0 && !elsewhere) {
        say(
          "dead-rule",
          "error",
          `rules[${i}].tools[${j}]`,
          `rule \`${rule.id}\` can never match: \`${pattern}\` is no declared tool or model`,
          near(pattern, names),
        );
      }
    }
    if (rule.when !== undefined && /^\s*false\s*$/.test(rule.when)) {
      say(
        "dead-rule",
        "error",
        `rules[${i}].when`,
        `rule \`${rule.id}\` can never match: its condition is \`false\``,
        "remove the rule or mark it `shadow: true` with the condition you mean",
      );
    }
    if (rule.requires !== undefined) lintRequirement(rule.requires, `rules[${i}].requires`, say);
  }
}

function lintRequirement(r: RequirementDoc, path: string, say: Say): void {
  if ("all" in r) r.all.forEach((x, i) => lintRequirement(x, `${path}.all[${i}]`, say));
  else if ("any" in r) r.any.forEach((x, i) => lintRequirement(x, `${path}.any[${i}]`, say));
  else if ("not" in r) lintRequirement(r.not, `${path}.not`, say);
  else if ("receipt" in r && connectorName(r.receipt.tool) === "agent") {
    say(
      "requires-hearsay",
      "error",
      `${path}.receipt.tool`,
      `\`${r.receipt.tool}\` is reported by the agent itself and never satisfies a requirement`,
      "require the receipt of a tool that the guardian executes",
    );
  }
}

function lintBudgets(doc: PolicyDoc, ceiling: PolicyDoc, say: Say): void {
  const periods = ["session", "daily"] as const;
  const fields = [
    "calls",
    "tokens",
    "costMicroUsd",
    "durationSeconds",
  ] as const satisfies readonly (keyof BudgetDoc)[];
  for (const [i, profile] of (doc.profiles ?? []).entries()) {
    for (const period of periods) {
      for (const field of fields) {
        const asked = profile.budgets?.[period]?.[field];
        const most = ceiling.ceiling?.budgets?.[period]?.[field];
        if (asked !== undefined && most !== undefined && asked > most) {
          say(
            "above-ceiling",
            "error",
            `profiles[${i}].budgets.${period}.${field}`,
            `${asked} is above the ceiling's ${most} (\`ceiling.budgets.${period}.${field}\` of \`${ceiling.name}\`)`,
            `at most ${most}`,
          );
        }
      }
    }
  }
}

/** The declared name closest to what was written, so that a typo is seen at once. */
function near(name: string, names: readonly string[]): string {
  let best = "";
  let least = 4;
  for (const n of names) {
    const d = distance(name, n, least);
    if (d < least) {
      least = d;
      best = n;
    }
  }
  return best === "" ? "declare it under `tools`, or correct the pattern" : `did you mean \`${best}\`?`;
}

function distance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) >= most) return most;
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next.push(
        Math.min(
          (row[j] ?? 0) + 1,
          (next[j - 1] ?? 0) + 1,
          (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
        ),
      );
    }
    row = next;
  }
  return row[b.length] ?? most;
}
