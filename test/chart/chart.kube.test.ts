// The chart as Helm renders it: linted, against golden files, and valid for four Kubernetes minors. Helm is built from its
// module, which is why this stands among the tests that need Go.
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Ajv } from "ajv";
import type { AnySchema, ValidateFunction } from "ajv";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { ensurePrograms, programPath } from "../../kind-e2e/cluster.ts";

const CHART = join(import.meta.dirname, "../../charts/atoll");
const run = promisify(execFile);
type Json = { readonly [key: string]: unknown };

const VALUES: Readonly<Record<string, object>> = {
  default: {},
  production: {
    operator: {
      image: `registry.example/atoll/operator@sha256:${"1".repeat(64)}`,
      replicas: 2,
      webhookReplicas: 3,
    },
    guardian: { digests: [`sha256:${"2".repeat(64)}`] },
    trust: { roots: "role: policy\n-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" },
    clusterDomain: "k8s.example",
  },
  restricted: { gateway: { enabled: true }, guardian: { unlocked: ["restricted"] } },
  trial: { trust: { requireSignature: false } },
};

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "atoll-chart-"));
  await ensurePrograms(["helm"]);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function helm(...args: string[]): Promise<{ code: number; text: string; stdout: string }> {
  try {
    const { stdout, stderr } = await run(programPath("helm"), args, { maxBuffer: 64 << 20 });
    return { code: 0, text: stdout + stderr, stdout };
  } catch (error) {
    const text = error instanceof Error && "stderr" in error ? String(error.stderr) : String(error);
    return { code: 1, text, stdout: "" };
  }
}
const valuesFile = (name: string, values: object): string => {
  const file = join(folder, `${name}.json`);
  writeFileSync(file, JSON.stringify(values));
  return file;
};
const template = (name: string, values: object): ReturnType<typeof helm> =>
  helm("template", "atoll", CHART, "--namespace", "atoll-system", "--values", valuesFile(name, values));
async function objectsOf(name: string, values: object): Promise<Json[]> {
  const done = await template(name, values);
  expect(done.text.slice(0, 500)).not.toMatch(/^Error/u);
  return parseAllDocuments(done.stdout)
    .map((d): unknown => d.toJS())
    .filter((o): o is Json => typeof o === "object" && o !== null);
}

test("the chart lints, strictly", async () => {
  const done = await helm("lint", "--strict", CHART, "--namespace", "atoll-system");
  expect(done).toMatchObject({ code: 0 });
  expect(done.text).toContain("0 chart(s) failed");
});

test.each(Object.entries(VALUES))("renders %s as recorded", async (name, values) => {
  const objects = (await objectsOf(name, values)).filter((o) => o["kind"] !== "CustomResourceDefinition");
  const text = `${objects.map((o) => JSON.stringify(o, undefined, 1)).join("\n")}\n`;
  const file = join(import.meta.dirname, "golden", `${name}.txt`);
  // UPDATE_GOLDEN=1 writes the file; its diff is then read as a change of what is installed.
  if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(file, text);
  expect(text).toBe(readFileSync(file, "utf8"));
});

describe("values that are wrong are refused by the key's name", () => {
  const wrong: readonly [string, object, string][] = [
    ["a typo at the top", { opertor: {} }, "opertor"],
    ["a typo within", { operator: { replicsa: 2 } }, "replicsa"],
    ["a typo in what is trusted", { trust: { root: "" } }, "root"],
    ["a number as text", { operator: { replicas: "2" } }, "replicas"],
    ["no replica at all", { operator: { replicas: 0 } }, "replicas"],
    ["a tag in place of a digest", { guardian: { digests: ["latest"] } }, "digests"],
    ["an unknown pull policy", { operator: { imagePullPolicy: "Sometimes" } }, "imagePullPolicy"],
    ["a resource that does not exist", { operator: { resources: { limit: {} } } }, "limit"],
    ["text for a switch", { trust: { requireSignature: "no" } }, "requireSignature"],
    ["text for the gateway's switch", { gateway: { enabled: "yes" } }, "enabled"],
    ["capitals in a domain", { clusterDomain: "Cluster.Local" }, "clusterDomain"],
  ];
  test.each(wrong)("%s", async (_what, values, key) => {
    const done = await template("wrong", values);
    expect(done.code).toBe(1);
    expect(done.text).toContain(key);
  });
  test("and another namespace than ours", async () => {
    const done = await helm("template", "atoll", CHART, "--namespace", "other");
    expect(done.text).toContain("atoll-system");
    expect(done.code).toBe(1);
  });
});

// Reduced from the OpenAPI documents of the releases: the kinds that are used, every unknown member refused.
type Schemas = {
  readonly kinds: Readonly<Record<string, string>>;
  readonly definitions: Readonly<Record<string, AnySchema>>;
};
const schemasFolder = join(import.meta.dirname, "schemas");
const minors = readdirSync(schemasFolder).filter((f) => f.endsWith(".json"));
function judges(file: string): (object: Json) => string {
  const schemas: Schemas = JSON.parse(readFileSync(join(schemasFolder, file), "utf8"));
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  ajv.addSchema({ $id: "k8s", definitions: schemas.definitions });
  const known = new Map<string, ValidateFunction>();
  return (object) => {
    const id = `${String(object["apiVersion"])}/${String(object["kind"])}`;
    const name = schemas.kinds[id];
    if (name === undefined) return `${id} is not served`;
    let judge = known.get(name);
    if (judge === undefined) known.set(name, (judge = ajv.compile({ $ref: `k8s#/definitions/${name}` })));
    return judge(object) ? "" : ajv.errorsText(judge.errors);
  };
}

test("there are schemas of at least three minors", () => {
  expect(new Set(minors.map((f) => f.split(".")[1])).size).toBeGreaterThanOrEqual(3);
});

test.each(minors)("every rendered object is valid for %s, and a misspelt member is found", async (file) => {
  const judge = judges(file);
  for (const [name, values] of Object.entries(VALUES)) {
    const objects = await objectsOf(name, values);
    expect(objects.length).toBeGreaterThan(20);
    for (const object of objects) {
      const metadata = object["metadata"];
      const told = `${String(object["kind"])} ${JSON.stringify(metadata).slice(0, 80)}: ${judge(object)}`;
      expect(told).toMatch(/: $/u);
    }
  }
  const deployment = (await objectsOf("default", {})).find((o) => o["kind"] === "Deployment");
  const { spec } = deployment ?? {};
  if (deployment === undefined || typeof spec !== "object") throw new Error("no Deployment");
  expect(judge({ ...deployment, spec: { ...spec, replicsa: 1 } })).toContain("additional properties");
  expect(judge({ ...deployment, apiVersion: "apps/v9" })).toContain("is not served");
});
