// The guardian as a running process: key, journal, policy, surfaces, health; put together here and nowhere else.

import type { Server } from "node:http";
import type { Server as Listening } from "node:net";
import { readFile, readdir } from "node:fs/promises";
import type { FastifyRequest } from "fastify";
import { createBudget } from "../../kernel/budget/budget.ts";
import { ContractError, epochOf, isId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { verifyBundle } from "../../kernel/policy/bundle.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { artifactStore, createSandbox, directory, ociLayout } from "../../kernel/runtime/sandbox/sandbox.ts";
import type { Sandbox } from "../../kernel/runtime/sandbox/sandbox.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import type { TrustRoots } from "../../kernel/trust/trust.ts";
import type { Ceremonies } from "../../kernel/escalation/ceremony/ceremony.ts";
import { approvalObject, approvalsOf, openCeremonies } from "../approvals/approvals.ts";
import { DEFAULTS, checkConfig, principalOf } from "../config/config.ts";
import type { BundleInput, GuardianConfig, Listen } from "../config/config.ts";
import { createUpstreams } from "../dispatch/dispatch.ts";
import { createFederation } from "../federation/federation.ts";
import { Governor, reopen } from "../govern/govern.ts";
import type { Active } from "../govern/govern.ts";
import { Outcomes } from "../govern/outcomes.ts";
import { createCallers } from "../identity/identity.ts";
import type { OpenJournal } from "../journal/journal.ts";
import { createRotation } from "../keys/keys.ts";
import type { OwnKeys, Rotation } from "../keys/keys.ts";
import { PROXY_WAITS, createProxy, dialAddress } from "../proxy/proxy.ts";
import type { Dial } from "../proxy/proxy.ts";
import { makeResolver } from "../resolve/resolve.ts";
import type { Resolver } from "../resolve/resolve.ts";
import { createShipper, shippedJournal } from "../ship/ship.ts";
import { buildApp, serverOf } from "../surfaces/surfaces.ts";
import type { Surface } from "../surfaces/surfaces.ts";
import { createTelemetry } from "../telemetry/telemetry.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { recordActivation } from "./activation.ts";
import { watchClock } from "./clock.ts";
import { openFolder } from "./folder.ts";
import { Freezer } from "./freeze.ts";
import { ReceiptIndex, recentReceipts } from "./latest.ts";
import { createStanding } from "./standing.ts";
import { wasmRunner } from "./wasm.ts";

export { giveBackMemory } from "./memory.ts";

export interface Running {
  readonly governor: Governor;
  readonly journal: OpenJournal;
  readonly freezer: Freezer;
  readonly ceremonies: Ceremonies;
  readonly telemetry: Telemetry;
  readonly roots: TrustRoots;
  readonly active: Active;
  readonly surface: Surface;
  /** Where the API listens, in the order of the configuration. */
  readonly api: readonly { readonly host: string; readonly port: number }[];
  /** 0 when the configuration asks for no forward proxy. */
  readonly proxyPort: number;
  /** The key that signs now. */
  readonly signer: Signer;
  readonly keys: OwnKeys;
  readonly rotation: Rotation;
  /** Signs nothing from now on, after a restart neither. */
  revoke(reason: string): Promise<void>;
  /** Verifies, records and takes up another policy, between two calls; throws and changes nothing when it is not good. */
  swap(next: Pick<GuardianConfig, "bundle" | "ceiling">): Promise<void>;
  ready(): { readonly ok: boolean; readonly why: string };
  /** Serves, besides its own, sockets that somebody else opened in another network namespace. */
  adopt(sockets: { readonly api: readonly Listening[]; readonly proxy: readonly Listening[] }): void;
  /** Takes no more calls, waits for those under way, writes a checkpoint, closes. */
  drain(graceMs: number): Promise<void>;
}

/** The verified and compiled policy of a configuration; throws a sentence about what is wrong with it. */
export function activate(
  config: Pick<GuardianConfig, "bundle" | "ceiling">,
  roots: TrustRoots,
  nowMs: number,
): Active {
  const now = timestampOf(nowMs);
  const check = (input: BundleInput, what: string) => {
    const verdict = verifyBundle(input.manifest, roots, {
      now,
      requireSignature: true,
      ...(input.content === undefined ? {} : { content: input.content }),
    });
    if (!verdict.ok) throw new ContractError(what, `${verdict.code}: ${verdict.reason}`);
    return verdict;
  };
  const p1 = check(config.bundle, "bundle");
  if (p1.signed.layer !== "P1") throw new ContractError("bundle", "a P1 bundle is expected");
  const p0 = config.ceiling === undefined ? undefined : check(config.ceiling, "ceiling");
  if (p0 !== undefined && p0.signed.layer !== "P0")
    throw new ContractError("ceiling", "a P0 bundle is expected");
  return {
    policy: compilePolicy(p1.content, { keys: roots, ...(p0 === undefined ? {} : { ceiling: p0.content }) }),
    version: `${p1.signed.bundleId}@${p1.signed.version}`,
    expiresAt: p1.signed.expiresAt,
    document: p1.content,
    ...(p0 === undefined ? {} : { ceiling: p0.content }),
  };
}

/** The network as the guardian sees it: its own, a gateway, or what a test brings. */
export interface Network {
  readonly resolver?: Resolver;
  readonly dial?: Dial;
  /** How the pools of upstreams connect; as they do by themselves where nothing is said. */
  readonly connect?: NonNullable<Parameters<typeof createUpstreams>[0]["connect"]>;
}

export async function startGuardian(
  config: GuardianConfig,
  log: (line: string) => void,
  network: Network = {},
): Promise<Running> {
  checkConfig(config);
  const roots = parseTrustRoots(config.trust);
  let active = activate(config, roots, Date.now());
  const telemetry = createTelemetry(log);
  telemetry.policy(active.policy.hash, active.version);
  const me = principalOf(config.principal);

  const standing = createStanding((tool) => active.policy.tools.get(tool)?.trusted === true);
  const { keys, journal } = await openFolder(
    config.folder,
    {
      ...(config.podUid === undefined ? {} : { podUid: config.podUid }),
      standing,
      warn: (message) => log(JSON.stringify({ level: "error", event: "journal", message })),
      landed: (l) => {
        telemetry.journalSync(l.milliseconds / 1000, l.records);
        for (const sealed of l.nodes) index.add(sealed);
        shipper?.poke();
      },
    },
    roots,
  );
  const shipper =
    config.ledger === undefined
      ? undefined
      : createShipper({
          journal,
          link: config.ledger.link,
          log,
          lag: (records) => telemetry.gauge("ledgerLag", records),
        });
  const shipped =
    shipper === undefined || config.ledger === undefined
      ? undefined
      : shippedJournal(journal, shipper, config.ledger.durability);
  const ceremonies = openCeremonies(journal, telemetry);
  const budget = createBudget({ timezone: () => active.policy.timezone });
  const before = standing.restored(journal.ownSession, Date.now());
  budget.resume(before.spent);
  for (const sealed of before.ceremonies) ceremonies.restore(sealed, active.policy);
  const repeats = standing.repeats();
  const index = new ReceiptIndex();
  const recent = recentReceipts(journal);
  for (const r of recent) index.add(r);
  if (before.unknown.length > 0) {
    const { nodes, durable } = journal.append(before.unknown, []);
    for (const sealed of nodes) repeats.restore(sealed);
    await durable;
  }
  await recordActivation(journal, journal.ownSession, active, Date.now());

  const freezer = new Freezer({
    journal,
    session: journal.ownSession,
    roots,
    freezes: before.freezes,
    telemetry,
  });
  const approvals = approvalsOf(ceremonies, (a) => {
    log(JSON.stringify({ event: "approval_needed", id: a.id, tool: a.tool, expires_at: a.expiresAt }));
    config.pod?.opened(a.challenge);
  });
  const governor = new Governor({
    journal: shipped ?? journal,
    telemetry,
    active: () => active,
    pod: {
      uid: journal.podUid,
      namespace: me.namespace,
      labels: config.labels,
      namespaceLabels: config.namespaceLabels,
    },
    heartbeatAgeMs: config.pod?.heartbeatAgeMs ?? (() => "unbound"),
    // A pod whose island is open, or of which nobody knows, stands still like a frozen one; it goes on when it is proved again.
    frozen: () => {
      const broken = freezer.state.state === "frozen" ? undefined : config.pod?.broken();
      return broken === undefined ? freezer.state : { state: "frozen", ...broken };
    },
    guardianSession: journal.ownSession,
    restored: before.sessions,
    spending: budget,
    repeats,
    approvals: () => approvals,
  });
  // Nobody can say which of these answers arrived before the guardian went down.
  for (const { node } of recent) {
    const { status, tool, args_hash: args } = parseReceipt(node.body);
    if (status === "PERMITTED" && tool.startsWith("model:"))
      governor.lost.add(node.session_id, tool, args, epochOf(node.issued_at));
  }
  freezer.onFreeze = () => governor.abort();

  const callers = createCallers({ policy: () => active.policy, pod: me, now: Date.now });
  const outcomes = new Outcomes();
  for (const open of before.awaited)
    reopen(open, { journal, outcomes, spending: budget, policy: () => active.policy, now: Date.now });

  const upstreams = createUpstreams({
    credentials: config.credentials,
    ...(network.connect === undefined ? {} : { connect: network.connect }),
  });
  const sandbox = lazySandbox(config.modules);
  const surface: Surface = {
    governor,
    outcomes,
    upstreams,
    telemetry,
    federation: createFederation(upstreams),
    modelTimeoutMs: config.modelTimeoutMs,
    callerOf: (request) => callers.api(request.headers),
    traceHeaders: traceOf,
    runWasm: wasmRunner(() => sandbox.get()),
    receipt: (id, session) => index.get(id, session),
    approval: (id, session) => {
      const found = isId("apr", id) ? ceremonies.get(id) : undefined;
      return found?.challenge["session_id"] === session ? approvalObject(found) : undefined;
    },
  };
  const clockTimer = setInterval(
    watchClock({
      journal,
      session: journal.ownSession,
      wall: Date.now,
      monotonic: () => performance.now(),
    }),
    1000,
  );
  clockTimer.unref();
  const rotation = createRotation({
    keys,
    journal,
    publish: config.pod?.publish,
    nowMs: Date.now,
    log,
    ...(config.keys ?? DEFAULTS.keys),
  });
  const rotationTimer = setInterval(() => void rotation.look(), 15_000);
  rotationTimer.unref();
  // One that a stop interrupted: the registrar may know the next key alone already.
  setTimeout(() => void rotation.look(), 1000).unref();
  const selfTest = await proveDenial(governor, me);
  // The record of the test itself is local: the ledger may be reached later than a call can be judged.
  shipped?.engage();
  const app = buildApp(surface);
  await app.ready();
  const servers: Server[] = [];
  const open = async (at: Listen, server: Server): Promise<number> => {
    servers.push(server);
    return await listenAt(server, at);
  };
  const api: { host: string; port: number }[] = [];
  for (const at of config.api) {
    const port = await open(at, serverOf(app));
    if (port !== 0) api.push({ host: at.host, port });
  }
  let resolver = network.resolver;
  const proxy = createProxy({
    governor,
    callerOf: (request) => callers.proxy(request.headers),
    resolver: () => (resolver ??= makeResolver({ tcp: config.dnsOverTcp })),
    dial: network.dial ?? dialAddress,
    ...PROXY_WAITS,
  });
  let proxyPort = 0;
  for (const at of config.proxy) {
    const port = await open(at, proxy.server());
    if (proxyPort === 0) proxyPort = port;
  }

  const adopt = (server: Server, sockets: readonly Listening[]): void => {
    servers.push(server);
    // From here on it watches the time that its clients take, as one that listens by itself.
    server.emit("listening");
    for (const socket of sockets) {
      // It accepts by itself, so that it has to know how many are enough.
      socket.maxConnections = server.maxConnections;
      socket.on("connection", (client) => server.emit("connection", client));
    }
  };

  return {
    governor,
    journal,
    freezer,
    ceremonies,
    telemetry,
    roots,
    get active() {
      return active;
    },
    surface,
    api,
    proxyPort,
    get signer() {
      return journal.signer;
    },
    keys,
    rotation,
    async revoke(reason) {
      // In this turn nothing is signed any more; what waits for the disk was signed before.
      journal.withdraw(`the guardian's key was revoked: ${reason}`);
      governor.abort();
      log(
        JSON.stringify({ level: "error", event: "key_revoked", key: journal.signer.keyId, message: reason }),
      );
      await keys.revoke(reason);
    },
    async swap(next) {
      const candidate = activate(next, roots, Date.now());
      // On disk first: no call is judged by a policy of which the log does not tell.
      await recordActivation(journal, journal.ownSession, candidate, Date.now());
      active = candidate;
      telemetry.policy(active.policy.hash, active.version);
    },
    adopt(sockets) {
      adopt(serverOf(app), sockets.api);
      adopt(proxy.server(), sockets.proxy);
    },
    ready() {
      if (!selfTest) return { ok: false, why: "the self-test did not deny an undeclared tool" };
      if (!governor.healthy) return { ok: false, why: "an outcome could not be recorded" };
      if (shipper !== undefined && shipper.refused !== "") return { ok: false, why: shipper.refused };
      const state = journal.state();
      return state.state === "open"
        ? { ok: true, why: "" }
        : { ok: false, why: state.state === "refused" ? state.reason : `the journal is ${state.state}` };
    },
    async drain(graceMs) {
      governor.stop();
      clearInterval(clockTimer);
      clearInterval(rotationTimer);
      const until = Date.now() + graceMs;
      while (governor.underWay > 0 && Date.now() < until) await new Promise((r) => setTimeout(r, 20));
      // What a tunnel carries has no end of its own; its record tells how far it came.
      proxy.end();
      if (governor.underWay > 0) await new Promise((r) => setTimeout(r, 50));
      // What the agent carries out itself goes on, and is waited for again after the restart.
      if (governor.underWay > 0) governor.abort();
      await Promise.all(
        servers.map(
          (s) =>
            new Promise<void>((resolve) => {
              s.close(() => resolve());
              s.closeAllConnections();
            }),
        ),
      );
      await app.close();
      resolver?.close();
      await upstreams.close();
      await sandbox.close();
      if (shipper !== undefined) {
        await journal.checkpoint().catch(() => undefined);
        const left = Math.max(1000, until - Date.now());
        if (!(await shipper.drain(left)))
          log(
            JSON.stringify({
              level: "error",
              event: "ledger_undrained",
              records: journal.records - shipper.acknowledged,
            }),
          );
        shipper.stop();
      }
      await journal.close();
    },
  };
}

/** The live policy must deny a tool that nobody declared, through the whole way of a call. */
async function proveDenial(governor: Governor, me: ReturnType<typeof principalOf>): Promise<boolean> {
  const told = await governor.selfTest(me);
  return told.kind === "refused" && told.refusal.code !== "JOURNAL_UNAVAILABLE";
}

/** The port that was opened; 0 on a machine without IPv6, which has no ::1 and is served by the IPv4 address alone. */
async function listenAt(server: Server, at: Listen): Promise<number> {
  return await listen(server, at).catch((error: unknown) => {
    if (
      at.host === "::1" &&
      error instanceof Error &&
      "code" in error &&
      (error.code === "EADDRNOTAVAIL" || error.code === "EAFNOSUPPORT")
    )
      return 0;
    throw error;
  });
}

function listen(server: Server, at: Listen): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: at.host, port: at.port, ipv6Only: at.host.includes(":") }, () => {
      server.off("error", reject);
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : at.port);
    });
  });
}

function traceOf(request: FastifyRequest): Record<string, string> {
  const out: Record<string, string> = {};
  for (const name of ["traceparent", "tracestate"]) {
    const v = request.headers[name];
    if (typeof v === "string" && /^[\x20-\x7e]{1,512}$/.test(v)) out[name] = v;
  }
  return out;
}

function lazySandbox(modules: string): { get(): Sandbox; close(): Promise<void> } {
  let sandbox: Sandbox | undefined;
  const files = {
    read: (path: string) => readFile(path).catch(() => undefined),
    list: (folder: string) => readdir(folder).catch(() => []),
  };
  const store = modules === "" ? undefined : artifactStore(files, directory(modules), ociLayout(modules));
  return {
    get: () => (sandbox ??= createSandbox(store === undefined ? {} : { fetch: (hash) => store.fetch(hash) })),
    close: async () => await sandbox?.close(),
  };
}
