// The shape of a policy document as a table: what the strict reader obeys and editors are told.

import {
  ContractError,
  EFFECT_CLASSES,
  SANDBOXES,
  SIDE_EFFECTS,
  THREAT_LEVELS,
  arrayFrom,
  at,
  booleanFrom,
  integerFrom,
  isHash,
  isKeyId,
  isTarget,
  objectFrom,
  oneOf,
  stringFrom,
} from "../contracts/contracts.ts";
import type { JsonValue, PolicyDoc } from "../contracts/contracts.ts";
import { isNamePattern, parseDestination } from "../surface/surface.ts";

export type Shape =
  | { readonly is: "object"; readonly required: readonly string[]; readonly members: Members }
  | { readonly is: "map"; readonly key: RegExp; readonly of: Shape }
  | { readonly is: "list"; readonly of: Shape; readonly min: number }
  | { readonly is: "text"; readonly what: string; readonly test: (text: string) => boolean }
  | { readonly is: "choice"; readonly values: readonly string[] }
  | { readonly is: "integer"; readonly min: number; readonly max: number }
  | { readonly is: "boolean" }
  | { readonly is: "schema" }
  | { readonly is: "json" }
  | { readonly is: "requirement" }
  /** An object whose member `by` says which of the shapes it has. */
  | { readonly is: "tagged"; readonly by: string; readonly cases: Members }
  | { readonly is: "either"; readonly of: readonly Shape[] };
type Members = Readonly<Record<string, Shape>>;

export const object = (members: Members, ...required: readonly string[]): Shape => ({
  is: "object",
  required,
  members,
});
export const map = (of: Shape, key = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/): Shape => ({ is: "map", key, of });
export const list = (of: Shape, min = 0): Shape => ({ is: "list", of, min });
export const text = (what: string, test: (t: string) => boolean = (t) => t !== ""): Shape => ({
  is: "text",
  what,
  test,
});
export const choice = (...values: readonly string[]): Shape => ({ is: "choice", values });
export const integer = (min = 0, max = Number.MAX_SAFE_INTEGER): Shape => ({ is: "integer", min, max });
export const boolean: Shape = { is: "boolean" };
const matching = (what: string, form: RegExp): Shape => text(what, (t) => form.test(t));

const hash = text("a hash (`sha256:` and 64 lower-case hex)", isHash);
const keyId = text("a key id (`ed25519:` and 16 hex)", isKeyId);
const anyText = text("a text", () => true);
const words = text("a text that is not empty");
const pattern = text("a name or a pattern such as `tool:github/*`", isNamePattern);
const tool = text(
  "a tool's name such as `tool:github/create_issue`",
  (t) => /^tool:[^/]+\/.+$/.test(t) && isTarget(t),
);
const model = text(
  "a model's name such as `model:openai/gpt-x`",
  (t) => /^model:[^/]+\/.+$/.test(t) && isTarget(t),
);
const destination = text("`host:port`, `*.host:port` or `*.host:*`", (t) => {
  try {
    return parseDestination(t, "") !== undefined;
  } catch {
    return false;
  }
});
const time = matching("a time such as `07:00`", /^([01]\d|2[0-3]):[0-5]\d$|^24:00$/);
const timezone = text("a time zone such as `Europe/Berlin` or `UTC`", (t) => {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: t }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
});
const cidr = matching("an address range such as `10.20.0.0/16`", /^[0-9a-fA-F.:]+\/\d{1,3}$/);
const redaction = text("a regular expression", () => true);

const budget = object({
  calls: integer(),
  tokens: integer(),
  costMicroUsd: integer(),
  durationSeconds: integer(1),
  scope: choice("pod", "sidecar"),
});
const budgets = object({ session: budget, daily: budget });
const millis = integer(1, 86_400_000);

