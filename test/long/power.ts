// Loss of power: a guardian's journal on ext4 and XFS, the file system shut down at a random moment without its log, mounted
// again, recovered and compared with what was acknowledged.
//
//   node test/long/power.ts [--cycles 200] [--kinds ext4,xfs] [--sync honest|lying]
//
// Needs root; installs xfsprogs or e2fsprogs where they are missing. Runs in a mount namespace of its own, so that nothing
// stays mounted however it ends. Prints a line for each file system; exits 1 when anything acknowledged is lost, a store
// does not verify or a snapshot is refused. With `--sync lying` it is the control, and exits 1 because it must.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { asked, oneOf, someOf, amount } from "../../kind-e2e/asked.ts";
import { randomBytes } from "node:crypto";
import { buildSync } from "esbuild";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { verifyStore } from "../../kernel/evidence/evidence.ts";
import { createStanding } from "../../sidecar/guard/standing.ts";
import { openJournal, readJournal } from "../../sidecar/journal/journal.ts";
import { KINDS, createMachine } from "../journal/loss/machine.ts";
import type { Kind, Machine } from "../journal/loss/machine.ts";
import { JOURNAL } from "../journal/loss/options.ts";
import { newPem } from "../journal/scene.ts";

const wish = asked("usage: node test/long/power.ts [--cycles 200] [--kinds ext4,xfs] [--sync honest|lying]", {
  cycles: amount(200, 1),
  kinds: someOf(...KINDS),
  sync: oneOf("honest", "lying"),
});
if (process.env["ATOLL_OWN_MOUNTS"] === undefined) {
  const run = spawnSync(
    "unshare",
    ["--mount", "--propagation", "private", process.execPath, ...process.argv.slice(1)],
    { stdio: "inherit", env: { ...process.env, ATOLL_OWN_MOUNTS: "1" } },
  );
  process.exit(run.status ?? 1);
}

const home = mkdtempSync(join(tmpdir(), "atoll-loss-"));
const pem = newPem();
const pemFile = join(home, "guardian.pem");
writeFileSync(pemFile, pem, { mode: 0o400 });
const signer = signerFromPem(pem);
const writerFile = join(home, "writer.mjs");
buildSync({
  entryPoints: [join(import.meta.dirname, "../journal/loss/writer.ts")],
  bundle: true,
  platform: "node",
  format: "esm",
  outfile: writerFile,
  banner: {
    js: 'import { createRequire as ownRequire } from "node:module"; const require = ownRequire(import.meta.url);',
  },
  nodePaths: [join(import.meta.dirname, "../../node_modules")],
  logLevel: "error",
});

const startWriter = () => {
  const child = spawn(process.execPath, [writerFile, pemFile, wish.sync || "honest"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  return { child, acknowledged: () => said.split("\n").slice(0, -1) };
};

/** What is wrong with the journal in `dir`, "" when nothing is. */
async function judge(dir: string, acknowledged: readonly string[]): Promise<string> {
  let warned = "";
  const standing = createStanding(() => true);
  const journal = await openJournal({
    ...JOURNAL,
    dir,
    signer,
    clock: Date.now,
    random: (n) => randomBytes(n),
    standing,
    warn: (why) => (warned = why),
  });
  try {
    const hashes = new Set<string>();
    const whole = createStanding(() => true);
    for (const entry of journal.entries()) {
      if (entry.kind === "node") hashes.add(entry.sealed.hash);
      whole.next(entry);
    }
    const lost = acknowledged.filter((line) => !hashes.has(line.slice(2)));
    if (lost.length > 0) return `${lost.length} of ${acknowledged.length} acknowledged nodes are lost`;
    if (warned !== "") return warned;
    if (canonicalize(whole.state()) !== canonicalize(standing.state()))
      return "the snapshot and what follows it are not the whole";
    const { unknown } = standing.restored(journal.ownSession, Date.now());
    if (unknown.length > 0) await journal.append(unknown, []).durable;
  } finally {
    await journal.close();
  }
  const reading = readJournal(dir);
  verifyStore(reading.records(), () => verifierFromRaw(signer.publicKey), reading.live);
  return "";
}

/** Of one machine: cycles over one journal, and a new one when it has grown. */
async function run(kind: Kind, cycles: number) {
  const machine: Machine = createMachine(kind);
  const tally = { cycles: 0, acknowledged: 0, wrong: 0 };
  let next = startWriter();
  let generation = 0;
  let inThis = 0;
  let seen: string[] = [];
  try {
    for (; tally.cycles < cycles; tally.cycles++) {
      const writer = next;
      next = startWriter();
      const dir = join(machine.root, `journal-${generation}`);
      writer.child.stdin.write(`${dir}\n`);
      while (writer.acknowledged().length === 0) {
        if (writer.child.exitCode !== null) throw new Error("the writer has ended");
        await pause(5);
      }
      await pause(Math.random() * 120);
      await machine.off();
      writer.child.kill("SIGKILL");
      await once(writer.child, "close");
      machine.on();
      const acknowledged = writer.acknowledged();
      tally.acknowledged += acknowledged.length;
      seen = [...seen, ...acknowledged];
      const wrong = await judge(dir, seen).catch((e: unknown) => `refused: ${String(e)}`);
      if (wrong !== "") {
        tally.wrong++;
        console.log(`WRONG ${kind} cycle ${tally.cycles}: ${wrong}`);
      }
      if (wrong !== "" || ++inThis === 20) {
        rmSync(dir, { recursive: true, force: true });
        generation++;
        inThis = 0;
        seen = [];
      }
    }
  } finally {
    next.child.kill("SIGKILL");
    machine.remove();
  }
  return tally;
}

let wrong = 0;
for (const kind of wish.kinds) {
  const begun = performance.now();
  const tally = await run(kind, wish.cycles);
  wrong += tally.wrong;
  console.log(
    `${kind}: ${tally.cycles} losses of power, ${tally.acknowledged} acknowledged, ${tally.wrong} wrong, ${((performance.now() - begun) / 1000).toFixed(0)} s`,
  );
}
rmSync(home, { recursive: true, force: true });
process.exitCode = wrong === 0 ? 0 : 1;
