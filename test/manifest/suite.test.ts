import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { isObject } from "../../kernel/contracts/contracts.ts";
import { interpret } from "../../kernel/manifest/interpret.ts";
import { prepare } from "../../kernel/manifest/keywords.ts";
import { pinSchema } from "../../kernel/manifest/manifest.ts";
import { vectorsFolder } from "../vectors.ts";

/** The second road for every schema, also for those that the compiler takes. */
function literally(schema: JsonValue): Pick<ReturnType<typeof pinSchema>, "validate"> {
  if (!isObject(schema)) return pinSchema(schema);
  prepare(schema);
  const check = interpret(schema, () => {});
  return {
    validate: check,
  };
}

const HOST = "http://localhost:1234/";

/** The schema with every remote document it needs embedded under its own `$id`: a pinned schema stands alone. */
function bundled(schema: JsonValue, remotes: ReadonlyMap<string, JsonValue>): JsonValue {
  if (!isObject(schema)) return schema;
  const needed = new Map<string, JsonValue>();
  const look = (value: JsonValue): void => {
    const text = JSON.stringify(value);
    for (const [url, remote] of remotes) {
      const name = url.split("/").at(-1) ?? "";
      const own = isObject(remote) ? remote["$id"] : undefined;
      if (needed.has(url) || !(text.includes(name) || (typeof own === "string" && text.includes(own))))
        continue;
      if (JSON.stringify(schema).includes(`"$id":"${url}"`)) continue;
      needed.set(url, remote);
      look(remote);
    }
  };
  look(schema);
  if (needed.size === 0) return schema;
  const embedded = [...needed].map(([url, remote]): [string, JsonValue] => [
    url,
    isObject(remote) && remote["$id"] !== undefined && remote["$id"] !== url
      ? { $id: url, $ref: remote["$id"], $defs: { remote } }
      : isObject(remote)
        ? { ...remote, $id: url }
        : remote,
  ]);
  const defs = isObject(schema["$defs"]) ? schema["$defs"] : {};
  return { ...schema, $defs: { ...defs, ...Object.fromEntries(embedded) } };
}

test.each([
  ["the schema suite: no wrong answer, at least 96 % answered", pinSchema],
  ["the judge by the letter alone: no wrong answer either", literally],
])("%s", (_name, pin) => {
  const folder = vectorsFolder();
  if (folder === undefined) return;
  const root = join(folder, "json-schema-2020-12");
  const remotes = new Map<string, JsonValue>();
  const walk = (dir: string): void => {
    for (const name of readdirSync(dir)) {
      const path = join(dir, name);
      if (statSync(path).isDirectory()) walk(path);
      else
        remotes.set(
          HOST + path.slice(join(root, "remotes").length + 1),
          JSON.parse(readFileSync(path, "utf8")),
        );
    }
  };
  walk(join(root, "remotes"));
  const wrong: string[] = [];
  const refused = new Map<string, number>();
  let right = 0;
  let all = 0;
  for (const file of readdirSync(root).filter((f) => f.endsWith(".json")))
    for (const group of JSON.parse(readFileSync(join(root, file), "utf8"))) {
      let pinned: Pick<ReturnType<typeof pinSchema>, "validate"> | undefined;
      try {
        pinned = pin(bundled(group.schema, remotes));
      } catch (e) {
        refused.set(
          `${file}: ${group.description}: ${e instanceof Error ? e.message : ""}`,
          group.tests.length,
        );
      }
      for (const t of group.tests) {
        all++;
        if (pinned === undefined) continue;
        if ((pinned.validate(t.data) === null) === t.valid) right++;
        else wrong.push(`${file}: ${group.description}: ${t.description}: expected ${t.valid}`);
      }
    }
  const percent = (100 * right) / all;
  console.log(
    `schema suite: ${right} of ${all} right (${percent.toFixed(2)} %), the rest refused when pinned`,
  );
  if (percent < 96 || process.env["ATOLL_SHOW_REFUSED"] === "1")
    for (const [what, n] of refused) console.log(`${n} refused: ${what}`);
  expect(wrong).toEqual([]);
  expect(all).toBeGreaterThan(1200);
  expect(percent).toBeGreaterThanOrEqual(96);
});

test("what one item of an array has evaluated says nothing of the next", () => {
  const branch = (kind: "properties" | "prefixItems", of: JsonValue): JsonObject => ({ [kind]: of });
  const members = pinSchema({
    items: {
      anyOf: [
        { ...branch("properties", { a: true, k: true }), required: ["a", "k"] },
        branch("properties", { b: true }),
      ],
      unevaluatedProperties: false,
    },
  });
  expect(members.validate([{ a: 1, k: 1 }, { b: 1 }])).toBeNull();
  expect(members.validate([{ a: 1, k: 1 }, { a: 1 }])).toMatchObject({ path: "/1/a" });
  const items = pinSchema({
    items: {
      anyOf: [{ ...branch("prefixItems", [true, true]), minItems: 2 }, { maxItems: 1 }],
      unevaluatedItems: false,
    },
  });
  expect(items.validate([[1, 2], []])).toBeNull();
  expect(items.validate([[1, 2], [1]])).toMatchObject({ path: "/1/0" });
});

