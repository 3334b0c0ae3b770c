// Guardian and ledger killed at random under load, for as long as one likes; then everything that was acknowledged has
// to be in the ledger once and in order.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { buildSync } from "esbuild";
import { join } from "node:path";
import { createPublicKey } from "node:crypto";
import { signerFromPem } from "../../../kernel/crypto/crypto.ts";
import { parseReceipt } from "../../../kernel/receipts/receipts.ts";
import { readEntry } from "../../../kernel/evidence/evidence.ts";
import { auditLedger, openStore } from "../../../operator/ledger/ledger.ts";
import { verifierFromRaw } from "../../../kernel/crypto/crypto.ts";
import { trustRoots } from "../../../kernel/trust/trust.ts";
import { newPem } from "../../journal/scene.ts";
import { linesOf } from "../contract.ts";

export interface ChaosOptions {
  readonly seconds: number;
  readonly durability: "local" | "ledger";
  /** A folder or `postgres://…`. */
  readonly store: string;
  /** Something else to shake, such as the database's own server. */
  readonly shake?: () => Promise<void>;
  /** The ledger stays away for so long once, in the middle. */
  readonly outageSeconds?: number;
  readonly log?: (line: string) => void;
}
export interface ChaosReport {
  readonly guardianKills: number;
  readonly ledgerKills: number;
  readonly acknowledged: number;
  readonly refused: number;
  readonly records: number;
  /** Acknowledged while the ledger was away for its outage. */
  readonly duringOutage: { readonly acknowledged: number; readonly refused: number };
  readonly wrong: readonly string[];
}

/** One file of each program, so that it starts quickly. */
function bundled(home: string, name: string): string {
  const file = join(home, `${name}.mjs`);
  buildSync({
    entryPoints: [join(import.meta.dirname, `${name}.ts`)],
    bundle: true,
    platform: "node",
    format: "esm",
    outfile: file,
    external: ["pg-native"],
    banner: {
      js: 'import { createRequire as ownRequire } from "node:module"; const require = ownRequire(import.meta.url);',
    },
    logLevel: "error",
  });
  return file;
}
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const ended = (child: ChildProcess): Promise<number | null> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve(child.exitCode)
    : new Promise((resolve) => child.once("exit", (code) => resolve(code)));

