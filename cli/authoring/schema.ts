// The policy document as a JSON Schema, with a sentence for each field: what editors complete from, and the
// source of docs/reference/policy.md. The compiler in kernel/policy stays the judge; a test holds the two together.

import { EFFECT_CLASSES, SANDBOXES, SIDE_EFFECTS, THREAT_LEVELS } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";

type Fields = Readonly<Record<string, JsonObject>>;

const say = (description: string, schema: JsonObject): JsonObject => ({ description, ...schema });
const text = (description: string, more: JsonObject = {}): JsonObject =>
  say(description, { type: "string", ...more });
const whole = (description: string, more: JsonObject = {}): JsonObject =>
  say(description, { type: "integer", minimum: 0, ...more });
const choice = (description: string, values: readonly string[]): JsonObject =>
  say(description, { enum: values });
const list = (description: string, items: JsonObject): JsonObject =>
  say(description, { type: "array", items });
const object = (description: string, properties: Fields, required: readonly string[] = []): JsonObject =>
  say(description, {
    type: "object",
    additionalProperties: false,
    ...(required.length > 0 ? { required } : {}),
    properties,
  });
const map = (description: string, values: JsonObject): JsonObject =>
  say(description, { type: "object", additionalProperties: values });

const name = { type: "string" };
const keyId = { type: "string", pattern: "^ed25519:[0-9a-f]{16}$" };
const hash = { pattern: "^sha256:[0-9a-f]{64}$" };
const destination = { type: "string", pattern: "^[^:]+:([0-9]{1,5}|\\*)$" };
const schemaLike: JsonObject = { type: ["object", "boolean"] };

const amounts: Fields = {
  calls: whole("Calls at most."),
  tokens: whole("Tokens at most, in and out together."),
  costMicroUsd: whole("Cost at most, in millionths of a dollar."),
};
const budgets = object("What may be spent. Absent: no limit but the ceiling's.", {
  session: object("Per session.", {
    ...amounts,
    durationSeconds: whole("Age at which a session takes no more calls."),
  }),
  daily: object("Per calendar day in `timezone`.", {
    ...amounts,
    scope: choice("`pod`: each pod its own; `sidecar`: shared by every pod of one GuardianSidecar.", [
      "pod",
      "sidecar",
    ]),
  }),
});

const requirement: JsonObject = {
  description:
    "A proof that must exist before the call: `all`, `any`, `not`, `cel`, `receipt`, `artifact` or `approval`.",
  oneOf: [
    object("Every one of these.", { all: list("The proofs.", { $ref: "#/$defs/requirement" }) }, ["all"]),
    object("At least one of these.", { any: list("The proofs.", { $ref: "#/$defs/requirement" }) }, ["any"]),
    object("Not this.", { not: { $ref: "#/$defs/requirement" } }, ["not"]),
    object("A condition.", { cel: text("A CEL expression that is true.") }, ["cel"]),
    object("A ceremony.", { approval: text("The name of one under `approvals`.") }, ["approval"]),
    object(
      "An earlier outcome that the guardian itself saw.",
      {
        receipt: object(
          "The outcome.",
          {
            tool: text("The tool whose receipt is looked for."),
            status: choice("Its status.", ["SUCCEEDED", "FAILED", "UNKNOWN", "DENIED"]),
            withinSeconds: whole("Its age at most."),
            sameArgs: list("Arguments that both calls must share.", name),
          },
          ["tool", "status"],
        ),
      },
      ["receipt"],
    ),
    object(
      "A signed artifact.",
      {
        artifact: object(
          "The artifact.",
          {
            type: text("Its type, such as `slsa-provenance`."),
            signer: say("The key that signed it.", keyId),
          },
          ["type", "signer"],
        ),
      },
      ["artifact"],
    ),
  ],
};

const tool = object(
  "A tool that may be called at all.",
  {
    name: text("`tool:<connector>/<name>`; connector `agent` is executed by the agent itself.", {
      pattern: "^tool:[A-Za-z0-9._%-]+/[A-Za-z0-9._/%-]+$",
    }),
    description: text("What it does, for people and for the model."),
    effect: choice(
      "E0 compute, E1 read, E2 reversible write, E3 hard to reverse, E4 irreversible or critical.",
      EFFECT_CLASSES,
    ),
    sideEffect: choice("How far it reaches; `destructive` always needs an approval.", SIDE_EFFECTS),
    sandbox: choice(
      "`restricted` WASM with limits, `isolated` a connector with a destination list, `native` the kernel's own.",
      SANDBOXES,
    ),
    input: say(
      "JSON Schema 2020-12 of its arguments. An object with `properties` is closed unless it says otherwise.",
      schemaLike,
    ),
    output: say("JSON Schema of its answer; another answer is ERR_CONNECTOR_CONTRACT_DRIFT.", schemaLike),
    definition: text("Pin of the upstream's name, description and schemas; drift is DENY_TOOL_DRIFT.", hash),
    timeoutMs: whole("How long the connector may take. Absent: 10000."),
    idempotency: choice("`key`: a repeated key is answered from the record. Absent: none.", ["key", "none"]),
    rate: object("How often.", { perMinute: whole("Calls a minute at most.") }, ["perMinute"]),
    cost: object("What one call costs.", { microUsd: whole("In millionths of a dollar.") }, ["microUsd"]),
    trust: choice("Of its output; untrusted output taints the session. Absent: untrusted.", [
      "trusted",
      "untrusted",
    ]),
    module: text("Hash of the WASM module.", hash),
    limits: object("Limits of the WASM module.", {
      gas: whole("Gas at most."),
      memoryBytes: whole("Memory at most."),
      outputBytes: whole("Output at most."),
      timeMs: whole("Time at most."),
    }),
  },
  ["name", "effect", "sideEffect", "sandbox", "input"],
);

