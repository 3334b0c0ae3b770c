// A large journal: how fast its pack verifies on one core, in how much memory, and how soon a restart is through.
//
//   node bench/evidence.ts [--nodes 1000000] [--dir DIR] [--keep] [--only restart,export,verify,verify-store]
//
// Bounds: >= 8,000 nodes/s per core, peak memory <= 256 MiB, restart from the last checkpoint <= 2 s; exit 1 when one is not
// held. The restart is one after kill -9, with all that a guardian reads; the rate is counted in CPU time of the verifying
// process, its start and its collector's threads included, so that a busy machine changes it less. Beside it stand the floors,
// measured in the same process: the bare signature check of a text as long as a node, by the library in use and by the platform.
// That each node's signature was checked is counted.
// Needs about 2.6 KB of disk for each node, and as much again for the pack. --keep takes the journal that is in DIR and adds
// 6,000 decisions.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asked, someOf, text, amount } from "../kind-e2e/asked.ts";
import { createPublicKey } from "node:crypto";
import { createStanding } from "../sidecar/guard/standing.ts";
import { attestation, decisions, newPem, open, session } from "../test/journal/scene.ts";
import { inLittleMemory } from "../cli/pack.ts";
import { BY, PLATFORM, signatures } from "../cli/signatures/signatures.ts";
import type { Signatures } from "../cli/signatures/signatures.ts";
import { signerFromPem, verifierFromRaw } from "../kernel/crypto/crypto.ts";
import type { Verifier } from "../kernel/crypto/crypto.ts";

const PARTS = ["restart", "export", "verify", "verify-store"] as const;
const wish = asked(
  `usage: node bench/evidence.ts [--nodes 1000000] [--dir DIR] [--keep] [--only restart,export,verify,verify-store]
  --nodes  how large the journal is; about 2.6 KB of disk for each, and as much again for the pack
  --dir    where; kept afterwards (a folder of its own otherwise, taken away at the end)
  --keep   take the journal that is in DIR and, for the restart, add 6,000 decisions
  --only   some of the four
exit 0 when >= 8,000 nodes/s per core, <= 256 MiB and <= 2 s hold, 1 otherwise`,
  { nodes: amount(1_000_000, 1), dir: text(""), keep: false, only: someOf(...PARTS), child: text("") },
);

const MB = 1 << 20;
const home = wish.dir || mkdtempSync(join(tmpdir(), "atoll-large-"));
const at = (name: string): string => join(home, name);
const mine = (what: string): Record<string, number> => {
  const args = [
    "--child",
    what,
    "--dir",
    home,
    "--nodes",
    String(wish.nodes),
    ...(wish.keep ? ["--keep"] : []),
  ];
  const run = spawnSync(process.execPath, [import.meta.filename, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
    maxBuffer: MB,
  });
  if (run.status !== 0) throw new Error(`${what} ended with ${run.status}`);
  return JSON.parse(run.stdout);
};
const seconds = (ms: number | undefined): string => ((ms ?? 0) / 1000).toFixed(1);
const cpu = (): number => {
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  return (userCPUTime + systemCPUTime) / 1e6;
};

/** Verifications a second of CPU time by a library alone, of a text as long as a node. */
function bare(of: Signatures["of"]): number {
  const signer = signerFromPem(newPem());
  const text = "a".repeat(1300);
  const sig = signer.sign(text);
  const key = of(verifierFromRaw(signer.publicKey));
  const check = (times: number): void => {
    for (let i = 0; i < times; i++)
      if (!key.verify(text, sig)) throw new Error("a good signature is refused");
  };
  check(500);
  const before = cpu();
  check(5000);
  return Math.round(5000 / (cpu() - before));
}

const missed: string[] = [];
const bound = (holds: boolean, what: string): void => {
  if (!holds) missed.push(what);
};

