// Document to compiled policy, once: every look-up on the way of a call becomes a map or a set, every expression a
// plan, every schema a pin. What the document leaves out is closed.

import { hashJson } from "../crypto/crypto.ts";
import { ContractError, at, hashFrom, isObject, keyIdFrom } from "../contracts/contracts.ts";
import type {
  BudgetDoc,
  BudgetPolicy,
  Ceremony,
  CeremonyDoc,
  ConnectorDoc,
  ConnectorPolicy,
  Hash,
  JsonObject,
  JsonValue,
  KeyId,
  Limits,
  ModelPolicy,
  Policy,
  PolicyDoc,
  Profile,
  ProfileDoc,
  RelationCheck,
  SignatureCheck,
  ToolDoc,
  ToolPolicy,
} from "../contracts/contracts.ts";
import { compileRelations, tokenVerifier } from "../identity/identity.ts";
import { pinSchema } from "../manifest/manifest.ts";
import { destinations, namePattern } from "../surface/surface.ts";
import type { KeyBook } from "../trust/trust.ts";
import { closeSchema } from "./close.ts";
import { checkConsistency } from "./layers.ts";
import { compilePerimeter, strictest } from "./perimeter.ts";
import { compileRecording } from "./recording.ts";
import { createEngine } from "../guardian/guardian.ts";
import { planned, ruleSource, rulesFor } from "./rules.ts";
import type { RuleSource } from "./rules.ts";
import { parsePolicy } from "./shape.ts";

export interface CompileOptions {
  /** The P0 document that bounds this one. */
  readonly ceiling?: JsonValue;
  /** Where approvers' and overriders' keys come from; without it no approval can be given. */
  readonly keys?: KeyBook;
}

/** The compiled policy of a P1 document under its ceiling, or a ContractError that names the path at fault. */
export function compilePolicy(document: JsonValue, options: CompileOptions = {}): Policy {
  const doc = parsePolicy(document);
  if (doc.layer !== "P1") throw new ContractError("layer", "expected P1; a P0 is given as the ceiling");
  if (doc.ceiling !== undefined) throw new ContractError("ceiling", "belongs to a P0 document");
  const p0 = options.ceiling === undefined ? null : parsePolicy(options.ceiling);
  if (p0 !== null) checkConsistency(p0, doc);
  const ceilingHash = p0 === null ? "" : hashJson(options.ceiling ?? null);
  return assemble(doc, hashJson(document), p0, ceilingHash, options.keys);
}

