import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { NOT_PROVED } from "../../kernel/evidence/limits.ts";

test("what a verified pack does not prove is said in SECURITY.md in the words that `atoll verify` prints", () => {
  const [, section = ""] =
    /^## What a verified pack does not prove\n([^]*?)^## /m.exec(readFileSync("SECURITY.md", "utf8")) ?? [];
  const lines = section.split("\n").flatMap((l) => (l.startsWith("- ") ? [l.slice(2)] : []));
  expect(NOT_PROVED.length).toBeGreaterThan(4);
  expect(lines).toEqual(NOT_PROVED);
});
