// Gas is part of a receipt: these numbers change only with the schedule's version.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { GAS_SCHEDULE } from "../../kernel/runtime/sandbox/gas.ts";
import { FIXTURES } from "./fixtures.ts";
import { runHere } from "./here.ts";

const FILE = new URL("../golden/sandbox-gas.json", import.meta.url);

test("every fixture ends as recorded, with the gas and the output recorded", async () => {
  const found: Record<string, object> = {};
  for (const fixture of FIXTURES) {
    const outcome = runHere(await fixture.build(), { stdin: new TextEncoder().encode(fixture.stdin) });
    found[fixture.name] = {
      code: outcome.code ?? "",
      gas: outcome.gas,
      pages: outcome.peakPages,
      stdout: createHash("sha256").update(outcome.stdout).digest("hex").slice(0, 16),
    };
  }
  expect(Object.keys(found).length).toBeGreaterThanOrEqual(20);
  const golden = { schedule: GAS_SCHEDULE, fixtures: found };
  // UPDATE_GOLDEN=1 writes the file; its diff is then read as a change of the schedule.
  if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(FILE, `${JSON.stringify(golden, undefined, 2)}\n`);
  expect(golden).toEqual(JSON.parse(readFileSync(FILE, "utf8")));
});