const fault = (schema: JsonObject, value: JsonValue) => pinSchema(schema).validate(value);

test("keywords that are not implemented exactly are refused by name", () => {
  const cases: readonly [JsonObject, string][] = [
    [{ nullable: true }, "nullable: is no keyword"],
    [{ properties: { a: { dependencies: {} } } }, "properties.a.dependencies: is no keyword"],
    [{ $schema: "http://json-schema.org/draft-07/schema#" }, "$schema: only"],
    [{ $recursiveRef: "#" }, "$recursiveRef"],
    [{ items: [{}] }, "items: expected a schema"],
    [{ allOf: {} }, "allOf: expected an array"],
    [{ properties: [] }, "properties: expected an object"],
    [{ $dynamicRef: "https://elsewhere.example/schema" }, "names no schema of this document"],
    [{ unevaluatedItems: false, $ref: "#/$defs/x" }, "names no schema"],
    [{ $ref: "https://elsewhere.example/schema" }, "elsewhere.example"],
    [{ pattern: "(?=a)" }, "(?=a"],
    [{ pattern: "(a)\\1" }, "\\1"],
    [{ pattern: "(" }, "not an ECMA-262 pattern"],
    [{ pattern: "a".repeat(1025) }, "longer than 1024"],
    [{ pattern: "((a{100}){100}){100}" }, "(a{100}"],
    [JSON.parse('{"dependentRequired":{"__proto__":["a"]}}'), "dependentRequired.__proto__"],
    [{ type: "strange" }, "schema is invalid"],
  ];
  for (const [schema, reason] of cases) expect(() => pinSchema(schema)).toThrow(reason);
});

test("names that objects inherit are names like any other", () => {
  const proto: JsonObject = JSON.parse(
    '{"properties":{"__proto__":{"type":"number"}},"additionalProperties":false}',
  );
  expect(fault(proto, JSON.parse('{"__proto__":1}'))).toBeNull();
  expect(fault(proto, JSON.parse('{"__proto__":"x"}'))).not.toBeNull();
  expect(fault(proto, JSON.parse('{"constructor":1}'))).not.toBeNull();
  expect(
    fault({ properties: {}, unevaluatedProperties: false }, JSON.parse('{"toString":1}')),
  ).not.toBeNull();
  expect(fault({ required: ["toString"] }, {})).not.toBeNull();
  expect(fault({ const: { constructor: {} } }, { constructor: {} })).toBeNull();
  expect(fault({ not: { const: { constructor: {} } } }, { constructor: {} })).not.toBeNull();
  expect(fault({ uniqueItems: true }, ["__proto__", "__proto__"])).not.toBeNull();
  expect(fault({ uniqueItems: true }, ["1", 1, "[]", [], { a: 1 }, '{"a":1}', null, "null"])).toBeNull();
});

test("patterns mean what ECMA-262 says", () => {
  const samples = [
    "",
    "a",
    "A",
    "_",
    "-",
    " ",
    "\u00a0",
    "\ufeff",
    "\n",
    "\r",
    "\u2028",
    "é",
    "😀",
    "a.b",
    "[",
    "ab\n",
    "\v",
    "0",
    "]",
  ];
  for (const pattern of [
    "^.$",
    "^.*$",
    "^\\s$",
    "^[\\s]+$",
    "^\\S$",
    "^\\d$",
    "^[^a]$",
    "^\\w+$",
    "^a\\.b$",
    "^[a-z_-]+$",
    "^\\u00e9$",
    "^\\u{1F600}$",
    "^\\p{L}$",
    "^\\p{Letter}$",
    "^\\P{L}$",
    "^[\\]\\[]$",
    "a|^$",
    "^(?:a|b)+\\n?$",
    "^\\x41$",
    "\\bb",
    "^[.]$",
    "^\\cJ$",
    "^[\\b\\n]$",
    "^[[]$",
    "\\/|^\\v$",
    "^\\p{Script=Latin}$",
    "^[^]]$".replace("[^]]", "[^\\]]"),
  ]) {
    const expected = samples.map((s) => new RegExp(pattern, "u").test(s));
    const pinned = pinSchema({ type: "string", pattern });
    expect([pattern, ...samples.map((s) => pinned.validate(s) === null)]).toEqual([pattern, ...expected]);
  }
});