if (wish.child === "") {
  const only = new Set<string>(wish.only);
  if (!wish.keep) {
    const pem = newPem();
    mkdirSync(at("journal"), { recursive: true, mode: 0o700 });
    writeFileSync(at("guardian.pem"), pem);
    const key = createPublicKey(pem).export({ type: "spki", format: "pem" });
    writeFileSync(at("roots.pem"), `role: guardian\n${key}`);
  }
  if (!wish.keep || only.has("restart")) {
    const written = mine("write");
    console.log(
      `written: ${written["nodes"]} nodes, ${written["records"]} records in ${seconds(written["ms"])} s`,
    );
  }
  if (only.has("restart")) {
    const killed = mine("restart");
    console.log(
      `restart after kill -9: ${killed["ms"]} ms (<= 2000), CPU ${seconds((killed["cpu"] ?? 0) * 1000)} s, ${killed["replayed"]} of ${killed["records"]} records read, peak memory ${killed["peakMb"]} MiB`,
    );
    bound((killed["ms"] ?? 0) <= 2000, "restart");
    const ended = mine("restart");
    console.log(`restart after a clean end: ${ended["ms"]} ms, ${ended["replayed"]} records read`);
  }
  if (only.has("export")) {
    const made = mine("export");
    console.log(
      `export: ${seconds(made["ms"])} s, ${(statSync(at("pack.tar")).size / MB).toFixed(0)} MiB, peak memory ${made["peakMb"]} MiB`,
    );
  }
  for (const what of ["verify", "verify-store"])
    if (only.has(what)) {
      const r = mine(what);
      const rate = Math.round((r["nodes"] ?? 0) / (r["cpu"] ?? 1));
      const wall = Math.round((r["nodes"] ?? 0) / ((r["ms"] ?? 0) / 1000));
      const beside = (1e6 / rate - 1e6 / (r["bare"] ?? 1)).toFixed(1);
      console.log(
        `${what}: ${r["nodes"]} nodes, ${rate} nodes/s per core (>= 8000), ${wall} nodes/s by the clock, ${beside} µs a node beside the signature, peak memory ${r["peakMb"]} MiB (<= 256)`,
      );
      console.log(
        `  floors: ${r["bare"]} bare signature checks a second by ${BY[signatures().by]}, ${r["platform"]} by the platform`,
      );
      bound(rate >= 8000, `${what} rate`);
      bound((r["peakMb"] ?? 0) <= 256, `${what} memory`);
      if (r["checked"] !== r["nodes"])
        throw new Error(`${r["checked"]} signatures were checked of ${r["nodes"]} nodes`);
    }
  if (wish.dir === "") rmSync(home, { recursive: true, force: true });
  if (missed.length > 0) {
    console.log(`not held: ${missed.join(", ")}`);
    process.exitCode = 1;
  }
} else {
  const { judge } = await import("../cli/verify.ts");
  const { writeJournalPack } = await import("../cli/export.ts");
  const { parseTrustRoots } = await import("../kernel/trust/trust.ts");
  const signer = signerFromPem(readFileSync(at("guardian.pem"), "utf8"));
  const before = cpu();
  const begun = performance.now();
  const more: Record<string, number> = {};
  let nodes = 0;
  const opened = () =>
    open({ dir: at("journal"), signer, segmentBytes: 8 * MB, standing: createStanding(() => true) });
  let after = async (): Promise<void> => {};
  if (wish.child === "write") {
    const journal = await opened();
    // Eight writers, so that they share syncs; and then nobody closes it.
    const each = wish.keep ? 750 : Math.ceil(wish.nodes / 1.61 / 8 / 1000) * 1000;
    const from = wish.keep ? 90_000_000 + (journal.records % 1_000_000) * 10 : 0;
    await Promise.all(
      Array.from({ length: 8 }, (_, w) =>
        decisions(journal, each, { from: from + w * 10_000_000, sessions: 24 }),
      ),
    );
    nodes = journal.treeSize;
    more["records"] = journal.records;
  } else if (wish.child === "restart") {
    const journal = await opened();
    // As a guardian does it: the latest receipts are at hand again.
    const latest = [...journal.latest(10_000, (node) => node.body["type"] === "atoll.dev/receipt/v1")];
    nodes = journal.treeSize;
    more["latest"] = latest.length;
    more["records"] = journal.records;
    more["replayed"] = journal.replayed;
    after = async () => {
      await journal.append([attestation(session(0), 1)], []).durable;
      await journal.close();
    };
  } else if (wish.child === "export") {
    nodes = (await writeJournalPack({ dir: at("journal"), signer, file: at("pack.tar") })).nodes;
  } else {
    const path = wish.child === "verify" ? at("pack.tar") : at("journal");
    inLittleMemory();
    let checked = 0;
    const counted = new Map<Verifier, Verifier>();
    const { by, of } = signatures();
    const counting = (key: Verifier): Verifier => {
      const by = of(key);
      return { ...by, verify: (text, sig) => (checked++, by.verify(text, sig)) };
    };
    const outcome = judge(path, parseTrustRoots(readFileSync(at("roots.pem"), "utf8")), undefined, {
      by,
      of(key) {
        let found = counted.get(key);
        if (found === undefined) counted.set(key, (found = counting(key)));
        return found;
      },
    });
    if ("finding" in outcome) throw new Error(outcome.finding.reason);
    nodes = outcome.report.nodes;
    more["checked"] = checked;
  }
  const told = {
    nodes,
    cpu: cpu() - before,
    ms: Math.round(performance.now() - begun),
    peakMb: Math.round(process.resourceUsage().maxRSS / 1024),
  };
  await after();
  const floors = wish.child.startsWith("verify")
    ? { bare: bare(signatures().of), platform: bare(PLATFORM.of) }
    : {};
  console.log(JSON.stringify({ ...told, ...more, ...floors }));
  process.exit(0);
}
