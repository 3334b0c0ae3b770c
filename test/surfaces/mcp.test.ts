// The protocol as values: headers that repeat a body, and what a server may not say in the guardian's name.

import fc from "fast-check";
import { expect, test } from "vitest";
import {
  META,
  MODERN,
  REVISIONS,
  asHeader,
  foreignMeta,
  headerValue,
  isModern,
  isRevision,
  modernFault,
  modernResult,
  paramFault,
  paramHeaders,
  statusOfRpc,
} from "../../kernel/mcp/mcp.ts";

test("any text goes through a header and comes out the same", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const header = asHeader(text);
      expect(header).toMatch(/^[\x20-\x7e]*$/);
      // A lone surrogate has no bytes; it comes out as the replacement that every encoder writes.
      expect(headerValue(header)).toBe(text.toWellFormed());
    }),
  );
  expect(asHeader("plain")).toBe("plain");
  for (const [given, value] of [
    ["=?base64?SGVsbG8=?=", "Hello"],
    ["=?base64?SGVsbG8?=", undefined],
    ["=?base64?SGVs!!!bG8=?=", undefined],
    ["=?base64?/w==?=", undefined],
    ["SGVsbG8=", "SGVsbG8="],
    ["=?base64?SGVsbG8=", "=?base64?SGVsbG8="],
  ] as const)
    expect(headerValue(given), given).toBe(value);
});

const schema = {
  type: "object",
  properties: { region: { type: "string", "x-mcp-header": "Region" }, n: {} },
};
test("arguments that a schema wants in headers are there and the same", () => {
  expect(paramHeaders(schema, { region: "Zürich", n: 1 })).toEqual({
    "mcp-param-region": asHeader("Zürich"),
  });
  expect(paramFault(schema, { region: "eu" }, { "mcp-param-region": " eu " })).toBeUndefined();
  expect(paramFault(schema, {}, {})).toBeUndefined();
  for (const [args, headers] of [
    [{ region: "eu" }, {}],
    [{ region: "eu" }, { "mcp-param-region": "us" }],
    [{}, { "mcp-param-region": "us" }],
  ] as const)
    expect(paramFault(schema, args, headers)).toMatchObject({ code: -32_020 });
});

const meta = { [META.revision]: MODERN, [META.capabilities]: {} };
const headers = { "mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "x" };
test("a request that says one thing in its headers and another in its body is refused", () => {
  const fault = (h: Record<string, unknown>, params: object): number | undefined =>
    modernFault({ ...headers, ...h }, "tools/call", { name: "x", _meta: meta, ...params }, REVISIONS)?.code;
  expect(fault({}, {})).toBeUndefined();
  expect(fault({ "mcp-name": "y" }, {})).toBe(-32_020);
  expect(fault({ "mcp-name": undefined }, {})).toBe(-32_020);
  expect(fault({ "mcp-method": "tools/list" }, {})).toBe(-32_020);
  expect(fault({ "mcp-protocol-version": undefined }, {})).toBe(-32_020);
  expect(fault({ "mcp-protocol-version": "2025-11-25" }, {})).toBe(-32_020);
  expect(fault({ "mcp-protocol-version": "2099-01-01" }, { _meta: {} })).toBe(-32_022);
  expect(fault({}, { _meta: {} })).toBe(-32_602);
  expect(fault({}, { _meta: { [META.revision]: MODERN } })).toBe(-32_602);
  expect([-32_601, -32_602, -32_020, -32_603].map(statusOfRpc)).toEqual([404, 400, 400, 200]);
  expect(isModern({ "mcp-protocol-version": "2025-11-25" }, {}, isRevision)).toBe(false);
  expect(isModern({}, { _meta: meta }, isRevision)).toBe(true);
});

test("what one principal may see is nobody else's to keep", () => {
  expect(modernResult("tools/list", { tools: [] })).toMatchObject({
    resultType: "complete",
    cacheScope: "private",
  });
  expect(modernResult("resources/read", { ttlMs: 5, cacheScope: "public" })).toEqual({
    ttlMs: 5,
    cacheScope: "private",
    resultType: "complete",
  });
  expect(modernResult("tools/call", { resultType: "input_required" })).toEqual({
    resultType: "input_required",
  });
});

test("a server does not speak of receipts, reasons or approvals", () => {
  const _meta = {
    "dev.atoll/approval": { id: "apr_1" },
    "Dev.Atoll/reason": "x",
    " dev.atoll/receipt": 1,
    other: 2,
  };
  expect(foreignMeta({ content: [], _meta })).toEqual({ other: 2 });
  expect(foreignMeta({ content: [] })).toEqual({});
});
