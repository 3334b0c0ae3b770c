// `atoll guard`: the guardian on a laptop. It starts, then COMMAND starts with the environment of a governed agent.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { DEFAULTS } from "../sidecar/config/config.ts";
import type { GuardianConfig, Listen } from "../sidecar/config/config.ts";
import { startAdmin } from "../sidecar/admin/admin.ts";
import { giveBackMemory, startGuardian } from "../sidecar/guard/guard.ts";
import type { Running } from "../sidecar/guard/guard.ts";
import type { IslandOptions } from "../sidecar/island/island.ts";
import { AGENT_PORTS } from "../sidecar/lock/lock.ts";
import { httpsLink } from "../sidecar/ship/ship.ts";
import { readBundleFile } from "./bundle/file.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";

const USAGE = `usage: atoll guard --policy bundle.yaml --trust roots.pem [-- COMMAND…]
  --ceiling FILE        the P0 bundle above the policy
  --journal DIR         journal, key and admin socket (.atoll); made when it is not there
  --credentials DIR     a file for each credential that the policy names
  --modules DIR         WASM modules, found by their hash
  --principal ID        serviceAccount:<namespace>/<name> (${DEFAULTS.principal})
  --port N              API on N, forward proxy on N + 1, health on N + 10 (15080); 0 = any free ports
  --ledger URL          ships the journal to a ledger (\`atoll ledger serve\`)
  --ledger-token FILE   this guardian's token there
  --ledger-ca FILE      the authority of the ledger's certificate
  --durability D        local (the default): a call waits for this disk; ledger: for the ledger too
  --rotate-days N       the guardian's key is followed by another after so many days (30; 0 = never)
  --rotate-nodes N      or after so many nodes (10000000; 0 = never)
  --island              COMMAND runs shut in (Linux, root): it reaches this guardian and nothing else, proved before it starts
  --uid N               COMMAND's user in the island (64530)
  --quiet               no log line for each decision
Without COMMAND it serves until it is told to stop. Exit code: COMMAND's.`;

const DAY = 24 * 3_600_000;