export const policySchema: JsonObject = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "Atoll policy",
  description: "What the agents of one team may do. Everything is closed unless it is opened here.",
  type: "object",
  additionalProperties: false,
  required: ["apiVersion", "name", "layer"],
  $defs: { requirement },
  properties: {
    apiVersion: say("The format.", { const: "atoll.dev/policy/v1" }),
    name: text("The policy's name in receipts and messages."),
    layer: choice("P0 is a ceiling, P1 governance.", ["P0", "P1"]),
    connectors: map(
      "Where calls go. The name has no `__`.",
      object(
        "A connector.",
        {
          kind: choice("What it speaks.", ["mcp", "openai", "anthropic", "wasm", "connect"]),
          url: text("Its endpoint."),
          command: list("A stdio server, only outside Kubernetes.", name),
          credential: text("The name of a file in the guardian's credential volume."),
          destinations: list(
            "`host:port` it may reach; `*.x` matches below x and not x itself.",
            destination,
          ),
        },
        ["kind"],
      ),
    ),
    tools: list("The tools.", tool),
    models: list(
      "The models.",
      object(
        "A model.",
        {
          name: text("`model:<provider>/<model>`.", {
            pattern: "^model:[A-Za-z0-9._%-]+/[A-Za-z0-9._/%-]+$",
          }),
          price: object(
            "Its price.",
            {
              inputMicroUsdPerMTok: whole("Of a million tokens in, in millionths of a dollar."),
              outputMicroUsdPerMTok: whole("Of a million tokens out."),
            },
            ["inputMicroUsdPerMTok", "outputMicroUsdPerMTok"],
          ),
        },
        ["name"],
      ),
    ),
    toolsets: map("Names for groups of tools.", list("The tools.", name)),
    profiles: list(
      "Who gets what: the first that matches, and nothing where none does.",
      object(
        "A profile.",
        {
          match: object("All stated must hold.", {
            serviceAccount: text("The pod's service account, also as `namespace/name`."),
            principal: text("The principal's id."),
            role: text("A role of the principal."),
            namespaceLabels: map("Labels of the pod's namespace.", name),
          }),
          toolsets: list("The toolsets.", name),
          models: list("The models.", name),
          maxSideEffect: choice("The furthest reach. Absent: read_only.", SIDE_EFFECTS),
          budgets,
          destinations: object("Hosts for the forward proxy.", {
            allow: list("May be reached.", destination),
            deny: list("May not; beats allow.", destination),
          }),
        },
        ["match"],
      ),
    ),
    rules: list(
      "Every rule that matches is evaluated: deny beats escalate beats allow; none is DENY_NO_MATCH.",
      object(
        "A rule.",
        {
          id: text("Its name in receipts."),
          when: text(
            "A CEL expression over `call`, `principal`, `session`, `budget`, `pod`, `now`. Absent: always.",
          ),
          tools: list("Names or patterns with a star.", name),
          then: choice("What follows.", ["allow", "deny", "escalate"]),
          approval: text("The ceremony of an `escalate`."),
          shadow: say("Records what it would have done and changes nothing.", { type: "boolean" }),
          requires: { $ref: "#/$defs/requirement" },
        },
        ["id", "tools", "then"],
      ),
    ),
    approvals: map(
      "Ceremonies.",
      object(
        "A ceremony.",
        {
          approvers: list("The keys of those who may approve.", keyId),
          quorum: whole("How many distinct approvers it takes.", { minimum: 1 }),
          timelockSeconds: whole("Nobody's yes counts before. Absent: 0."),
          holdSeconds: whole("How long an approver looks at least. Absent: 0."),
          expiresSeconds: whole("After that the request has ended. Absent: 900."),
          waitSeconds: whole("How long the agent's answer is held open. Absent: 0."),
          challenge: say("Approvers sign a challenge made from what they were shown. Absent: true.", {
            type: "boolean",
          }),
          maxPerHour: whole("Requests an hour at most."),
        },
        ["approvers", "quorum"],
      ),
    ),
    ceiling: object("P0 only: nothing below can lift it.", {
      maxEffect: choice("The gravest effect class.", EFFECT_CLASSES),
      forbidden: list(
        "What no policy can allow.",
        object("A ban.", { tools: list("Patterns.", name), reason: text("Why, for people.") }, [
          "tools",
          "reason",
        ]),
      ),
      budgets,
    }),
    perimeter: object("Where and when.", {
      hours: object(
        "Working hours.",
        {
          days: list("Mon to Sun.", { enum: ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] }),
          from: text("HH:MM, inclusive."),
          to: text("HH:MM, exclusive."),
          timezone: text("IANA name."),
        },
        ["days", "from", "to", "timezone"],
      ),
      dataClasses: object("Classes of data.", { deny: list("That may not be in a call.", name) }, ["deny"]),
      redact: list("Regular expressions whose matches are blotted out in records and for approvers.", name),
      maxConcurrent: whole("Calls under way at most."),
      requireTls: say("Upstreams are reached by TLS. Absent: true.", { type: "boolean" }),
    }),
    threat: object("What the scan of content does.", {
      denyAt: choice("Findings from this level deny. Absent: HIGH.", THREAT_LEVELS),
      taintedMaxEffect: choice(
        "The gravest effect of a session that has read untrusted content. Absent: E1.",
        EFFECT_CLASSES,
      ),
    }),
    identity: object(
      "Who calls.",
      {
        mode: choice("`serviceAccount`: the pod is the principal; `jwt`: a bearer token says.", [
          "serviceAccount",
          "jwt",
        ]),
        jwt: object(
          "The verifier.",
          {
            issuer: text("`iss`."),
            audience: text("`aud`."),
            jwks: say("The pinned keys.", { type: "object" }),
          },
          ["issuer", "audience", "jwks"],
        ),
        relations: list("Tuples `object#relation@subject`.", name),
        check: list(
          "Relations that calls need.",
          object(
            "A check.",
            {
              tools: list("Patterns.", name),
              relation: text("The relation."),
              object: text("The object, `{call.args.x}` filled in."),
            },
            ["tools", "relation", "object"],
          ),
        ),
      },
      ["mode"],
    ),
    freshness: object("How long the control stream may be silent.", {
      maxStaleSeconds: whole("Absent: 600."),
    }),
    decision: object("How long a permit lives.", { lifetimeMs: whole("Absent: 30000.") }),
    privateAddresses: object(
      "Private ranges that the proxy may reach.",
      { allow: list("In CIDR form.", name) },
      ["allow"],
    ),
    capabilityTypes: map("Tools by capability type, for execution envelopes.", list("The tools.", name)),
    retention: object("What is kept.", {
      lowTierDays: whole("Days before E0 and E1 receipts may be condensed. Absent: 7."),
      inputs: choice("How arguments are recorded. Absent: redacted.", ["full", "redacted", "hashes"]),
    }),
    limits: object("Load.", {
      concurrentCalls: whole("Absent: 16."),
      requestsPerSecond: whole("Absent: 50."),
    }),
    timezone: text("Of calendar budgets. Absent: UTC."),
  },
};

