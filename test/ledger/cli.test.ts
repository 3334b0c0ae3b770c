import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { exportPack } from "../../cli/export.ts";
import { ledger as command } from "../../cli/ledger.ts";
import { verify } from "../../cli/verify.ts";
import { openStore } from "../../operator/ledger/ledger.ts";
import { journalOf, rootsFile } from "../evidence/packs.ts";
import { newFolder } from "../journal/scene.ts";
import { ledgerOver, linesOf } from "./contract.ts";

const said = () => {
  const out: string[] = [];
  const io = {
    stdin: (async function* () {})(),
    stdout: { write: (t: string | Uint8Array) => out.push(String(t)) },
    stderr: { write: (t: string | Uint8Array) => out.push(String(t)) },
    env: {},
  };
  return { io, text: () => out.join("") };
};

test("a ledger's pack is the journal's, byte for byte; a tree seen before has to be in it", async () => {
  const scene = await journalOf(60);
  const place = newFolder();
  const store = await openStore(place);
  const keys = new Map([["pod-1", scene.signer]]);
  const lines = linesOf(scene.dir);
  await ledgerOver(store, keys).accept("pod-1", 0, lines);
  await store.close();
  const folder = newFolder();
  const at = (name: string): string => join(folder, name);
  writeFileSync(at("guardian.pem"), scene.pem);
  const pack = (source: string[], name: string): Promise<number> =>
    exportPack([...source, "--key", at("guardian.pem"), "-o", at(name)], said().io);
  expect(await pack(["--journal", scene.dir], "journal.tar")).toBe(0);
  expect(await pack(["--ledger", place, "--pod", "pod-1"], "ledger.tar")).toBe(0);
  expect(readFileSync(at("ledger.tar")).equals(readFileSync(at("journal.tar")))).toBe(true);

  const trust = rootsFile(scene.signer);
  const first = said();
  expect(await verify([at("ledger.tar"), "--trust", trust, "--json"], first.io)).toBe(0);
  const { tree_size, root_hash }: { tree_size: number; root_hash: string } = JSON.parse(first.text());
  const knows = async (known: string) => {
    const out = said();
    return {
      code: await verify([at("ledger.tar"), "--trust", trust, "--known", known], out.io),
      text: out.text(),
    };
  };
  expect(await knows(`${tree_size}:${root_hash}`)).toMatchObject({ code: 0 });
  expect((await knows(`${tree_size + 1}:${root_hash}`)).text).toContain("nodes were withheld");
  const other = `sha256:${"0".repeat(64)}`;
  expect((await knows(`${tree_size - 3}:${other}`)).text).toContain("are others than those known");
  await expect(knows("ten")).rejects.toThrow("SIZE:ROOT");

  const status = said();
  expect(await command(["status", "--store", place], status.io)).toBe(0);
  expect(status.text()).toBe(`pod-1: ${lines.length} records\n`);
  const audit = said();
  expect(await command(["verify", "--store", place, "--trust", trust], audit.io)).toBe(0);
  expect(audit.text()).toContain("VALID 1 guardians");
  await expect(command(["verify", "--store", place], said().io)).rejects.toThrow("never vouches for itself");
});