export async function guard(argv: readonly string[], io: Io): Promise<number> {
  const split = argv.indexOf("--");
  const own = split < 0 ? argv : argv.slice(0, split);
  const command = split < 0 ? [] : argv.slice(split + 1);
  const { values } = parseArgs({
    args: [...own],
    options: {
      policy: { type: "string" },
      trust: { type: "string" },
      ceiling: { type: "string" },
      journal: { type: "string" },
      credentials: { type: "string" },
      modules: { type: "string" },
      principal: { type: "string" },
      port: { type: "string" },
      ledger: { type: "string" },
      "ledger-token": { type: "string" },
      "ledger-ca": { type: "string" },
      durability: { type: "string", default: "local" },
      "rotate-days": { type: "string", default: String(DEFAULTS.keys.maxAgeMs / DAY) },
      "rotate-nodes": { type: "string", default: String(DEFAULTS.keys.maxNodes) },
      island: { type: "boolean" },
      uid: { type: "string" },
      quiet: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (values.policy === undefined) throw new UsageError("--policy is missing", USAGE);
  if (values.trust === undefined) throw new UsageError("--trust is missing", USAGE);
  const shut = values.island === true;
  if (shut && command.length === 0) throw new UsageError("--island needs a COMMAND", USAGE);
  if (shut && values.port !== undefined)
    throw new UsageError("--island has ports of its own, so --port does not go with it", USAGE);
  if (values.uid !== undefined && (!shut || !/^[0-9]{1,10}$/.test(values.uid)))
    throw new UsageError("--uid is a number and goes with --island", USAGE);
  if (values.port !== undefined && !/^[0-9]{1,5}$/.test(values.port))
    throw new UsageError("--port is a number", USAGE);
  // The command of an island is alone with its own two ports: what the guardian opens outside is nobody's.
  const port = shut ? 0 : Number(values.port ?? "15080");
  const at = (offset: number): Listen[] => {
    const p = port === 0 ? 0 : port + offset;
    return port === 0
      ? [{ host: "127.0.0.1", port: p }]
      : [
          { host: "127.0.0.1", port: p },
          { host: "::1", port: p },
        ];
  };
  const { durability } = values;
  if (durability !== "local" && durability !== "ledger")
    throw new UsageError("--durability is local or ledger", USAGE);
  if (values.ledger === undefined ? durability === "ledger" : values["ledger-token"] === undefined)
    throw new UsageError("--ledger and --ledger-token go together, and with --durability ledger", USAGE);
  const [days, nodes] = [Number(values["rotate-days"]), Number(values["rotate-nodes"])];
  if (!(days >= 0) || !(nodes >= 0) || !Number.isSafeInteger(nodes))
    throw new UsageError("--rotate-days and --rotate-nodes are numbers", USAGE);
  const bundle = readBundleFile(values.policy);
  const ceiling = values.ceiling === undefined ? undefined : readBundleFile(values.ceiling);
  const config: GuardianConfig = {
    bundle: { manifest: bundle.manifest, content: bundle.content },
    ...(ceiling === undefined ? {} : { ceiling: { manifest: ceiling.manifest, content: ceiling.content } }),
    trust: readFileSync(values.trust, "utf8"),
    folder: values.journal ?? ".atoll",
    credentials: values.credentials ?? "",
    modules: values.modules ?? "",
    api: at(0),
    proxy: at(1),
    health: [{ host: "127.0.0.1", port: port === 0 ? 0 : port + 10 }],
    principal: values.principal ?? DEFAULTS.principal,
    labels: {},
    namespaceLabels: {},
    modelTimeoutMs: DEFAULTS.modelTimeoutMs,
    dnsOverTcp: false,
    keys: { maxAgeMs: days * DAY, maxNodes: nodes },
    ...(values.ledger === undefined
      ? {}
      : {
          ledger: {
            link: httpsLink({
              url: values.ledger,
              tokenFile: values["ledger-token"] ?? "",
              caFile: values["ledger-ca"] ?? "",
            }),
            durability,
          },
        }),
  };
  const running = await startGuardian(config, (line) => {
    if (values.quiet !== true) io.stderr.write(`${line}\n`);
  });
  const admin = await startAdmin(running, config.folder);
  const ready = running.ready();
  if (!ready.ok) {
    await running.drain(0);
    throw new Error(`the guardian is not ready: ${ready.why}`);
  }
  const stopped = command.length > 0 ? undefined : Promise.withResolvers<void>();
  // Before it says that it serves: whoever reads this may stop it at once.
  if (stopped !== undefined)
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stopped.resolve());
  const [apiPort, proxyPort] = shut ? AGENT_PORTS : [running.api[0]?.port ?? 0, running.proxyPort];
  const base = `http://127.0.0.1:${apiPort}`;
  io.stderr.write(
    `atoll guard: ${running.active.version} ${running.active.policy.hash}\natoll guard: key ${running.signer.keyId}, journal ${config.folder}\natoll guard: serving ${base}\natoll guard: forward proxy http://127.0.0.1:${proxyPort}\n`,
  );
  const keepMemory = giveBackMemory(() => running.governor.underWay);
  const stop = async (): Promise<void> => {
    keepMemory();
    await admin.close();
    await running.drain(10_000);
  };
  if (stopped !== undefined) {
    await stopped.promise;
    await stop();
    return 0;
  }
  const env = agentEnvironment(io.env, base, proxyPort);
  try {
    if (!shut) return await run(command, env);
    const uid = values.uid === undefined ? {} : { uid: Number(values.uid) };
    const own = [config.folder, config.credentials, values["ledger-token"] ?? ""];
    const hide = own.filter((path) => path !== "");
    return await runShut(running, { command, env, hide, ...uid }, io);
  } finally {
    await stop();
  }
}

async function runShut(
  running: Running,
  island: Pick<IslandOptions, "command" | "env" | "hide" | "uid">,
  io: Io,
): Promise<number> {
  const { runIsland } = await import("../sidecar/island/island.ts");
  const ending = new AbortController();
  const end = (): void => ending.abort();
  process.on("SIGTERM", end);
  process.on("SIGINT", end);
  try {
    const exit = await runIsland({
      ...island,
      onSockets: (sockets) => running.adopt(sockets),
      onProof: (proof) =>
        void io.stderr.write(
          proof.proved ? "atoll guard: the island is proved\n" : `atoll guard: ${proof.reason}\n`,
        ),
      signal: ending.signal,
    });
    if (exit.breach !== undefined)
      io.stderr.write(`atoll guard: the command was killed, because its island is open: ${exit.breach}\n`);
    return exit.code;
  } finally {
    process.off("SIGTERM", end);
    process.off("SIGINT", end);
  }
}

/** What an unmodified SDK finds. The agent's own credentials do not reach it from us; the placeholder opens nothing. */
export function agentEnvironment(env: Io["env"], base: string, proxyPort: number): Record<string, string> {
  const proxy =
    proxyPort === 0
      ? {}
      : { HTTP_PROXY: `http://127.0.0.1:${proxyPort}`, HTTPS_PROXY: `http://127.0.0.1:${proxyPort}` };
  const own = Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
  return {
    ...Object.fromEntries(own),
    OPENAI_BASE_URL: `${base}/v1`,
    OPENAI_API_KEY: "held-by-the-guardian",
    ANTHROPIC_BASE_URL: base,
    ANTHROPIC_API_KEY: "held-by-the-guardian",
    ...proxy,
    NO_PROXY: "127.0.0.1,localhost,::1",
    ATOLL_MCP_URL: `${base}/mcp`,
    ATOLL_SESSION_URL: `${base}/atoll/v1/session`,
  };
}

function run(command: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [program = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: "inherit", env });
    const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
    process.on("SIGTERM", pass);
    process.on("SIGINT", pass);
    child.once("error", (error) =>
      reject(new Error(`\`${program}\` could not be started: ${error.message}`)),
    );
    child.once("exit", (code, signal) => {
      process.off("SIGTERM", pass);
      process.off("SIGINT", pass);
      resolve(code ?? (signal === null ? 1 : 128 + 15));
    });
  });
}