/** The reference page: one line a field, in the document's order. */
export function policyReference(): string {
  const rows: string[] = [];
  const visit = (schema: JsonValue | undefined, path: string, required: boolean): void => {
    if (
      typeof schema !== "object" ||
      schema === null ||
      !("properties" in schema || "description" in schema || "$ref" in schema)
    )
      return;
    const s = schema;
    if (path !== "")
      rows.push(
        `| \`${path}\` | ${typeName(s)} | ${required ? "required. " : ""}${typeof s["description"] === "string" ? s["description"] : "A requirement."} |`,
      );
    const needs = Array.isArray(s["required"]) ? s["required"] : [];
    for (const [k, v] of Object.entries((s["properties"] ?? {}) as JsonObject))
      visit(v, path === "" ? k : `${path}.${k}`, needs.includes(k));
    if (s["items"] !== undefined) visitInner(s["items"], `${path}[]`);
    const values = s["additionalProperties"];
    if (typeof values === "object" && values !== null) visitInner(values, `${path}.*`);
  };
  const visitInner = (schema: JsonValue, path: string): void => {
    const s = schema as JsonObject;
    const needs = Array.isArray(s["required"]) ? s["required"] : [];
    for (const [k, v] of Object.entries((s["properties"] ?? {}) as JsonObject))
      visit(v, `${path}.${k}`, needs.includes(k));
  };
  visit(policySchema, "", false);
  return [
    "# Policy reference",
    "",
    "Generated by `atoll bundle schema --reference`. A field that is not listed refuses the load.",
    "",
    "| field | type | meaning |",
    "|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}

function typeName(s: JsonObject): string {
  if (Array.isArray(s["enum"])) return s["enum"].map((v) => `\`${String(v)}\``).join(" ");
  if (s["const"] !== undefined) return `\`${JSON.stringify(s["const"])}\``;
  if (s["$ref"] !== undefined) return "requirement";
  if (s["type"] === "array") return "list";
  if (
    s["type"] === "object" &&
    s["properties"] === undefined &&
    typeof s["additionalProperties"] === "object"
  )
    return "map";
  return Array.isArray(s["type"]) ? s["type"].join(" or ") : typeof s["type"] === "string" ? s["type"] : "";
}