function assemble(
  doc: PolicyDoc,
  hash: Hash | "",
  p0: PolicyDoc | null,
  ceilingHash: Hash | "",
  keys?: KeyBook,
): Policy {
  const ceremonies = ceremoniesOf(doc);
  const forbids = forbiddenBy(p0);
  const connectors = new Map(
    Object.entries(doc.connectors ?? {}).map(([name, c]) => [name, connectorOf(name, c)]),
  );
  const tools = doc.tools ?? [];
  refuseTwice(
    tools.map((t) => t.name),
    "tools",
    "name",
  );
  refuseTwice(
    (doc.models ?? []).map((m) => m.name),
    "models",
    "name",
  );
  refuseTwice(
    (doc.rules ?? []).map((r) => r.id),
    "rules",
    "id",
  );
  const engine = createEngine();
  const rules = (doc.rules ?? []).map((r, i) => ruleSource(r, at("rules", i), ceremonies, engine));
  const compiledTools = new Map(
    tools.map((t, i) => [t.name, toolOf(t, at("tools", i), { doc, connectors, rules, forbids })]),
  );
  const models = new Map(
    (doc.models ?? []).map((m): [string, ModelPolicy] => [
      m.name,
      {
        name: m.name,
        price: m.price ?? null,
        forbidden: forbids(m.name),
        ...rulesFor(m.name, rules, null),
      },
    ]),
  );
  const net = rulesFor(null, rules, null);
  // Also a rule that matches nothing must be right.
  for (const r of rules) if (r.planned.size === 0) planned(r, null);
  const toolsets = toolsetsOf(doc, [...compiledTools.keys()]);
  return {
    name: doc.name,
    hash,
    ceilingHash,
    overlayHash: "",
    tools: compiledTools,
    models,
    connectors,
    profiles: (doc.profiles ?? []).map((p, i) => profileOf(p, i, toolsets, [...models.keys()])),
    ceremonies,
    keys: { approver: (id) => keyIn(keys, "approver", id), override: (id) => keyIn(keys, "override", id) },
    netRules: net.rules,
    netVariables: net.variables,
    ceiling: {
      present: p0 !== null,
      maxEffect: p0?.ceiling?.maxEffect ?? "E4",
      forbids,
      budgets: budgetsOf(p0?.ceiling?.budgets),
    },
    perimeter: compilePerimeter(doc.perimeter, p0?.perimeter),
    threat: strictest(doc.threat, p0?.threat),
    identity: identityOf(doc),
    maxStaleMs:
      Math.min(doc.freshness?.maxStaleSeconds ?? 600, p0?.freshness?.maxStaleSeconds ?? Infinity) * 1000,
    lifetimeMs: Math.min(doc.decision?.lifetimeMs ?? 30_000, p0?.decision?.lifetimeMs ?? Infinity),
    privateAddresses: doc.privateAddresses?.allow ?? [],
    capabilityTypes: new Map(Object.entries(doc.capabilityTypes ?? {})),
    lowTierDays: doc.retention?.lowTierDays ?? 7,
    recording: compileRecording(
      doc.retention?.inputs ?? "redacted",
      [...(doc.perimeter?.redact ?? []), ...(p0?.perimeter?.redact ?? [])],
      "perimeter.redact",
    ),
    concurrentCalls: Math.min(doc.limits?.concurrentCalls ?? 16, p0?.limits?.concurrentCalls ?? Infinity),
    requestsPerSecond: Math.min(
      doc.limits?.requestsPerSecond ?? 50,
      p0?.limits?.requestsPerSecond ?? Infinity,
    ),
    timezone: doc.timezone ?? "UTC",
  };
}

function keyIn(keys: KeyBook | undefined, role: "approver" | "override", id: KeyId): SignatureCheck | null {
  const found = keys?.keyFor(role, id);
  return found === undefined || typeof found === "string" ? null : found;
}

function refuseTwice(names: readonly string[], path: string, member: string): void {
  const seen = new Map<string, number>();
  for (const [i, name] of names.entries()) {
    const before = seen.get(name);
    if (before !== undefined)
      throw new ContractError(at(at(path, i), member), `\`${name}\` is already at ${at(path, before)}`);
    seen.set(name, i);
  }
}

function forbiddenBy(p0: PolicyDoc | null): (target: string) => string {
  const entries = (p0?.ceiling?.forbidden ?? []).map((f) => ({
    reason: f.reason,
    matches: f.tools.map(namePattern),
  }));
  return (target) => entries.find((f) => f.matches.some((m) => m(target)))?.reason ?? "";
}

function connectorOf(name: string, c: ConnectorDoc): ConnectorPolicy {
  const path = at(at("connectors", name), "destinations");
  const list = c.destinations ?? (c.url === undefined ? [] : [ownDestination(c.url)]);
  if ((c.kind === "mcp") !== (c.url !== undefined || c.command !== undefined))
    if (c.kind === "mcp") throw new ContractError(at("connectors", name), "needs `url` or `command`");
  if ((c.kind === "openai" || c.kind === "anthropic") && c.url === undefined)
    throw new ContractError(at("connectors", name), "needs `url`");
  return {
    name,
    kind: c.kind,
    url: c.url ?? "",
    command: c.command ?? [],
    credential: c.credential ?? "",
    destinations: { allows: destinations(list, path), denies: () => false },
    destinationList: list,
  };
}
function ownDestination(url: string): string {
  const u = new URL(url);
  return `${u.hostname}:${u.port === "" ? (u.protocol === "https:" ? "443" : "80") : u.port}`;
}

