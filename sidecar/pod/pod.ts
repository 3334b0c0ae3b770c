// The guardian in a governed pod: what `atoll guard` is on a laptop, with the gate's proof, the control stream and the
// pod's health beside it. Put together here; everything that decides lies elsewhere.

import { dirname, join } from "node:path";
import { createKeeper, keptBundles } from "./kept.ts";
import { ContractError, LIMITS, isId, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { startAdmin } from "../admin/admin.ts";
import { DEFAULTS } from "../config/config.ts";
import type { GuardianConfig } from "../config/config.ts";
import { activate, startGuardian } from "../guard/guard.ts";
import type { Running } from "../guard/guard.ts";
import { startHealth } from "../health/health.ts";
import { openStream } from "../stream/stream.ts";
import {
  namespaceLabels,
  podSettings,
  readAnnotation,
  readPodLabels,
  readPolicyFile,
} from "./environment.ts";
import type { PodSettings } from "./environment.ts";
import { openStanding } from "./standing.ts";

const log = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
const say = (event: string, more: JsonObject = {}): void =>
  log(JSON.stringify({ time: new Date().toISOString(), event, ...more }));
const textOf = (value: JsonValue | undefined): string => (typeof value === "string" ? value : "");
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const HEALTH_PORT = 15090;
const DRAIN_MS = 20_000;
/** Where the shape mounts the ConfigMap `atoll-modules` of the pod's namespace; empty where there is none. */
const MODULES_DIR = "/etc/atoll/modules";

/** The newest good pair of bundles that this pod knows: its ConfigMap's, or one kept from the stream before a restart. */
function firstBundles(settings: PodSettings): Pick<GuardianConfig, "bundle" | "ceiling"> {
  const roots = parseTrustRoots(settings.trustRoots);
  const mounted = {
    bundle: readPolicyFile(settings.policyDir, "bundle"),
    ceiling: readPolicyFile(settings.policyDir, "ceiling"),
  };
  const problems: string[] = [];
  const good = [mounted, ...keptBundles(settings.journalDir)].flatMap(({ bundle, ceiling }) => {
    if (bundle === undefined) return [];
    if (settings.ceilingId !== "" && ceiling === undefined) {
      problems.push("the ceiling is missing");
      return [];
    }
    if (bundle["bundleId"] !== settings.bundleId) {
      problems.push(`bundle \`${textOf(bundle["bundleId"])}\`, expected \`${settings.bundleId}\``);
      return [];
    }
    const pair = {
      bundle: { manifest: bundle },
      ...(ceiling === undefined ? {} : { ceiling: { manifest: ceiling } }),
    };
    try {
      activate(pair, roots, Date.now());
    } catch (error) {
      problems.push(messageOf(error));
      return [];
    }
    return [{ pair, version: Number(bundle["version"]) }];
  });
  const best = good.toSorted((a, b) => b.version - a.version)[0];
  if (best === undefined)
    throw new ContractError("bundle", problems.join("; ") || `nothing in ${settings.policyDir}`);
  return best.pair;
}

export async function runPod(env: Readonly<Record<string, string | undefined>>): Promise<void> {
  try {
    await serve(podSettings(env));
  } catch (error) {
    say("fatal", { message: messageOf(error) });
    process.exitCode = 1;
    // Whatever is half open ends with the process; kubelet starts it again, slower each time.
    process.exit();
  }
}

async function serve(settings: PodSettings): Promise<void> {
  const stopping = Promise.withResolvers<void>();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stopping.resolve());
  let running: Running | undefined;
  let link: ReturnType<typeof openStream> | undefined;
  const standing = await openStanding(settings, say);
  const health = await startHealth({
    listen: { host: "0.0.0.0", port: HEALTH_PORT },
    started: () => running !== undefined,
    ready: () => {
      if (running === undefined) return { ok: false, why: "starting" };
      const own = running.ready();
      return own.ok ? standing.state() : own;
    },
    metrics: async () => {
      running?.telemetry.gauge("lockOk", standing.state().ok ? 1 : 0);
      const age = link?.heartbeatAgeMs();
      if (typeof age === "number") running?.telemetry.gauge("policyAge", age / 1000);
      return (await running?.telemetry.text()) ?? "";
    },
    contentType: "text/plain; version=0.0.4; charset=utf-8",
    probes: () => readAnnotation(settings.podDir, "atoll.dev/probes"),
  });

  const guardian = await startGuardian(
    {
      ...firstBundles(settings),
      trust: settings.trustRoots,
      folder: settings.journalDir,
      credentials: settings.credentialsDir,
      modules: MODULES_DIR,
      api: DEFAULTS.api,
      proxy: DEFAULTS.proxy,
      health: [],
      principal: `serviceAccount:${settings.namespace}/${settings.serviceAccount}`,
      podUid: settings.podUid,
      labels: readPodLabels(settings.podDir),
      namespaceLabels: namespaceLabels(settings.policyDir),
      modelTimeoutMs: DEFAULTS.modelTimeoutMs,
      dnsOverTcp: true,
      ledger: {
        durability: settings.durability,
        link: async (asked) => {
          if (link === undefined) throw new Error("the control stream is not open yet");
          return await link.ledger(asked);
        },
      },
      pod: {
        heartbeatAgeMs: () => link?.heartbeatAgeMs() ?? "never",
        broken: () => standing.broken(),
        opened: (challenge) => {
          void link
            ?.challenge(challenge)
            .catch((error: unknown) => say("challenge", { message: messageOf(error) }));
        },
      },
    },
    log,
  );
  running = guardian;
  const admin = await startAdmin(guardian, dirname(settings.adminSocket));
  const keep = createKeeper(settings.journalDir);

  /** A policy that the operator names by its hash: fetched, verified here, kept, and switched to between two calls. */
  const onPolicy = async (data: JsonObject): Promise<void> => {
    const hash = textOf(data["hash"]);
    const ceilingHash = textOf(data["ceiling_hash"]);
    const same = hash === guardian.active.policy.hash && ceilingHash === guardian.active.policy.ceilingHash;
    if (same || link === undefined) return;
    const bundle = await link.fetchBundle(hash);
    const ceiling = ceilingHash === "" ? undefined : await link.fetchBundle(ceilingHash);
    if (bundle["bundleId"] !== settings.bundleId || bundle["contentHash"] !== hash)
      throw new ContractError("bundle", "is not the one that was announced");
    if ((settings.ceilingId === "") !== (ceiling === undefined))
      throw new ContractError("ceiling", "is not the one that this pod's shape names");
    const pair = {
      bundle: { manifest: bundle },
      ...(ceiling === undefined ? {} : { ceiling: { manifest: ceiling } }),
    };
    if (data["activate"] === true) {
      await guardian.swap(pair);
      say("policy", { version: guardian.active.version, hash });
    }
    if (data["committed"] === true) keep(bundle, ceiling);
    link.touch();
  };
  /** Everything that people said about one call, from the beginning each time: what was counted before is refused again. */
  const onAnswers = async (data: JsonObject): Promise<void> => {
    const { approval_id: id, assertions } = data;
    if (typeof id !== "string" || !isId("apr", id) || !Array.isArray(assertions)) return;
    for (const assertion of assertions) {
      const told = await guardian.ceremonies.answer(id, assertion);
      if (!told.ok) say("answer_refused", { approval: id, message: told.reason });
    }
  };
  const onEvent = async (event: string, data: JsonObject): Promise<void> => {
    try {
      if (event === "policy") await onPolicy(data);
      else if (event === "freeze")
        await guardian.freezer.freeze(textOf(data["reason"]), textOf(data["by"]), textOf(data["scope"]));
      else if (event === "unfreeze") {
        const lifting = parseJson(Buffer.from(textOf(data["unfreeze"])), LIMITS.args);
        if (isObject(lifting)) await guardian.freezer.unfreeze(lifting);
      } else if (event === "approval") await onAnswers(data);
    } catch (error) {
      // What is refused leaves everything as it was; the operator sees by our report what we run.
      say(`${event}_refused`, { message: messageOf(error) });
    }
  };
  link = openStream({
    url: settings.controlUrl,
    caFile: settings.controlCa,
    tokenFile: settings.controlToken,
    podUid: settings.podUid,
    signer: guardian.signer,
    onEvent,
    report: () => ({
      policy_hash: guardian.active.policy.hash,
      ceiling_hash: guardian.active.policy.ceilingHash,
      ...standing.report(),
      decisions: guardian.telemetry.totals(),
      frozen: guardian.freezer.state.state === "frozen" ? guardian.freezer.state.node : "",
    }),
    log,
  });
  standing.attach(guardian, () => link?.touch());
  say("serving", {
    policy: guardian.active.version,
    key: guardian.keyId,
    journal: join(settings.journalDir),
  });
  await stopping.promise;
  say("draining");
  await admin.close();
  // The ledger is reached by the same link, and hears the last records.
  await guardian.drain(DRAIN_MS);
  link.close();
  await standing.close();
  await health.close();
  say("stopped");
}