export async function chaos(options: ChaosOptions): Promise<ChaosReport> {
  const home = mkdtempSync(join(tmpdir(), "atoll-chaos-"));
  const dir = mkdtempSync(join(home, "journal-"));
  const programs = { guardian: bundled(home, "guardian"), ledger: bundled(home, "ledger") };
  const pem = newPem();
  const signer = signerFromPem(pem);
  const ledgerPem = newPem();
  const ledgerSigner = signerFromPem(ledgerPem);
  writeFileSync(join(dir, "guardian.pem"), pem, { mode: 0o400 });
  writeFileSync(join(dir, "token"), "a-token");
  writeFileSync(join(home, "ledger.pem"), ledgerPem, { mode: 0o400 });
  const publicPem = createPublicKey(pem).export({ type: "spki", format: "pem" });
  writeFileSync(
    join(home, "guardians.json"),
    JSON.stringify([{ pod: "pod", token: "a-token", key: publicPem }]),
  );
  const port = await freePort();
  const seenFile = join(home, "seen");
  writeFileSync(seenFile, "");
  // What each program says is kept: when one does not come up, its words are the only cause to be had.
  const logOf = (name: "guardian" | "ledger"): string => join(home, `${name}.log`);
  const saidBy = (name: "guardian" | "ledger"): string => readFileSync(logOf(name), "utf8");
  for (const name of ["guardian", "ledger"] as const) writeFileSync(logOf(name), "");
  let guardian: ChildProcess | undefined;
  let ledger: ChildProcess | undefined;
  let over = false;
  let outage = false;
  let guardianKills = 0;
  let ledgerKills = 0;

  const begins = Promise.withResolvers<void>();
  let begun = 0;
  const fell = (name: "guardian" | "ledger", code: number | null): void => {
    if (begun === 0 && !over)
      begins.reject(new Error(`the ${name} ended with ${code} before it worked: ${saidBy(name).trim()}`));
  };
  const startLedger = (): void => {
    const log = openSync(logOf("ledger"), "a");
    ledger = spawn(
      process.execPath,
      [
        programs.ledger,
        "serve",
        "--store",
        options.store,
        "--key",
        join(home, "ledger.pem"),
        "--guardians",
        join(home, "guardians.json"),
        "--listen",
        `127.0.0.1:${port}`,
      ],
      { stdio: ["ignore", "ignore", log] },
    );
    closeSync(log);
    const mine = ledger;
    void ended(mine).then((code) => {
      fell("ledger", code);
      return over || outage || ledger !== mine ? undefined : pause(200).then(startLedger);
    });
  };
  const runGuardian = (mode: string): ChildProcess => {
    const [fd, log] = [openSync(seenFile, "a"), openSync(logOf("guardian"), "a")];
    const child = spawn(
      process.execPath,
      [programs.guardian, dir, `http://127.0.0.1:${port}`, options.durability, mode],
      { stdio: ["ignore", "ignore", log, fd] },
    );
    closeSync(fd);
    closeSync(log);
    return child;
  };
  const startGuardian = (): void => {
    guardian = runGuardian("work");
    const mine = guardian;
    void ended(mine).then((code) => {
      fell("guardian", code);
      if (!over && guardian === mine) startGuardian();
    });
  };
  const count = (letter: string): number =>
    readFileSync(seenFile, "utf8")
      .split("\n")
      .filter((line) => line.startsWith(letter)).length;

  const duringOutage = { acknowledged: 0, refused: 0 };
  try {
    startLedger();
    startGuardian();
    const late = setTimeout(
      () => begins.reject(new Error(`no call within a minute:\n${saidBy("guardian")}${saidBy("ledger")}`)),
      60_000,
    );
    const look = setInterval(() => {
      if (count("A") + count("X") > 0 && saidBy("ledger").includes("serving the ledger")) begins.resolve();
    }, 50);
    await begins.promise.finally(() => {
      clearTimeout(late);
      clearInterval(look);
    });
    begun = Date.now();
    while (Date.now() - begun < options.seconds * 1000) {
      // Nothing is shown by killing what has not begun to work.
      const before = count("A") + count("X");
      for (let i = 0; i < 100 && count("A") + count("X") < before + 8; i++) await pause(100);
      await pause(Math.random() * 1500);
      const die = Math.random();
      if (die < 0.45) {
        guardian?.kill("SIGKILL");
        guardianKills++;
      } else if (die < 0.9) {
        ledger?.kill("SIGKILL");
        ledgerKills++;
      } else await options.shake?.();
      if (
        options.outageSeconds !== undefined &&
        duringOutage.acknowledged + duringOutage.refused === 0 &&
        Date.now() - begun > options.seconds * 400
      ) {
        outage = true;
        ledger?.kill("SIGKILL");
        await pause(1000);
        const before = { acknowledged: count("A"), refused: count("X") };
        await pause(options.outageSeconds * 1000);
        duringOutage.acknowledged = count("A") - before.acknowledged;
        duringOutage.refused = count("X") - before.refused;
        outage = false;
        startLedger();
      }
    }
    over = true;
    guardian?.kill("SIGKILL");
    if (guardian !== undefined) await ended(guardian);
    if (ledger?.exitCode !== null || ledger.signalCode !== null) startLedger();
    // A last one that takes no more calls: it closes what was under way and drains.
    let code: number | null = null;
    for (let i = 0; i < 5 && code !== 0; i++) {
      await pause(1500);
      if (ledger?.exitCode !== null || ledger.signalCode !== null) startLedger();
      code = await ended(runGuardian("drain"));
    }
    const wrong =
      code === 0
        ? []
        : [
            `the last guardian ended with ${code}: ${saidBy("guardian").trim().split("\n").slice(-3).join("; ")}`,
          ];
    ledger?.kill("SIGTERM");
    if (ledger !== undefined) await ended(ledger);
    wrong.push(...(await judge(options.store, dir, seenFile, signer, ledgerSigner)));
    return {
      guardianKills,
      ledgerKills,
      acknowledged: count("A"),
      refused: count("X"),
      records: linesOf(dir).length,
      duringOutage,
      wrong,
    };
  } finally {
    over = true;
    guardian?.kill("SIGKILL");
    ledger?.kill("SIGKILL");
    rmSync(home, { recursive: true, force: true });
  }
}

type Keys = ReturnType<typeof signerFromPem>;

async function judge(
  place: string,
  dir: string,
  seenFile: string,
  guardian: Keys,
  ledger: Keys,
): Promise<string[]> {
  const wrong: string[] = [];
  const store = await openStore(place);
  try {
    const all: string[] = [];
    for (;;) {
      const more = await store.lines("pod", all.length, 1000);
      if (more.length === 0) break;
      all.push(...more);
    }
    const local = linesOf(dir);
    const at = all.findIndex((line, n) => line !== local[n]);
    if (at >= 0) wrong.push(`record ${at} of the ledger is not the journal's`);
    if (all.length !== local.length)
      wrong.push(`the ledger has ${all.length} records, the journal ${local.length}`);
    const hashes = new Map<string, number>();
    const intents = new Set<string>();
    for (const line of all) {
      const entry = readEntry(Buffer.from(line, "utf8"));
      if (entry.kind !== "node") continue;
      hashes.set(entry.sealed.hash, (hashes.get(entry.sealed.hash) ?? 0) + 1);
      if (entry.sealed.node.kind === "INTENT") intents.add(parseReceipt(entry.sealed.node.body).args_hash);
    }
    const done = new Set<string>();
    for (const line of readFileSync(seenFile, "utf8").split("\n")) {
      const what = line.slice(2);
      if (line.startsWith("A sha256:") && hashes.get(what) !== 1)
        wrong.push(`acknowledged node ${what} is in the ledger ${hashes.get(what) ?? 0} times`);
      if (!line.startsWith("D ")) continue;
      if (done.has(what)) wrong.push(`done twice: ${what}`);
      done.add(what);
      if (!intents.has(what)) wrong.push(`done without an intent in the ledger: ${what}`);
    }
    const roots = trustRoots(
      (
        [
          ["guardian", guardian],
          ["ledger", ledger],
        ] as const
      ).map(([role, key]) => ({ role, keyId: key.keyId, verifier: verifierFromRaw(key.publicKey) })),
    );
    const audit = await auditLedger(store, roots);
    if (!audit.ok) wrong.push(`the ledger does not verify: ${audit.finding.reason}`);
    return wrong;
  } finally {
    await store.close();
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