test("numbers are the decimals that JSON writes", () => {
  expect(fault({ multipleOf: 0.01 }, 4.35)).toBeNull();
  expect(fault({ multipleOf: 0.01 }, 4.351)).not.toBeNull();
  expect(fault({ multipleOf: 0.1 }, 1e308)).toBeNull();
  expect(fault({ multipleOf: 1e-8 }, 12345.12345678)).toBeNull();
  expect(fault({ multipleOf: 3 }, -9)).toBeNull();
  expect(fault({ multipleOf: 3e300 }, 1)).not.toBeNull();
  expect(() => pinSchema({ multipleOf: 0 })).toThrow();
  expect(fault({ enum: [1, "1", { a: [1] }] }, { a: [1] })).toBeNull();
  expect(fault({ enum: [1] }, 1.0)).toBeNull();
  expect(fault({ enum: [[]] }, "[]")).not.toBeNull();
});

test("hostile schemas cost little, or are refused, and never allow for it", () => {
  const cost = (schema: JsonObject, value: JsonValue) => {
    const pinned = pinSchema(schema);
    const before = process.cpuUsage();
    const found = pinned.validate(value);
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(1000);
    return found;
  };
  expect(cost({ pattern: "^(a+)+$" }, `${"a".repeat(30_000)}b`)).not.toBeNull();
  expect(cost({ not: { pattern: "^(a+)+$" } }, "a".repeat(1_000_000))).toMatchObject({
    message: "costs too much to judge",
  });
  const objects = Array.from({ length: 20_000 }, (_, i) => ({ id: i, x: { y: "same" } }));
  expect(cost({ uniqueItems: true }, objects)).toBeNull();
  expect(cost({ uniqueItems: true }, [...objects, objects[0] ?? null])).not.toBeNull();
  expect(cost({ $ref: "#" }, 1)).toMatchObject({ message: "cannot be judged" });
  const laughs = Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [
      `d${i}`,
      i === 39
        ? { type: "integer" }
        : { allOf: [{ $ref: `#/$defs/d${i + 1}` }, { $ref: `#/$defs/d${i + 1}` }] },
    ]),
  );
  expect(cost({ $defs: laughs, $ref: "#/$defs/d0" }, 1)).toMatchObject({
    message: "costs too much to judge",
  });
  for (const more of [{ unevaluatedProperties: true }, { unevaluatedItems: false }])
    expect(cost({ $defs: laughs, $ref: "#/$defs/d0", ...more }, 1)).toMatchObject({
      message: "costs too much to judge",
    });
  const wide = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`k${i}`, i]));
  const many = Array.from({ length: 200 }, () => ({ patternProperties: { "^k": true } }));
  expect(cost({ allOf: many, unevaluatedProperties: false }, wide)).toMatchObject({
    message: "costs too much to judge",
  });
  const deep = { properties: { a: { $ref: "#" } } };
  let value: JsonValue = 1;
  for (let i = 0; i < 60; i++) value = { a: value };
  expect(cost({ allOf: [deep, deep] }, value)).toMatchObject({ message: "costs too much to judge" });
});

test("no keyword takes a form that the specification's own schema refuses", () => {
  const meta = new Ajv2020({ strict: false, validateFormats: false, logger: false });
  const values: readonly JsonValue[] = [
    null,
    true,
    -1,
    0,
    0.5,
    3,
    "",
    "string",
    "#",
    "a b",
    "#/x",
    [],
    ["string"],
    ["string", "string"],
    ["string", "number"],
    [1],
    {},
    { a: [] },
    { a: ["b"] },
    { a: ["b", "b"] },
    { a: 1 },
    { a: {} },
  ];
  const keywords =
    "$id $ref $anchor $dynamicRef $dynamicAnchor $defs definitions type const enum multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern maxItems minItems uniqueItems maxContains minContains maxProperties minProperties required dependentRequired allOf anyOf oneOf prefixItems not if then else items contains additionalProperties propertyNames unevaluatedItems unevaluatedProperties properties patternProperties dependentSchemas";
  let refused = 0;
  for (const keyword of keywords.split(" "))
    for (const value of values) {
      const schema = { [keyword]: value };
      if (meta.validate("https://json-schema.org/draft/2020-12/schema", schema)) continue;
      refused++;
      expect(() => pinSchema(schema), JSON.stringify(schema)).toThrow();
    }
  expect(refused).toBeGreaterThan(400);
});

test("what is pinned can be compiled: whatever the compiler would refuse is refused before", () => {
  const folder = vectorsFolder();
  if (folder === undefined) return;
  const root = join(folder, "json-schema-2020-12");
  let looked = 0;
  for (const file of readdirSync(root).filter((f) => f.endsWith(".json")))
    for (const group of JSON.parse(readFileSync(join(root, file), "utf8"))) {
      let pinned: ReturnType<typeof pinSchema>;
      try {
        pinned = pinSchema(group.schema);
      } catch {
        continue;
      }
      looked++;
      for (const value of [null, {}, [], "", 0])
        if (!JSON.stringify(group.schema).includes('"$ref":"#"'))
          expect(pinned.validate(value)?.message, `${file}: ${group.description}`).not.toBe(
            "cannot be judged",
          );
    }
  expect(looked).toBeGreaterThan(300);
});
