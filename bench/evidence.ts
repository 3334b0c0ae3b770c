// A large journal: how fast its pack verifies on one core, in how much memory, and how soon a restart is through.
//
//   node bench/evidence.ts [--nodes 1000000] [--dir DIR]
//
// Bounds: >= 8,000 nodes/s per core, peak memory <= 256 MiB, restart from the last checkpoint <= 2 s. The rate is counted in
// CPU time of the verifying process, so that a busy machine does not change it. Needs about 2.6 KB of disk for each node.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { generateKeyPairSync } from "node:crypto";
import { decisions, open } from "../test/journal/scene.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "1000000" },
    dir: { type: "string" },
    child: { type: "string" },
    help: { type: "boolean", short: "h" },
  },
});
if (values.help === true) {
  console.log("usage: node bench/evidence.ts [--nodes 1000000] [--dir DIR]");
  process.exit(0);
}

const MB = 1 << 20;
const home = values.dir ?? mkdtempSync(join(tmpdir(), "atoll-large-"));
const at = (name: string): string => join(home, name);
const mine = (what: string): Record<string, number> => {
  const run = spawnSync(process.execPath, [import.meta.filename, "--child", what, "--dir", home], {
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    maxBuffer: MB,
  });
  if (run.status !== 0) throw new Error(`${what} ended with ${run.status}`);
  return JSON.parse(run.stdout);
};
const cpu = (): number => {
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  return (userCPUTime + systemCPUTime) / 1e6;
};

if (values.child === undefined) {
  const nodes = Number(values.nodes);
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  mkdirSync(at("journal"), { recursive: true, mode: 0o700 });
  writeFileSync(at("guardian.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
  writeFileSync(at("roots.pem"), `role: guardian\n${publicKey.export({ type: "spki", format: "pem" })}`);
  const signer = signerFromPem(readFileSync(at("guardian.pem"), "utf8"));
  let begun = performance.now();
  const journal = await open({ dir: at("journal"), signer, segmentBytes: 8 * MB });
  // Eight writers, so that they share syncs.
  const each = Math.ceil(nodes / 1.61 / 8 / 1000) * 1000;
  await Promise.all(
    Array.from({ length: 8 }, (_, w) => decisions(journal, each, { from: w * 10_000_000, sessions: 24 })),
  );
  await journal.close();
  console.log(
    `written: ${journal.treeSize} nodes, ${journal.records} records in ${((performance.now() - begun) / 1000).toFixed(0)} s`,
  );
  const restart = mine("restart");
  begun = performance.now();
  const made = mine("export");
  console.log(
    `export: ${((performance.now() - begun) / 1000).toFixed(0)} s, ${(statSync(at("pack.tar")).size / MB).toFixed(0)} MiB, peak memory ${made["peakMb"]} MiB`,
  );
  const verified = mine("verify");
  const store = mine("verify-store");
  const rate = (r: Record<string, number>): number => Math.round((r["nodes"] ?? 0) / (r["cpu"] ?? 1));
  console.log(
    `verify pack: ${verified["nodes"]} nodes, ${rate(verified)} nodes/s per core (>= 8000), peak memory ${verified["peakMb"]} MiB (<= 256)`,
  );
  console.log(
    `verify journal: ${store["nodes"]} nodes, ${rate(store)} nodes/s per core, peak memory ${store["peakMb"]} MiB`,
  );
  console.log(
    `restart from the last checkpoint: ${restart["ms"]} ms (<= 2000), CPU ${restart["cpu"]?.toFixed(2)} s`,
  );
  if (values.dir === undefined) rmSync(home, { recursive: true, force: true });
} else {
  const { judge } = await import("../cli/verify.ts");
  const { writeJournalPack } = await import("../cli/export.ts");
  const { parseTrustRoots } = await import("../kernel/trust/trust.ts");
  const signer = signerFromPem(readFileSync(at("guardian.pem"), "utf8"));
  const before = cpu();
  const begun = performance.now();
  let nodes = 0;
  if (values.child === "restart") {
    const journal = await open({ dir: at("journal"), signer, segmentBytes: 8 * MB });
    nodes = journal.treeSize;
  } else if (values.child === "export") {
    nodes = (await writeJournalPack({ dir: at("journal"), signer, file: at("pack.tar") })).nodes;
  } else {
    const path = values.child === "verify" ? at("pack.tar") : at("journal");
    const outcome = judge(path, parseTrustRoots(readFileSync(at("roots.pem"), "utf8")));
    if ("finding" in outcome) throw new Error(outcome.finding.reason);
    nodes = outcome.report.nodes;
  }
  console.log(
    JSON.stringify({
      nodes,
      cpu: cpu() - before,
      ms: Math.round(performance.now() - begun),
      peakMb: Math.round(process.resourceUsage().maxRSS / 1024),
    }),
  );
  process.exit(0);
}
