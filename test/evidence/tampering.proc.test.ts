// Every way to tamper is found by both verifiers, which share no code; and what nobody touched, both accept.
import { execFile, spawnSync } from "node:child_process";
import type { SpawnSyncOptions } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { PLATFORM, signatures } from "../../cli/signatures/signatures.ts";
import { judge } from "../../cli/verify.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { newFolder, newSigner, session } from "../journal/scene.ts";
import { conversation, journalOf, packOf, rootsFile } from "./packs.ts";
import type { Tools } from "./recipes.ts";
import { RECIPES, cook } from "./recipes.ts";

const VERIFY = join(import.meta.dirname, "../independent/verify.py");
const python = (pack: string, roots: string): Promise<{ readonly code: number; readonly text: string }> =>
  new Promise((resolve) => {
    execFile("python3", [VERIFY, pack, "--trust", roots, "--json"], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), text: stdout + stderr });
    });
  });

const packs: Record<string, Buffer> = {};
const folder = newFolder();
const tools: Tools = { exporter: newSigner(), stranger: newSigner() };
let roots = "";

beforeAll(async () => {
  const scene = await journalOf(120);
  roots = join(folder, "roots.pem");
  const exporter = readFileSync(rootsFile(tools.exporter), "utf8").replace("guardian", "ledger");
  writeFileSync(roots, readFileSync(rootsFile(scene.signer), "utf8") + exporter);
  const signed = { ...scene, signer: tools.exporter };
  packs["whole"] = readFileSync(await packOf(signed));
  // Nine turns, of which the last is redacted: its message is named by nothing else.
  const talk = await conversation(9);
  writeFileSync(roots, readFileSync(rootsFile(talk.signer), "utf8"), { flag: "a" });
  packs["conversation"] = readFileSync(await packOf({ ...talk, signer: tools.exporter }));
  packs["partial"] = readFileSync(await packOf(signed, { sessions: [session(1)] }));
  packs["condensed"] = readFileSync(await packOf(signed, { condense: {} }));
});

async function both(name: string, tar: Buffer) {
  const file = join(folder, `${name.replaceAll(/[^a-z0-9]/gi, "-")}.tar`);
  writeFileSync(file, tar);
  const trusted = parseTrustRoots(readFileSync(roots, "utf8"));
  const [ours, platforms] = [signatures(), PLATFORM].map((by) => judge(file, trusted, undefined, by));
  // Whichever library checks the signatures, the verdict and the place are the same.
  expect(signatures().by).toBe("libsodium");
  expect(platforms).toEqual(ours);
  return {
    ours,
    theirs: await python(file, roots),
  };
}

describe("a pack that nobody touched", () => {
  for (const kind of ["whole", "partial", "condensed", "conversation"])
    test(`of kind ${kind} is valid to both verifiers`, async () => {
      const { ours, theirs } = await both(kind, packs[kind] ?? Buffer.alloc(0));
      expect(ours).toMatchObject({ kind: "pack" });
      expect(theirs.text).toContain('"valid": true');
      expect(theirs.code).toBe(0);
    });
  test("of kind whole can be rebuilt and signed again by a trusted exporter", async () => {
    const plain = { name: "", pack: "whole", file: /x/, reseal: true } as const;
    const { ours, theirs } = await both("resealed", cook(plain, packs["whole"] ?? Buffer.alloc(0), tools));
    expect(ours).toMatchObject({ kind: "pack" });
    expect(theirs.code).toBe(0);
  });
});

describe("a pack that was tampered with is refused by both verifiers:", () => {
  test("there are at least forty ways", () => {
    expect(new Set(RECIPES.map((recipe) => recipe.name)).size).toBeGreaterThanOrEqual(40);
  });
  for (const recipe of RECIPES)
    test.concurrent(recipe.name, async () => {
      const tar = cook(recipe, packs[recipe.pack] ?? Buffer.alloc(0), tools);
      const { ours, theirs } = await both(recipe.name, tar);
      expect(ours).toMatchObject({
        finding: {
          file: expect.stringMatching(recipe.file),
          ...(recipe.code === undefined ? {} : { code: recipe.code }),
        },
      });
      expect(theirs.code, theirs.text).toBe(1);
      expect(JSON.parse(theirs.text)).toMatchObject({ valid: false });
    });
});

describe("a pack is the same bytes everywhere", () => {
  const atoll = join(import.meta.dirname, "../../cli/atoll.ts");
  const made = (journal: string, key: string, name: string, options: SpawnSyncOptions, umask: string) => {
    const out = join(mkdtempSync(join(tmpdir(), "atoll-out-")), `${name}.tar`);
    chmodSync(dirname(out), 0o777);
    const command = `umask ${umask}; exec "${process.execPath}" "${atoll}" export --journal "${journal}" --key "${key}" -o "${out}"`;
    const run = spawnSync("sh", ["-c", command], { encoding: "utf8", ...options });
    expect(run.status, String(run.stderr)).toBe(0);
    return sha256(readFileSync(out));
  };
  test("for another user, umask, time zone, locale and order of files", async () => {
    const scene = await journalOf(40);
    const key = join(folder, "guardian.pem");
    writeFileSync(key, scene.pem);
    const copy = newFolder();
    // Created in the opposite order, with other dates.
    for (const name of readdirSync(scene.dir).sort().reverse())
      if (name !== "lock") copyFileSync(join(scene.dir, name), join(copy, name));
    for (const path of [folder, copy, ...readdirSync(copy).map((name) => join(copy, name))]) {
      chmodSync(path, 0o755);
      utimesSync(path, 1, 1);
    }
    const plain = made(scene.dir, key, "plain", {}, "022");
    const root = process.getuid?.() === 0;
    const env = { ...process.env, TZ: "Asia/Tokyo", LC_ALL: "tr_TR.UTF-8" };
    expect(made(copy, key, "other", { env, ...(root ? { uid: 65534, gid: 65534 } : {}) }, "077")).toBe(plain);
  });
});
