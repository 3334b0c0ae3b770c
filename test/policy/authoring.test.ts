import { readdirSync, readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import { lint, policySchema, readPolicySource, schema } from "../../cli/authoring/authoring.ts";

const examples = readdirSync("examples/policies").map((d) => `examples/policies/${d}`);
const captured = (
  run: (io: { stdout: { write(t: string): void }; stderr: { write(t: string): void } }) => number,
): { code: number; out: string; err: string } => {
  let out = "";
  let err = "";
  const code = run({ stdout: { write: (t) => (out += t) }, stderr: { write: (t) => (err += t) } });
  return { code, out, err };
};

describe("the five examples", () => {
  test("there are five", () => expect(examples).toHaveLength(5));
  test.each(examples)("%s has no finding and fits the schema of the document", (folder) => {
    expect(captured((io) => lint([`${folder}/policy.yaml`], io))).toEqual({
      code: 0,
      out: "no findings\n",
      err: "",
    });
    const validate = new Ajv2020({ strict: false }).compile(policySchema);
    expect(validate(readPolicySource(`${folder}/policy.yaml`).value), JSON.stringify(validate.errors)).toBe(
      true,
    );
    expect(validate({ ...(readPolicySource(`${folder}/policy.yaml`).value as object), extra: 1 })).toBe(
      false,
    );
  });
});

test("the committed schema and reference are what the command prints", () => {
  expect(captured((io) => schema([], io)).out).toBe(
    readFileSync("docs/reference/policy.schema.json", "utf8"),
  );
  expect(captured((io) => schema(["--reference"], io)).out).toBe(
    readFileSync("docs/reference/policy.md", "utf8"),
  );
});
test("an unreadable policy is exit 2 and names the file", () => {
  expect(captured((io) => lint(["no/such/policy.yaml"], io))).toMatchObject({ code: 2, out: "" });
  expect(captured((io) => lint(["no/such/policy.yaml"], io)).err).toContain("no/such/policy.yaml");
  expect(captured((io) => lint([], io)).code).toBe(2);
});
