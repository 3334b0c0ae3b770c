// `atoll verify`: checks a pack, or a journal's folder, with nothing but keys of one's own.

import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { hashFrom } from "../kernel/contracts/contracts.ts";
import {
  NOT_PROVED,
  PackInvalid,
  registeredBy,
  verifyPack,
  verifyStore,
} from "../kernel/evidence/evidence.ts";
import type { Finding, KnownTree, PackReport, StoreReport } from "../kernel/evidence/evidence.ts";
import { createSuccession, parseTrustRoots } from "../kernel/trust/trust.ts";
import type { TrustRoots } from "../kernel/trust/trust.ts";
import { JournalRefused, checkHeads, readJournal } from "../sidecar/journal/journal.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";
import { inLittleMemory, withPack } from "./pack.ts";
import { BY, PLATFORM, signatures } from "./signatures/signatures.ts";
import type { Signatures } from "./signatures/signatures.ts";

const USAGE = `usage: atoll verify PACK|DIR --trust roots.pem [--known SIZE:ROOT] [--json]
  PACK     a tar of \`atoll export\`
  DIR      the same unpacked, or a journal's folder
  --trust  the keys that are believed; what is verified never vouches for itself
  --known  a tree that an earlier verification printed: the pack has to go on from it
exit 0 valid, 1 not valid (the first break: file, line, code), 2 usage`;

export async function verify(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      trust: { type: "string" },
      known: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [path] = positionals;
  if (path === undefined || positionals.length > 1) throw new UsageError("one PACK or DIR is needed", USAGE);
  if (values.trust === undefined)
    throw new UsageError("`--trust` is needed: a pack never vouches for itself", USAGE);
  const roots = parseTrustRoots(readFileSync(values.trust, "utf8"));
  const checked = signatures();
  inLittleMemory();
  const known = values.known === undefined ? undefined : knownTree(values.known);
  const outcome = judge(path, roots, known, checked);
  if (values.json === true)
    io.stdout.write(
      `${JSON.stringify(
        "finding" in outcome
          ? { valid: false, ...outcome.finding, signatures_by: checked.by }
          : {
              valid: true,
              kind: outcome.kind,
              ...outcome.report,
              signatures_by: checked.by,
              not_proved: NOT_PROVED,
            },
      )}\n`,
    );
  else
    io.stdout.write("finding" in outcome ? refusal(path, outcome.finding) : inWords(path, outcome, checked));
  return "finding" in outcome ? 1 : 0;
}

function knownTree(text: string): KnownTree {
  const [size = "", ...root] = text.split(":");
  if (!/^(0|[1-9][0-9]{0,15})$/.test(size)) throw new UsageError("`--known` is SIZE:ROOT", USAGE);
  return { size: Number(size), root: hashFrom(root.join(":"), "--known") };
}

type Outcome =
  | { readonly finding: Finding }
  | { readonly kind: "pack"; readonly report: PackReport }
  | { readonly kind: "journal"; readonly report: StoreReport };

/** The verdict over a pack's file, an unpacked pack or a journal's folder. */
export function judge(
  path: string,
  roots: TrustRoots,
  known?: KnownTree,
  checked: Signatures = PLATFORM,
): Outcome {
  try {
    if (!statSync(path).isDirectory() || existsSync(join(path, "manifest.json")))
      return { kind: "pack", report: withPack(path, (files) => verifyPack(files, roots, known, checked.of)) };
    const reading = readJournal(path);
    const keys = createSuccession(registeredBy(roots).standing);
    const report = verifyStore(reading.records(), keys, reading.live, known, checked.of);
    checkHeads(path, (id) => keys.known(id) ?? roots.keyFor("guardian", id));
    return { kind: "journal", report };
  } catch (error) {
    if (error instanceof PackInvalid) return { finding: error.finding };
    if (error instanceof JournalRefused)
      return { finding: { file: path, line: 0, code: error.code, reason: error.message } };
    throw error;
  }
}

const refusal = (path: string, f: Finding): string =>
  `INVALID ${path}\n  ${f.file}${f.line === 0 ? "" : ` line ${f.line}`}: ${f.code}: ${f.reason}\n`;

function inWords(
  path: string,
  outcome: Exclude<Outcome, { readonly finding: Finding }>,
  checked: Signatures,
): string {
  const { report } = outcome;
  const signer = outcome.kind === "pack" ? `, manifest signed by ${outcome.report.signer}` : "";
  const some =
    outcome.kind === "pack" && outcome.report.partial
      ? " (some of the guardian's sessions, each node with its proof)"
      : "";
  const condensed =
    outcome.kind === "pack" && outcome.report.condensed > 0
      ? `, ${outcome.report.condensed} of them condensed to their proofs`
      : "";
  const sessions = typeof report.sessions === "number" ? report.sessions : report.sessions.length;
  const registry =
    outcome.kind === "pack" && outcome.report.registry.height > 0
      ? `  registry of ${outcome.report.registry.height} events, which ends with ${outcome.report.registry.hash}: compare it with the cluster's\n`
      : "";
  return `VALID ${path}${signer}
  ${report.nodes} nodes${condensed}, ${sessions} sessions${some}, ${report.checkpoints} checkpoints, ${report.inputs} inputs (${report.redacted} redacted)
  ${report.uncovered} nodes after the last checkpoint
${report.open_reviews.map((hash) => `  OPEN REVIEW of emergency override ${hash}\n`).join("")}${registry}  tree of ${report.tree_size} nodes, root ${report.root_hash}
  signatures of nodes checked by ${BY[checked.by]}
not proved by this:
${NOT_PROVED.map((line) => `  - ${line}`).join("\n")}
`;
}
