// `atoll guard` as a process, under a policy that a test writes: started, killed, started again, exported, verified.

import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { hashJson, sha256, signerFromPem } from "../../kernel/crypto/crypto.ts";
import { bundleManifest, signBundle } from "../../kernel/policy/bundle.ts";

const ATOLL = fileURLToPath(new URL("../../cli/atoll.ts", import.meta.url));

export interface Place {
  readonly folder: string;
  readonly journal: string;
  readonly approverKey: string;
  readonly approverId: string;
  /** Modules of WASM tools, by hash. */
  module(bytes: Uint8Array): string;
  credential(name: string, value: string): void;
  start(options: StartOptions): Promise<Guardian>;
  /** The journal exported as a pack and verified with the keys that a reader would have; the verifier's words. */
  verified(): { readonly code: number; readonly text: string; readonly pack: string };
  /** Writes the trust roots of somebody who verifies what this guardian signed. */
  auditor(file: string): void;
  remove(): void;
}
export interface StartOptions {
  readonly policy: JsonObject;
  readonly ceiling?: JsonObject;
  readonly expiresInMs?: number;
  /** Pinned to one core, as benches are. */
  readonly cpu?: number;
  /** A command that starts it: in another network namespace, as another user. */
  readonly under?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Further options of `atoll guard`. */
  readonly more?: readonly string[];
  readonly cwd?: string;
  /** A built program in place of the source. */
  readonly program?: string;
  /** Options of Node's. */
  readonly node?: readonly string[];
}
export interface Guardian {
  readonly base: string;
  readonly port: number;
  readonly proxyPort: number;
  readonly pid: number;
  readonly child: ChildProcess;
  /** Milliseconds from the start of the process to its readiness. */
  readonly startedInMs: number;
  /** What it wrote besides its decisions. */
  readonly words: () => string;
  /** SIGTERM; the exit code. */
  stop(): Promise<number | null>;
  kill(): Promise<void>;
}

export function atoll(...args: string[]): { readonly code: number; readonly text: string } {
  const run = spawnSync(process.execPath, [ATOLL, ...args], { encoding: "utf8", maxBuffer: 64 << 20 });
  return { code: run.status ?? -1, text: run.stdout + run.stderr };
}

export function place(): Place {
  const folder = mkdtempSync(join(tmpdir(), "atoll-guard-"));
  const at = (name: string): string => join(folder, name);
  const policyKey = generateKeyPairSync("ed25519");
  const ceilingKey = generateKeyPairSync("ed25519");
  const approver = generateKeyPairSync("ed25519");
  const pkcs8 = (k: typeof policyKey): string => k.privateKey.export({ type: "pkcs8", format: "pem" });
  const spki = (k: typeof policyKey): string => k.publicKey.export({ type: "spki", format: "pem" });
  for (const name of ["credentials", "modules", "journal"]) mkdirSync(at(name), { mode: 0o700 });
  writeFileSync(at("approver.key"), pkcs8(approver), { mode: 0o600 });
  writeFileSync(
    at("roots.pem"),
    `role: policy\n${spki(policyKey)}\nrole: ceiling\n${spki(ceilingKey)}\nrole: approver\n${spki(approver)}`,
  );
  let version = 0;
  const bundle = (name: string, content: JsonObject, layer: "P0" | "P1", expiresInMs?: number): string => {
    const signed = signBundle(
      {
        type: "atoll.dev/bundle/v1",
        bundleId: name,
        version: ++version,
        layer,
        contentHash: hashJson(content),
        conformanceLevel: "L1",
        notBefore: "",
        expiresAt: expiresInMs === undefined ? "" : timestampOf(Date.now() + expiresInMs),
      },
      [signerFromPem(pkcs8(layer === "P0" ? ceilingKey : policyKey))],
    );
    writeFileSync(
      at(`${name}.json`),
      JSON.stringify(bundleManifest({ signed, content, source: undefined }, `${name}-v${version}`)),
    );
    return at(`${name}.json`);
  };
  const auditor = (file: string): void => {
    const text = (path: string): string => readFileSync(path, "utf8");
    writeFileSync(
      file,
      `${text(at("roots.pem"))}\nrole: guardian\n${text(join(at("journal"), "guardian.pub"))}`,
    );
  };
  return {
    folder,
    auditor,
    journal: at("journal"),
    approverKey: at("approver.key"),
    approverId: signerFromPem(pkcs8(approver)).keyId,
    module(bytes) {
      const hash = sha256(bytes);
      writeFileSync(join(at("modules"), hash.slice("sha256:".length)), bytes);
      return hash;
    },
    credential: (name, value) => writeFileSync(join(at("credentials"), name), value),
    start: (o) => {
      const args = ["guard", "--policy", bundle("policy", o.policy, "P1", o.expiresInMs)];
      if (o.ceiling !== undefined) args.push("--ceiling", bundle("ceiling", o.ceiling, "P0"));
      args.push("--trust", at("roots.pem"), "--journal", at("journal"), "--quiet");
      // An island has ports of its own.
      if (o.more?.includes("--island") !== true) args.push("--port", "0");
      args.push("--credentials", at("credentials"), "--modules", at("modules"));
      return started([...args, ...(o.more ?? [])], o);
    },
    verified() {
      const pack = at("pack.tar");
      const exported = atoll("export", "--journal", at("journal"), "-o", pack);
      if (exported.code !== 0) return { ...exported, pack };
      const roots = at("auditor.pem");
      auditor(roots);
      return { ...atoll("verify", pack, "--trust", roots), pack };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function started(args: readonly string[], options: StartOptions): Promise<Guardian> {
  const begun = performance.now();
  const pinned = options.cpu === undefined ? [] : ["taskset", "-c", String(options.cpu)];
  const [program = "", ...rest] = [
    ...pinned,
    ...(options.under ?? []),
    process.execPath,
    ...(options.node ?? []),
    options.program ?? ATOLL,
    ...args,
  ];
  const child = spawn(program, rest, {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, ...options.env },
    cwd: options.cwd ?? process.cwd(),
  });
  const { stderr } = child;
  if (stderr === null) throw new Error("no standard error");
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  return new Promise((resolve, reject) => {
    let text = "";
    let told = false;
    stderr.on("data", (part: Buffer) => {
      text = (text + part.toString("utf8")).slice(-20_000);
      const port = /serving http:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      const proxy = /forward proxy http:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      if (told || port === undefined || proxy === undefined) return;
      told = true;
      resolve({
        base: `http://127.0.0.1:${port}`,
        port: Number(port),
        proxyPort: Number(proxy),
        pid: child.pid ?? 0,
        child,
        startedInMs: performance.now() - begun,
        words: () => text,
        async stop() {
          child.kill("SIGTERM");
          return await ended;
        },
        async kill() {
          child.kill("SIGKILL");
          await ended;
        },
      });
    });
    void ended.then((code) => reject(new Error(`the guardian ended with ${code}: ${text}`)));
  });
}
