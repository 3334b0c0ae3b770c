// The guardian in a governed pod: what `atoll guard` is on a laptop, with the gate's proof, the control stream and the
// pod's health beside it. Put together here; everything that decides lies elsewhere.

import { dirname, join } from "node:path";
import { ContractError } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { startAdmin } from "../admin/admin.ts";
import { DEFAULTS } from "../config/config.ts";
import type { GuardianConfig } from "../config/config.ts";
import { connectorBy, openEgress } from "../egress/egress.ts";
import { activate, giveBackMemory, startGuardian } from "../guard/guard.ts";
import type { Running } from "../guard/guard.ts";
import { startHealth } from "../health/health.ts";
import { makeResolver } from "../resolve/resolve.ts";
import type { Stream } from "../stream/stream.ts";
import {
  namespaceLabels,
  podSettings,
  readAnnotation,
  readPodLabels,
  readPolicyFile,
} from "./environment.ts";
import type { PodSettings } from "./environment.ts";
import { versionOf } from "./highwater.ts";
import { keptBundles } from "./kept.ts";
import type { Pair } from "./kept.ts";
import { linkGuardian } from "./link.ts";
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
/** How long a start waits for the first word of the control stream: an agent's first calls would be denied as stale before. */
const SYNC_MS = 10_000;
/** Where the shape mounts the ConfigMap `atoll-modules` of the pod's namespace; empty where there is none. */
const MODULES_DIR = "/etc/atoll/modules";

/** The newest good pair of bundles that this pod knows: its ConfigMap's, or one kept from the stream before a restart. */
function firstBundles(settings: PodSettings): {
  readonly config: Pick<GuardianConfig, "bundle" | "ceiling">;
  readonly known: Pair;
} {
  const roots = parseTrustRoots(settings.trustRoots);
  const mounted = {
    bundle: readPolicyFile(settings.policyDir, "bundle"),
    ceiling: readPolicyFile(settings.policyDir, "ceiling"),
  };
  const problems: string[] = [];
  const kept = keptBundles(settings.journalDir);
  // What was once committed here is never gone below, not even when it has expired since.
  const floor = Math.max(0, ...kept.map((k) => versionOf(k.bundle)));
  const named = [mounted, ...kept].flatMap(({ bundle, ceiling }) => {
    if (bundle === undefined) return [];
    if (settings.ceilingId !== "" && ceiling?.["bundleId"] !== settings.ceilingId) {
      problems.push("the ceiling is missing, or another one");
      return [];
    }
    if (bundle["bundleId"] !== settings.bundleId) {
      problems.push(`bundle \`${textOf(bundle["bundleId"])}\`, expected \`${settings.bundleId}\``);
      return [];
    }
    if (versionOf(bundle) < floor) {
      problems.push(`version ${versionOf(bundle)} is below the committed version ${floor}`);
      return [];
    }
    const pair = {
      bundle: { manifest: bundle },
      ...(ceiling === undefined ? {} : { ceiling: { manifest: ceiling } }),
    };
    return [{ config: pair, known: { bundle, ceiling }, version: versionOf(bundle) }];
  });
  // From the newest down: a start does not wait for those that it will not take.
  const best = named
    .toSorted((a, b) => b.version - a.version)
    .find(({ config }) => {
      try {
        activate(config, roots, Date.now());
        return true;
      } catch (error) {
        problems.push(messageOf(error));
        return false;
      }
    });
  if (best === undefined)
    throw new ContractError("bundle", problems.join("; ") || `nothing in ${settings.policyDir}`);
  return best;
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

/** By the egress gateway, where there is one; else undefined, for the pod's own network. */
function wayOut({ gateway, gatewayCa, controlToken }: PodSettings) {
  if (gateway === "") return undefined;
  const egress = openEgress({ at: gateway, caFile: gatewayCa, tokenFile: controlToken });
  const resolver = makeResolver({ tcp: true, ask: egress.ask });
  return { resolver, dial: egress.dial, connect: connectorBy(egress, () => resolver) };
}

async function serve(settings: PodSettings): Promise<void> {
  const stopping = Promise.withResolvers<void>();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stopping.resolve());
  const began = performance.now();
  let running: Running | undefined;
  let link: Stream | undefined;
  const standing = await openStanding(settings, say);
  const health = await startHealth({
    listen: { host: "0.0.0.0", port: HEALTH_PORT },
    started: () =>
      running !== undefined &&
      ((link?.heartbeatAgeMs() ?? "never") !== "never" || performance.now() - began > SYNC_MS),
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

  const first = firstBundles(settings);
  const way = wayOut(settings);
  const guardian = await startGuardian(
    {
      ...first.config,
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
        publish: async (act) => {
          if (link === undefined) throw new Error("the control stream is not open yet");
          return await link.rotate(act);
        },
        opened: (challenge) => {
          void link
            ?.challenge(challenge)
            .catch((error: unknown) => say("challenge", { message: messageOf(error) }));
        },
      },
    },
    log,
    way,
  );
  running = guardian;
  const admin = await startAdmin(guardian, dirname(settings.adminSocket));
  link = linkGuardian({
    guardian,
    settings,
    first: first.known,
    more: () => standing.report(),
    ...(way === undefined ? {} : { way }),
    say,
    log,
  });
  standing.attach(guardian, () => link?.touch());
  say("serving", {
    policy: guardian.active.version,
    key: guardian.signer.keyId,
    journal: join(settings.journalDir),
  });
  const keepMemory = giveBackMemory(() => guardian.governor.underWay);
  await stopping.promise;
  keepMemory();
  say("draining");
  await admin.close();
  // The ledger is reached by the same link, and hears the last records.
  await guardian.drain(DRAIN_MS);
  link.close();
  await standing.close();
  await health.close();
  say("stopped");
}
