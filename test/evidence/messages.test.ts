// 4.1: in a model call's arguments each message stands by its hash and lies in the journal once. What comes out is what
// went in, whatever the messages look like, and nothing else of an input ever refers.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { isHash } from "../../kernel/contracts/contracts.ts";
import type { Hash, Input, JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import {
  PackInvalid,
  argsTextOf,
  inputShelf,
  inputText,
  readEntry,
  registeredBy,
  verifyStore,
} from "../../kernel/evidence/evidence.ts";
import type { NumberedInput } from "../../kernel/evidence/evidence.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { createSuccession } from "../../kernel/trust/trust.ts";
import { readJournal } from "../../sidecar/journal/journal.ts";
import type { StoredRecord } from "../../sidecar/journal/journal.ts";
import { callOf, sampleDoc } from "../guardian/sample.ts";
import { attestation, newFolder, newSigner, open, session } from "../journal/scene.ts";
import { conversation, rootsOf } from "./packs.ts";

const full = { ...sampleDoc, retention: { inputs: "full" } };
const recorded = (args: JsonObject, document: JsonObject = full, target = "model:openai/gpt-x") => {
  const call = callOf(target, args);
  return { call, inputs: compilePolicy(document).recording.args(call) };
};
const lines = (inputs: readonly Input[]): readonly NumberedInput[] =>
  inputs.map((input, i) => {
    const entry = readEntry(Buffer.from(inputText(input)));
    if (entry.kind !== "input") throw new Error("is a node");
    return { ...entry, line: i + 1 };
  });
const shelf = (read: readonly NumberedInput[]) =>
  inputShelf({
    *inputs() {
      yield* read;
    },
    document: () => undefined,
  });

const hash = fc.constantFrom(hashJson("a"), hashJson({}), hashJson({ role: "user", content: "a" }));
const leaf = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null));
const hostile = fc.oneof(
  fc.record({ $input: fc.oneof(hash, fc.string()) }),
  fc.record({ $input: hash, role: fc.constant("user") }),
  fc.record({ role: fc.constant("user"), content: fc.record({ $input: hash }) }),
  fc.record({ messages: fc.array(fc.record({ $input: hash })) }),
  fc.record({ type: fc.constant("atoll.dev/facts/v1"), hash, redacted: fc.boolean(), value: leaf }),
  fc.constant({}),
);
const message = fc.oneof(
  fc.record({ role: fc.constantFrom("user", "assistant", "tool"), content: fc.string() }),
  fc.dictionary(fc.string(), leaf, { maxKeys: 4 }),
  hostile,
);
const list = fc.oneof(fc.array(message, { maxLength: 12 }), fc.array(fc.oneof(message, leaf)));
const args = fc
  .tuple(
    fc.dictionary(fc.string(), fc.oneof(leaf, hostile), { maxKeys: 5 }),
    fc.record({ messages: list, input: fc.oneof(list, fc.string()) }, { requiredKeys: [] }),
  )
  .map(([some, lists]) => JSON.parse(JSON.stringify({ model: "gpt-x", ...some, ...lists })) as JsonObject);

test("what is put together is what was taken apart, and has its hash, whatever the messages are", () => {
  let apart = 0;
  fc.assert(
    fc.property(args, (value) => {
      const { call, inputs } = recorded(value);
      expect(inputs.at(-1)?.hash).toBe(call.argsHash);
      // The guardian's way to the canonical form keeps the messages' own, and nothing comes out otherwise by it.
      const copy: JsonObject = { ...value };
      expect(argsTextOf(call.target, copy)).toBe(call.argsText);
      expect(recorded(copy).inputs.map(inputText)).toEqual(inputs.map(inputText));
      for (const input of inputs)
        expect(input.text ?? canonicalize(input.value)).toBe(canonicalize(input.value));
      const read = lines(inputs);
      if (read.length > 1) apart++;
      // Each message has its own hash, and none of them is followed further.
      for (const { input, refers } of read.slice(0, -1)) {
        expect(refers).toEqual([]);
        expect(hashJson(input.value)).toBe(input.hash);
      }
      const whole = shelf(read).take(call.argsHash);
      expect(whole).toEqual({ hash: call.argsHash, redacted: false, value });
      expect(canonicalize(whole?.value ?? null)).toBe(call.argsText);
    }),
    { numRuns: 1000 },
  );
  expect(apart).toBeGreaterThan(100);
});