const connector = object(
  {
    kind: choice("mcp", "openai", "anthropic", "wasm", "connect"),
    url: text(
      "an http or https URL",
      (t) => /^https?:\/\/[^\s/?#@]+([/?][^\s#]*)?$/.test(t) && URL.canParse(t),
    ),
    command: list(words, 1),
    credential: matching("the name of a credential file", /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/),
    destinations: list(destination),
  },
  "kind",
);

const toolShape = object(
  {
    name: tool,
    effect: choice(...EFFECT_CLASSES),
    sideEffect: choice(...SIDE_EFFECTS),
    sandbox: choice(...SANDBOXES),
    input: { is: "schema" },
    output: { is: "schema" },
    definition: hash,
    timeoutMs: millis,
    idempotency: choice("key", "none"),
    rate: object({ perMinute: integer() }, "perMinute"),
    cost: object({ microUsd: integer() }, "microUsd"),
    trust: choice("trusted", "untrusted"),
    module: hash,
    limits: object({
      gas: integer(1),
      memoryBytes: integer(65_536, 2 ** 32),
      outputBytes: integer(0, 64 << 20),
      timeMs: millis,
    }),
    description: anyText,
  },
  "name",
  "effect",
  "sideEffect",
  "sandbox",
  "input",
);

export const POLICY: Shape = object(
  {
    apiVersion: choice("atoll.dev/policy/v1"),
    name: matching("a name of letters, digits, `.`, `_`, `-`", /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/),
    layer: choice("P0", "P1"),
    connectors: map(connector, /^(?!.*__)(?!agent$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/),
    tools: list(toolShape),
    models: list(
      object(
        {
          name: model,
          price: object(
            { inputMicroUsdPerMTok: integer(), outputMicroUsdPerMTok: integer() },
            "inputMicroUsdPerMTok",
            "outputMicroUsdPerMTok",
          ),
        },
        "name",
      ),
    ),
    toolsets: map(list(pattern)),
    profiles: list(
      object(
        {
          match: object({
            serviceAccount: words,
            principal: words,
            role: words,
            namespaceLabels: map(anyText, /^[A-Za-z0-9][A-Za-z0-9./_-]{0,252}$/),
          }),
          toolsets: list(words),
          models: list(pattern),
          maxSideEffect: choice(...SIDE_EFFECTS),
          budgets,
          destinations: object({ allow: list(destination), deny: list(destination) }),
        },
        "match",
      ),
    ),
    rules: list(
      object(
        {
          id: matching("an id of letters, digits, `.`, `_`, `-`", /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/),
          when: words,
          tools: list(pattern, 1),
          // biome-ignore lint/suspicious/noThenProperty: the field's name in the document
          then: choice("allow", "deny", "escalate"),
          approval: words,
          shadow: boolean,
          requires: { is: "requirement" },
        },
        "id",
        "tools",
        "then",
      ),
    ),
    approvals: map(
      object(
        {
          approvers: list(keyId, 1),
          quorum: integer(1, 100),
          timelockSeconds: integer(0, 2_592_000),
          holdSeconds: integer(0, 86_400),
          expiresSeconds: integer(1, 2_592_000),
          waitSeconds: integer(0, 3600),
          challenge: boolean,
          maxPerHour: integer(1, 100_000),
        },
        "approvers",
        "quorum",
      ),
    ),
    ceiling: object({
      maxEffect: choice(...EFFECT_CLASSES),
      forbidden: list(object({ tools: list(pattern, 1), reason: words }, "tools", "reason")),
      budgets,
    }),
    perimeter: object({
      hours: object(
        {
          days: list(choice("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), 1),
          from: time,
          to: time,
          timezone,
        },
        "days",
        "from",
        "to",
        "timezone",
      ),
      dataClasses: object({ deny: list(words) }, "deny"),
      redact: list(redaction),
      maxConcurrent: integer(),
      requireTls: boolean,
    }),
    threat: object({ denyAt: choice(...THREAT_LEVELS), taintedMaxEffect: choice(...EFFECT_CLASSES) }),
    identity: object(
      {
        mode: choice("serviceAccount", "jwt"),
        jwt: object({ issuer: words, audience: words, jwks: { is: "json" } }, "issuer", "audience", "jwks"),
        relations: list(words),
        check: list(
          object({ tools: list(pattern, 1), relation: words, object: words }, "tools", "relation", "object"),
        ),
      },
      "mode",
    ),
    freshness: object({ maxStaleSeconds: integer() }),
    decision: object({ lifetimeMs: millis }),
    privateAddresses: object({ allow: list(cidr) }, "allow"),
    capabilityTypes: map(list(pattern)),
    retention: object({ lowTierDays: integer(), inputs: choice("full", "redacted", "hashes") }),
    limits: object({ concurrentCalls: integer(1), requestsPerSecond: integer(1) }),
    timezone,
  },
  "apiVersion",
  "name",
  "layer",
);

const receipt = object(
  {
    tool: pattern,
    status: choice("SUCCEEDED", "FAILED", "UNKNOWN", "DENIED", "ESCALATED", "PERMITTED"),
    withinSeconds: integer(),
    sameArgs: list(words),
  },
  "tool",
  "status",
);
const artifact = object({ type: words, signer: keyId }, "type", "signer");

/** Refuses the first thing that the shape does not allow, with its path. */
export function checkShape(v: JsonValue | undefined, shape: Shape, path: string): void {
  switch (shape.is) {
    case "object": {
      const o = objectFrom(v, path);
      for (const name of Object.keys(o)) {
        const member = Object.hasOwn(shape.members, name) ? shape.members[name] : undefined;
        if (member === undefined) throw unknownMember(name, Object.keys(shape.members), path);
        checkShape(o[name], member, at(path, name));
      }
      for (const name of shape.required)
        if (!Object.hasOwn(o, name)) throw new ContractError(at(path, name), "is missing");
      return;
    }
    case "map":
      for (const [key, member] of Object.entries(objectFrom(v, path))) {
        if (!shape.key.test(key)) throw new ContractError(at(path, key), "is not an allowed name");
        checkShape(member, shape.of, at(path, key));
      }
      return;
    case "list": {
      const items = arrayFrom(v, path);
      if (items.length < shape.min) throw new ContractError(path, "is empty");
      for (const [i, item] of items.entries()) checkShape(item, shape.of, at(path, i));
      return;
    }
    case "text": {
      const found = stringFrom(v, path, 1 << 20);
      if (!shape.test(found))
        throw new ContractError(path, `expected ${shape.what}, found \`${found.slice(0, 80)}\``);
      return;
    }
    case "choice":
      oneOf(v, path, shape.values);
      return;
    case "integer":
      integerFrom(v, path, shape.min, shape.max);
      return;
    case "boolean":
      booleanFrom(v, path);
      return;
    case "schema":
      if (typeof v !== "boolean") objectFrom(v, path);
      return;
    case "json":
      objectFrom(v, path);
      return;
    case "requirement":
      requirement(v, path, 0);
      return;
    case "tagged": {
      const tag = oneOf(objectFrom(v, path)[shape.by], at(path, shape.by), Object.keys(shape.cases));
      const found = shape.cases[tag];
      if (found !== undefined) checkShape(v, found, path);
      return;
    }
    case "either":
      either(v, shape.of, path);
  }
}

function either(v: JsonValue | undefined, shapes: readonly Shape[], path: string): void {
  let last: unknown;
  for (const shape of shapes)
    try {
      return checkShape(v, shape, path);
    } catch (error) {
      last = error;
    }
  throw last;
}

function requirement(v: JsonValue | undefined, path: string, depth: number): void {
  if (depth > 16) throw new ContractError(path, "is nested deeper than 16");
  const o = objectFrom(v, path);
  const [kind, ...more] = Object.keys(o);
  if (kind === undefined || more.length > 0)
    throw new ContractError(path, "expected exactly one of all, any, not, cel, receipt, artifact, approval");
  const member = o[kind];
  const inner = at(path, kind);
  switch (kind) {
    case "all":
    case "any": {
      const parts = arrayFrom(member, inner);
      if (parts.length === 0) throw new ContractError(inner, "is empty");
      for (const [i, part] of parts.entries()) requirement(part, at(inner, i), depth + 1);
      return;
    }
    case "not":
      return requirement(member, inner, depth + 1);
    case "cel":
    case "approval":
      return checkShape(member, words, inner);
    case "receipt":
      return checkShape(member, receipt, inner);
    case "artifact":
      return checkShape(member, artifact, inner);
    default:
      throw unknownMember(kind, ["all", "any", "not", "cel", "receipt", "artifact", "approval"], path);
  }
}

function unknownMember(name: string, known: readonly string[], path: string): ContractError {
  const near = known.find((k) => distance(k.toLowerCase(), name.toLowerCase()) <= 2);
  const hint = near === undefined ? `known are ${known.join(", ")}` : `did you mean \`${near}\`?`;
  return new ContractError(at(path, name), `is not a known field; ${hint}`);
}

/** Edit distance of two short words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(
        Math.min(
          (row[j] ?? 0) + 1,
          (next[j - 1] ?? 0) + 1,
          (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
        ),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}

const isPolicyDoc = (v: JsonValue): v is JsonValue & PolicyDoc => {
  checkShape(v, POLICY, "");
  return true;
};

/** The document, or a ContractError that names the first path at fault. */
export function parsePolicy(value: JsonValue): PolicyDoc {
  if (isPolicyDoc(value)) return value;
  throw new ContractError("", "is no policy");
}