function ceremoniesOf(doc: PolicyDoc): ReadonlyMap<string, Ceremony> {
  const of = (name: string, c: CeremonyDoc): Ceremony => {
    const path = at("approvals", name);
    const approvers = c.approvers.map((k, i) => keyIdFrom(k, at(at(path, "approvers"), i)));
    if (new Set(approvers).size !== approvers.length)
      throw new ContractError(at(path, "approvers"), "names a key twice");
    if (c.quorum > approvers.length)
      throw new ContractError(at(path, "quorum"), `${c.quorum} of ${approvers.length} can never be met`);
    const expiresSeconds = c.expiresSeconds ?? 900;
    if ((c.timelockSeconds ?? 0) >= expiresSeconds)
      throw new ContractError(at(path, "timelockSeconds"), "is not before `expiresSeconds`");
    return {
      name,
      approvers,
      quorum: c.quorum,
      timelockSeconds: c.timelockSeconds ?? 0,
      holdSeconds: c.holdSeconds ?? 0,
      expiresSeconds,
      waitSeconds: c.waitSeconds ?? 0,
      challenge: c.challenge ?? true,
      maxPerHour: c.maxPerHour ?? 60,
    };
  };
  return new Map(Object.entries(doc.approvals ?? {}).map(([name, c]) => [name, of(name, c)]));
}

interface Around {
  readonly doc: PolicyDoc;
  readonly connectors: ReadonlyMap<string, ConnectorPolicy>;
  readonly rules: readonly RuleSource[];
  readonly forbids: (target: string) => string;
}

function toolOf(t: ToolDoc, path: string, { doc, connectors, rules, forbids }: Around): ToolPolicy {
  const connector = t.name.slice("tool:".length).split("/", 1)[0] ?? "";
  const kind = connector === "agent" ? "agent" : connectors.get(connector)?.kind;
  if (kind === undefined)
    throw new ContractError(at(path, "name"), `connector \`${connector}\` is not in connectors`);
  if (kind === "wasm" && t.module === undefined)
    throw new ContractError(at(path, "module"), "is missing: a wasm tool pins its module");
  const inputSchema = closeSchema(t.input, at(path, "input"));
  const outputSchema = t.output === undefined ? null : schemaFrom(t.output, at(path, "output"));
  return {
    name: t.name,
    connector,
    kind,
    effect: t.effect,
    sideEffect: t.sideEffect,
    sandbox: t.sandbox,
    inputSchema,
    outputSchema,
    input: pinned(inputSchema, at(path, "input")),
    output: outputSchema === null ? null : pinned(outputSchema, at(path, "output")),
    definition: t.definition === undefined ? "" : hashFrom(t.definition, at(path, "definition")),
    timeoutMs: t.timeoutMs ?? 10_000,
    idempotency: t.idempotency ?? "none",
    perMinute: t.rate?.perMinute ?? -1,
    costMicroUsd: t.cost?.microUsd ?? 0,
    trusted: t.trust === "trusted",
    module: t.module === undefined ? "" : hashFrom(t.module, at(path, "module")),
    limits: {
      gas: t.limits?.gas ?? 50_000_000,
      memoryBytes: t.limits?.memoryBytes ?? 16_777_216,
      outputBytes: t.limits?.outputBytes ?? 65_536,
      timeMs: t.limits?.timeMs ?? 200,
    },
    description: t.description ?? "",
    forbidden: forbids(t.name),
    ...rulesFor(t.name, rules, inputSchema),
    relationChecks: (doc.identity?.check ?? [])
      .map((c, i) => ({ c, path: at(at("identity.check", i), "object") }))
      .filter(({ c }) => c.tools.some((p) => namePattern(p)(t.name)))
      .map(({ c, path: where }) => relationCheck(c.relation, c.object, where)),
  };
}

function schemaFrom(v: JsonValue, path: string): JsonObject | boolean {
  if (typeof v === "boolean" || isObject(v)) return v;
  throw new ContractError(path, "expected a JSON Schema");
}
function pinned(schema: JsonObject | boolean, path: string): ReturnType<typeof pinSchema> {
  try {
    return pinSchema(schema);
  } catch (error) {
    throw new ContractError(path, error instanceof Error ? error.message : String(error));
  }
}

