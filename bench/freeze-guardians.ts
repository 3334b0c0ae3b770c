// The guardians of bench/freeze.ts: many in one process, each whole, with its own journal, key, listener and stream.
// Told over IPC whom to be; tells when all have heard what is in force, and after each freeze when each was first denied.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonValue } from "../kernel/contracts/contracts.ts";
import { principalOf } from "../sidecar/config/config.ts";
import { startGuardian } from "../sidecar/guard/guard.ts";
import type { Running } from "../sidecar/guard/guard.ts";
import { openStream } from "../sidecar/stream/stream.ts";

export interface Crew {
  readonly folder: string;
  readonly port: number;
  readonly ca: string;
  readonly bundle: JsonValue;
  readonly trust: string;
  readonly pods: readonly { readonly name: string; readonly uid: string; readonly token: string }[];
}
export interface Order {
  readonly crew: Crew;
}
export interface Denied {
  readonly pod: string;
  /** Milliseconds since 1970, with fractions. */
  readonly at: number;
}
export type News =
  | { readonly news: "connected" }
  | { readonly news: "lifted"; readonly at: number }
  | { readonly news: "denied"; readonly denied: Denied }
  | { readonly news: "allowed"; readonly pod: string };

const tell = (news: News): void => void process.send?.(news);
const now = (): number => performance.timeOrigin + performance.now();

const ME = "serviceAccount:team-a/default";

/** The reason code of one call, decided and recorded as any other; its way through a socket is left out. */
async function call({ governor }: Running): Promise<string> {
  const told = await governor.ask({
    target: "tool:calc/none",
    source: "rest",
    args: {},
    caller: principalOf(ME),
    idempotencyKey: "",
    definition: governor.definitionOf("tool:calc/none"),
    estimate: { calls: 1, tokens: 0, costMicroUsd: 0 },
    dispatch: async () => ({ status: "failed", code: "DENY_CONNECTOR" }),
  });
  return told.kind === "refused" ? told.refusal.code : "";
}

async function guardian(crew: Crew, pod: Crew["pods"][number]): Promise<Running> {
  const folder = join(crew.folder, pod.name);
  mkdirSync(folder);
  writeFileSync(join(folder, "ca.crt"), crew.ca);
  writeFileSync(join(folder, "token"), pod.token);
  const running = await startGuardian(
    {
      bundle: { manifest: crew.bundle },
      trust: crew.trust,
      folder: join(folder, "journal"),
      credentials: "",
      modules: "",
      api: [{ host: "127.0.0.1", port: 0 }],
      proxy: [],
      health: [],
      principal: ME,
      podUid: pod.uid,
      labels: {},
      namespaceLabels: {},
      modelTimeoutMs: 5_000,
      dnsOverTcp: false,
    },
    () => undefined,
  );
  const synced = Promise.withResolvers<void>();
  openStream({
    url: `https://localhost:${crew.port}`,
    caFile: join(folder, "ca.crt"),
    tokenFile: join(folder, "token"),
    podUid: pod.uid,
    signer: () => running.signer,
    resolver: {
      resolve: async () => ({ kind: "addresses", addresses: ["127.0.0.1"] }),
      close: () => undefined,
    },
    onEvent: async (event, data) => {
      if (event === "synced") synced.resolve();
      if (event === "unfreeze") {
        if (running.freezer.inForce.length === 0) return;
        await running.freezer.unfreeze(data["unfreeze"] ?? null);
        if (running.freezer.inForce.length === 0) tell({ news: "lifted", at: now() });
      }
      if (event !== "freeze") return;
      // As in the pod: in force within this turn. The next call is the first that is denied for it.
      const frozen = running.freezer.hear(data);
      const code = await call(running);
      if (code === "SYSTEM_FROZEN") tell({ news: "denied", denied: { pod: pod.name, at: now() } });
      else tell({ news: "allowed", pod: pod.name });
      await frozen;
    },
    report: () => ({ policy_hash: running.active.policy.hash, ceiling_hash: "" }),
    log: () => undefined,
  });
  await synced.promise;
  return running;
}

const running: Running[] = [];

async function start(crew: Crew): Promise<void> {
  for (let at = 0; at < crew.pods.length; at += 10)
    running.push(...(await Promise.all(crew.pods.slice(at, at + 10).map((pod) => guardian(crew, pod)))));
  tell({ news: "connected" });
}

process.on("message", (order: Order) => {
  void start(order.crew).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
});
process.on("disconnect", () => process.exit(0));
