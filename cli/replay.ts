// `atoll replay`: every recorded call decided once more, by the policy that its receipt names or by another one.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { ContractError, isObject } from "../kernel/contracts/contracts.ts";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import { PackInvalid, packContents, verifyPack } from "../kernel/evidence/evidence.ts";
import { ApprovalKeysNeeded, ReplayDiffers, replay } from "../kernel/replay/replay.ts";
import type { ReplayReport } from "../kernel/replay/replay.ts";
import { parseTrustRoots } from "../kernel/trust/trust.ts";
import { documentAt } from "./document.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";
import { withPack } from "./pack.ts";
import { signatures } from "./signatures/signatures.ts";

const USAGE = `usage: atoll replay PACK [--trust roots.pem] [--policy FILE] [--allow-redacted] [--json]
  PACK              a tar of \`atoll export\`, or the same unpacked
  --trust           verify the pack with these keys first; needed where a call rests on an approval
  --policy          decide by this policy instead and list what would change
  --allow-redacted  exit 0 although redacted inputs could not be decided again
exit 0 everything comes out as recorded, 1 it does not (the first difference), 2 usage`;

export async function replayPack(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      trust: { type: "string" },
      policy: { type: "string" },
      "allow-redacted": { type: "boolean" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [path] = positionals;
  if (path === undefined || positionals.length > 1) throw new UsageError("one PACK is needed", USAGE);
  const roots = values.trust === undefined ? undefined : parseTrustRoots(readFileSync(values.trust, "utf8"));
  const instead = values.policy === undefined ? undefined : policyAt(values.policy);
  const checked = signatures();
  const by = roots === undefined ? {} : { signatures_by: checked.by };
  const tell = (json: object, words: string): void => {
    io.stdout.write(values.json === true ? `${JSON.stringify({ ...json, ...by })}\n` : `${words}\n`);
  };
  try {
    const report = withPack(path, (files) => {
      if (roots !== undefined) verifyPack(files, roots, undefined, checked.of);
      return replay(packContents(files), {
        ...(roots === undefined ? {} : { keys: roots }),
        ...(instead === undefined ? {} : { instead }),
      });
    });
    const stopped = report.redacted > 0 && values["allow-redacted"] !== true;
    tell(
      { ...report, reproduced: !stopped, verified: roots !== undefined },
      inWords(path, report, roots !== undefined, instead !== undefined),
    );
    return stopped ? 1 : 0;
  } catch (error) {
    if (error instanceof ApprovalKeysNeeded) throw new UsageError(error.message, USAGE);
    if (error instanceof ReplayDiffers)
      tell({ reproduced: false, ...error.difference }, `DIFFERS ${path}\n  ${error.message}`);
    else if (error instanceof PackInvalid)
      tell({ reproduced: false, ...error.finding }, `INVALID ${path}\n  ${error.message}`);
    else throw error;
    return 1;
  }
}

function policyAt(path: string): JsonObject {
  const value = documentAt(path);
  if (!isObject(value)) throw new ContractError(path, "is no policy document");
  return value;
}

function inWords(path: string, r: ReplayReport, verified: boolean, instead: boolean): string {
  const parts = [
    `${r.same} of ${r.receipts} verdicts ${instead ? "decided again" : "come out as recorded"}`,
    `${r.effects} outcomes belong to their permits`,
    ...(r.ungated > 0 ? [`${r.ungated} refused before any gate`] : []),
    ...(r.redacted > 0 ? [`${r.redacted} REDACTED and not decided`] : []),
    ...(r.condensed > 0 ? [`${r.condensed} nodes CONDENSED`] : []),
  ];
  const changes = r.changes.map(
    (c) => `  ${c.session_id} lamport ${c.lamport} ${c.tool}: ${c.before} -> ${c.after}`,
  );
  const about = instead ? [`${r.changes.length} would change`, ...changes] : [];
  const unverified = verified ? [] : ["signatures were not looked at; give `--trust`"];
  return [`REPLAYED ${path}`, ...parts.map((p) => `  ${p}`), ...about, ...unverified].join("\n");
}