function relationCheck(relation: string, object: string, path: string): RelationCheck {
  const parts: (string | { readonly path: readonly string[] })[] = [];
  for (const [i, piece] of object.split(/[{}]/).entries()) {
    if (i % 2 === 0) {
      if (piece !== "") parts.push(piece);
      continue;
    }
    const m = /^call\.args((?:\.[A-Za-z_][A-Za-z0-9_]*)+)$/.exec(piece);
    if (m?.[1] === undefined)
      throw new ContractError(path, `expected \`{call.args.NAME}\`, found \`{${piece}}\``);
    parts.push({ path: m[1].slice(1).split(".") });
  }
  return { relation, object: parts };
}

function toolsetsOf(doc: PolicyDoc, tools: readonly string[]): ReadonlyMap<string, readonly string[]> {
  return new Map(
    Object.entries(doc.toolsets ?? {}).map(([name, patterns]) => [
      name,
      patterns.flatMap((p, i) => {
        const matches = namePattern(p);
        const found = tools.filter(matches);
        if (found.length === 0 && !p.includes("*"))
          throw new ContractError(at(at("toolsets", name), i), `\`${p}\` is not in tools`);
        return found;
      }),
    ]),
  );
}

function profileOf(
  p: ProfileDoc,
  index: number,
  toolsets: ReadonlyMap<string, readonly string[]>,
  models: readonly string[],
): Profile {
  const path = at("profiles", index);
  if (Object.keys(p.match).length === 0)
    throw new ContractError(at(path, "match"), 'is empty; write `principal: "*"` for whoever is verified');
  const tools = (p.toolsets ?? []).flatMap((name, i) => {
    const found = toolsets.get(name);
    if (found === undefined)
      throw new ContractError(at(at(path, "toolsets"), i), `\`${name}\` is not in toolsets`);
    return found;
  });
  const allowed = (p.models ?? []).flatMap((pattern, i) => {
    const found = models.filter(namePattern(pattern));
    if (found.length === 0 && !pattern.includes("*"))
      throw new ContractError(at(at(path, "models"), i), `\`${pattern}\` is not in models`);
    return found;
  });
  return {
    index,
    serviceAccount: p.match.serviceAccount ?? "",
    principal: p.match.principal ?? "",
    role: p.match.role ?? "",
    namespaceLabels: p.match.namespaceLabels ?? {},
    matchesPrincipal: namePattern(p.match.principal ?? "*"),
    tools: new Set(tools),
    models: new Set(allowed),
    maxSideEffect: p.maxSideEffect ?? "read_only",
    budgets: budgetsOf(p.budgets),
    destinations: {
      allows: destinations(p.destinations?.allow ?? [], at(path, "destinations.allow")),
      denies: destinations(p.destinations?.deny ?? [], at(path, "destinations.deny")),
    },
  };
}

const limits = (b: BudgetDoc | undefined): Limits => ({
  calls: b?.calls ?? -1,
  tokens: b?.tokens ?? -1,
  costMicroUsd: b?.costMicroUsd ?? -1,
  durationSeconds: b?.durationSeconds ?? -1,
});
const budgetsOf = (
  b: { readonly session?: BudgetDoc; readonly daily?: BudgetDoc } | undefined,
): BudgetPolicy => ({
  session: limits(b?.session),
  daily: limits(b?.daily),
  dailyScope: b?.daily?.scope ?? "pod",
});

function identityOf(doc: PolicyDoc): Policy["identity"] {
  const jwt = doc.identity?.jwt ?? null;
  // A key set that cannot verify is refused when the policy loads, not when the first token comes.
  tokenVerifier(jwt);
  return {
    mode: doc.identity?.mode ?? "serviceAccount",
    jwt,
    relates: compileRelations(doc.identity?.relations ?? [], "identity.relations"),
  };
}

/** What a guardian has before a policy is active: everything is denied. */
export const NO_POLICY: Policy = assemble(
  { apiVersion: "atoll.dev/policy/v1", name: "none", layer: "P1" },
  "",
  null,
  "",
);
