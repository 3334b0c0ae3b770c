import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mergeSources, readYaml, SourceError } from "../../cli/authoring/read.ts";

const refused: readonly (readonly [string, string, string])[] = [
  ["`no` for false", "a: 1\nb: no\n", "p:2:4: b: `no` means different things"],
  ["`on` for true", "b: on\n", "p:1:4: b: `on` means"],
  ["octal", "c: 017\n", "`017` is no plain decimal number"],
  ["hexadecimal", "c: 0x1F\n", "`0x1F` is no plain"],
  ["infinity", "c: .inf\n", "`.inf` is no plain"],
  ["underscores", "c: 1_000\n", "`1_000` is no plain"],
  ["an unsafe integer", "c: 9007199254740993\n", "beyond the integers"],
  ["null", "c: ~\n", "`~` means"],
  ["a missing value", "c:\n", "c: the value is missing"],
  ["an alias", "a: &x 1\nb: *x\n", "anchors (`&name`) are not allowed"],
  ["a billion laughs", `a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n`, "are not allowed"],
  ["a duplicate key", "a: 1\na: 2\n", "p:2:1: the key stands twice"],
  ["a foreign tag", "a: !foo 1\n", "tag"],
  ["a core tag", "a: !!str 5\n", "tag"],
  ["a merge key", "<<: {a: 1}\n", "merge keys"],
  ["a byte order mark", "\uFEFFa: 1", "byte order mark"],
  ["a tab", "a:\n\t- b\n", "p:2:1: tabs are not allowed"],
  ["two documents", "a: 1\n---\nb: 2\n", "second document"],
  ["a YAML 1.1 directive", "%YAML 1.1\n---\na: 1\n", "directives"],
  ["a key that is no string", "? [a]\n: 1\n", "a key that is no string"],
  ["a key with half a character", '"\\uD800": 1\n', "p:1:1: a key with a lone surrogate"],
  ["half a character", 'a: "\\uD800"\n', "p:1:4: a: the text has a lone surrogate"],
  ["a number beyond all numbers", "a: 1e999\n", "p:1:4: a: `1e999` is beyond the numbers"],
  ["nothing", "", "the file is empty"],
  ["depth", `${"[".repeat(70)}${"]".repeat(70)}`, "nested deeper"],
];

describe("YAML traps are refused with their place", () => {
  test.each(refused)("%s", (_, text, message) => {
    expect(() => readYaml(text, "p")).toThrow(message);
  });
});

test("plain values mean what they say", () => {
  const source = readYaml('a: [1, 2.5, "no", true]\nb: {c: 2026-11-20, d: 1:30}\n', "p");
  expect(source.value).toEqual({ a: [1, 2.5, "no", true], b: { c: "2026-11-20", d: "1:30" } });
  expect(source.place("b.d")).toEqual({ file: "p", line: 2, column: 20 });
  expect(source.place("b.d.deeper[3]")).toEqual({ file: "p", line: 2, column: 20 });
});
test("`__proto__` is an own key like any other, also when files are merged", () => {
  const merged = mergeSources([
    readYaml("a: {__proto__: {x: 1}}", "p"),
    readYaml("a: {b: 1, __proto__: {y: 2}}", "q"),
  ]).value;
  expect(JSON.stringify(merged)).toBe('{"a":{"__proto__":{"x":1,"y":2},"b":1}}');
  expect(Object.getPrototypeOf((merged as { a: object }).a)).toBe(Object.prototype);
});
test("files of a folder are united: maps by key, lists appended, a value stated twice refused", () => {
  const a = readYaml("name: x\ntools: [{name: a}]\n", "a.yaml");
  const b = readYaml("tools:\n  - name: b\n", "b.yaml");
  const merged = mergeSources([a, b]);
  expect(merged.value).toEqual({ name: "x", tools: [{ name: "a" }, { name: "b" }] });
  expect(merged.place("tools[1].name")).toEqual({ file: "b.yaml", line: 2, column: 5 });
  expect(() => mergeSources([a, readYaml("name: z\n", "c.yaml")])).toThrow(
    "c.yaml:1:1: name: already stated in a.yaml:1",
  );
});
test("any text is a value or a SourceError", () => {
  const yamlish = fc
    .array(
      fc.constantFrom(
        "a",
        ":",
        " ",
        "\n",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&x",
        "*x",
        "!t",
        "|",
        ">",
        '"',
        "'",
        "#",
        "%",
        "---",
        "1",
        "~",
        "\t",
        "?",
        ",",
      ),
      { maxLength: 30 },
    )
    .map((p) => p.join(""));
  fc.assert(
    fc.property(fc.oneof(yamlish, fc.string({ unit: "binary", maxLength: 60 })), (text) => {
      try {
        readYaml(text, "p");
      } catch (e) {
        if (!(e instanceof SourceError)) throw e;
        for (const f of e.findings) expect(f.place.line).toBeGreaterThan(0);
      }
    }),
    { numRuns: 2_000 },
  );
});