const MESSAGES = [
  { role: "system", content: "be brief" },
  { role: "user", content: "hello" },
  { role: "user", content: "hello" },
];

test("a message is recorded in its own place and the arguments name it, the same ones twice", () => {
  const { inputs, call } = recorded({ model: "m", messages: MESSAGES });
  expect(inputs.map((i) => i.value)).toEqual([
    ...MESSAGES,
    { model: "m", messages: MESSAGES.map((m) => ({ $input: hashJson(m) })) },
  ]);
  expect(inputs.at(-1)?.hash).toBe(call.argsHash);
});
test("the items of a responses call and Anthropic's messages are recorded by the same rule", () => {
  expect(recorded({ model: "m", input: [{ role: "user", content: "x" }] }).inputs).toHaveLength(2);
  expect(
    recorded({ model: "m", system: [{ text: "x" }], messages: MESSAGES.slice(0, 1) }).inputs,
  ).toHaveLength(2);
});
test("texts and tokens of embeddings are no messages", () => {
  for (const input of ["text", ["a", "b"], [1, 2, 3], [[1], [2]], []])
    expect(recorded({ model: "m", input }).inputs.map((i) => i.value)).toEqual([{ model: "m", input }]);
});
test("a tool's arguments with `messages` and `$input` in them are plain data", () => {
  const args = { messages: [{ $input: hashJson("a") }], $input: hashJson("b") };
  const { inputs, call } = recorded(args, full, "tool:github/create_issue");
  expect(inputs.map((i) => i.value)).toEqual([args]);
  const read = lines(inputs);
  expect(read[0]?.refers).toEqual([]);
  expect(shelf(read).take(call.argsHash)?.value).toEqual(args);
});
test("a message that is a reference itself is stored as one and not followed", () => {
  const secret = { role: "user", content: "of somebody else" };
  const hostileOne = { $input: hashJson(secret) };
  const { inputs, call } = recorded({ model: "m", messages: [hostileOne] });
  const other: Input = { hash: hashJson(secret), redacted: false, value: secret };
  expect(shelf(lines([other, ...inputs])).take(call.argsHash)?.value).toEqual({
    model: "m",
    messages: [hostileOne],
  });
});
test("what was recorded whole before messages were taken apart is still read", () => {
  const value = { model: "m", messages: MESSAGES };
  const old: Input = { hash: hashJson(value), redacted: false, value };
  const read = lines([old]);
  expect(read[0]?.refers).toEqual([]);
  expect(shelf(read).take(old.hash)?.value).toEqual(value);
});

describe("redaction (each message for itself)", () => {
  const redact = (patterns: readonly string[], value: JsonObject) =>
    recorded(value, { ...sampleDoc, perimeter: { redact: [...patterns] } });
  const value = { model: "m", user: "plain", messages: [...MESSAGES, { role: "user", content: "sk-123" }] };

  test("a message is blotted, the others and the rest of the call are not; the call counts as redacted", () => {
    const { inputs, call } = redact(["sk-\\d+"], value);
    expect(inputs.map((i) => i.redacted)).toEqual([false, false, false, true, false]);
    expect(inputs[3]).toEqual({
      hash: hashJson({ role: "user", content: "sk-123" }),
      redacted: true,
      value: { role: "user", content: "[redacted]" },
    });
    const whole = shelf(lines(inputs)).take(call.argsHash);
    expect(whole?.redacted).toBe(true);
    expect(canonicalize(whole?.value ?? null)).not.toContain("sk-123");
  });
  test("no pattern touches a reference or the name of its list", () => {
    const { inputs } = redact(["[0-9a-f]{8}", "mess", "input", "plain"], value);
    const last = inputs.at(-1);
    expect(last?.redacted).toBe(true);
    expect(last?.value).toMatchObject({
      user: "[redacted]",
      messages: value.messages.map((m) => ({ $input: hashJson(m) })),
    });
  });
  test("where hashes alone are kept, no message is", () => {
    const { inputs } = recorded(value, { ...sampleDoc, retention: { inputs: "hashes" } });
    expect(inputs).toEqual([{ hash: hashJson(value), redacted: true, value: null }]);
  });
});

