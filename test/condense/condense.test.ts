import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { judge } from "../../cli/verify.ts";
import { condensable, tierOf } from "../../kernel/condense/condense.ts";
import { EFFECT_CLASSES, isObject, parseJson, timestampFrom } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { livedThrough, packed, run } from "../replay/scene.ts";
import type { Log } from "../replay/scene.ts";

let log: Log;
beforeAll(async () => {
  log = await livedThrough(4);
});

/** Every line of the pack's nodes. */
function nodesIn(file: string): JsonObject[] {
  const names = execFileSync("tar", ["-tf", file], { encoding: "utf8" }).trim().split("\n");
  return names
    .filter((name) => name.startsWith("nodes/"))
    .flatMap((name) => execFileSync("tar", ["-xOf", file, name], { encoding: "utf8" }).trim().split("\n"))
    .map((line) => parseJson(line, { bytes: 1 << 20, keys: 1000, depth: 64 }))
    .filter((v) => isObject(v));
}
const effectOf = (node: JsonObject): unknown =>
  isObject(node["body"]) ? node["body"]["effect_class"] : undefined;
const count = (nodes: readonly JsonObject[], effect: string): number =>
  nodes.filter((n) => effectOf(n) === effect).length;

describe("condensation (4.2)", () => {
  test("knows each effect class's tier", () => {
    expect(EFFECT_CLASSES.map(tierOf)).toEqual(["low", "low", "medium", "high", "high"]);
    expect(tierOf("")).toBe("high");
  });

  test("comes to the same root, keeps the risky receipts, and drops the inputs of what went", async () => {
    const whole = await packed(log);
    const small = await packed(log, { condense: {} });
    const roots = parseTrustRoots(readFileSync(whole.roots, "utf8"));
    const [a, b] = [judge(whole.file, roots), judge(small.file, roots)];
    if (!("report" in a) || !("report" in b) || a.kind !== "pack" || b.kind !== "pack")
      throw new Error("a pack is not valid");
    expect(b.report.root_hash).toBe(a.report.root_hash);
    expect(b.report.tree_size).toBe(a.report.tree_size);
    expect(b.report.nodes).toBe(a.report.nodes);
    expect(b.report.condensed).toBeGreaterThan(8);
    expect(b.report.inputs).toBeLessThan(a.report.inputs);
    const [before, after] = [nodesIn(whole.file), nodesIn(small.file)];
    for (const effect of ["E2", "E3", "E4"]) {
      expect(count(before, effect), effect).toBeGreaterThan(0);
      expect(count(after, effect), effect).toBe(count(before, effect));
    }
    expect(count(after, "E1")).toBeLessThan(count(before, "E1"));
  });

  test("of the medium tier takes what is older than the time given, and never the high tier", async () => {
    const all = await packed(log, { condense: { before: timestampFrom("9999-01-01T00:00:00.000Z", "") } });
    const none = await packed(log, { condense: { before: timestampFrom("2000-01-01T00:00:00.000Z", "") } });
    const [every, old] = [nodesIn(all.file), nodesIn(none.file)];
    const whole = nodesIn((await packed(log)).file);
    expect(count(old, "E2")).toBe(count(whole, "E2"));
    expect(count(every, "E2")).toBeLessThan(count(whole, "E2"));
    for (const effect of ["E3", "E4"]) expect(count(every, effect)).toBe(count(whole, effect));
  });

  test("leaves a permit whose outcome is not there, and the node that begins a session", () => {
    const open = log.entries.filter((e) => e.kind !== "node" || e.sealed.node.kind !== "EFFECT");
    const may = condensable(open);
    for (const entry of open) {
      if (entry.kind !== "node") continue;
      if (entry.sealed.node.kind === "INTENT" || entry.sealed.node.lamport === 1)
        expect(may(entry)).toBe(false);
    }
  });

  test("is counted by the replay, which judges the rest as before", async () => {
    const small = await packed(log, { condense: {} });
    const { code, text } = await run(small.file, "--trust", small.roots);
    expect(text).toMatch(/\d+ nodes CONDENSED/);
    expect(code).toBe(0);
  });
});