describe("what does not fit is not put together:", () => {
  const { inputs, call } = recorded({ model: "m", messages: MESSAGES });
  const good = lines(inputs);
  const taken = (read: readonly NumberedInput[]) => shelf(read).take(call.argsHash);
  const change = (edit: (value: JsonObject) => JsonValue): readonly NumberedInput[] => {
    const last = inputs.at(-1);
    const value = edit((last?.value ?? {}) as JsonObject);
    return [...good.slice(0, -1), ...lines([{ hash: call.argsHash, redacted: false, value }])];
  };
  const refs = (...hashes: readonly Hash[]): JsonValue => hashes.map(($input) => ({ $input }));

  test("the same, untouched, is", () => {
    expect(taken(good)?.redacted).toBe(false);
  });
  test("a message that is missing", () => {
    expect(() => taken(good.slice(1))).toThrow(PackInvalid);
  });
  test("two messages exchanged, one left out, one more", () => {
    const [a, b] = [hashJson(MESSAGES[0] ?? null), hashJson(MESSAGES[1] ?? null)];
    for (const wrong of [refs(b, a, b), refs(a, b), refs(a, b, b, b)])
      expect(() => taken(change((v) => ({ ...v, messages: wrong })))).toThrow("with its messages");
  });
  test("another member of the call", () => {
    expect(() => taken(change((v) => ({ ...v, model: "other" })))).toThrow("with its messages");
  });
  test("a reference beside a message, and one that is none", () => {
    const [a] = MESSAGES;
    for (const wrong of [[{ $input: hashJson(a ?? null) }, a ?? null], [{ $input: "sha256:0" }]])
      expect(() => change((v) => ({ ...v, messages: wrong }))).toThrow("is not the hash of the value");
    expect(isHash("sha256:0")).toBe(false);
  });
});

describe("a journal with a conversation in it", () => {
  const verified = (records: readonly StoredRecord[], signer: Parameters<typeof rootsOf>[0]) =>
    verifyStore(records.values(), createSuccession(registeredBy(rootsOf(signer)).standing));
  const textOf = (r: StoredRecord): string => Buffer.from(r.line).toString("utf8");

  test("verifies, and not without a message, with another, or with two exchanged", async () => {
    const { dir, signer } = await conversation(9);
    const records = [...readJournal(dir).records()];
    expect(verified(records, signer).inputs).toBe(9 * 4 - 1);
    const without = (words: string) =>
      records.filter((r) => !textOf(r).includes(words) || !textOf(r).includes('"role"'));
    const edited = (edit: (text: string) => string) =>
      records.map((r) => ({ ...r, line: Buffer.from(edit(textOf(r))) }));
    expect(() => verified(without("question 0"), signer)).toThrow("which is not before it");
    // Named by redacted arguments alone.
    expect(() => verified(without("question 8"), signer)).toThrow("which is not before it");
    expect(() =>
      verified(
        edited((t) => t.replace("question 1", "question 9")),
        signer,
      ),
    ).toThrow("is not the hash of the value");
    const refs = /(\{"\$input":"sha256:[0-9a-f]{64}"\}),(\{"\$input":"sha256:[0-9a-f]{64}"\})/;
    let left = 1;
    const exchanged = edited((t) => (refs.test(t) && left-- > 0 ? t.replace(refs, "$2,$1") : t));
    expect(() => verified(exchanged, signer)).toThrow("with its messages");
  });

  test("has a message again when a reader may have forgotten it", async () => {
    const dir = newFolder();
    const signer = newSigner();
    const journal = await open({ dir, signer, segmentBytes: 8 << 20 });
    const { inputs } = recorded({ model: "m", messages: MESSAGES });
    const put = (some: readonly Input[], n: number) =>
      journal.append([attestation(session(), n)], some).durable;
    const times = (): number =>
      [...readJournal(dir).records()].filter((r) => textOf(r).includes('"content":"be brief"')).length;
    await put(inputs, 1);
    await put(inputs, 2);
    await journal.checkpoint();
    expect(times()).toBe(1);
    for (let n = 0; n < 33; n++) {
      const value = { n, text: "x".repeat(1 << 20) };
      await put([{ hash: hashJson(value), redacted: false, value }], n + 3);
    }
    await put(inputs, 50);
    await journal.close();
    expect(times()).toBe(2);
    expect(verified([...readJournal(dir).records()], signer).inputs).toBe(2 * 3 + 33);
  });
});
