// Real guardians on the real control stream: each with its pod's token, its ConfigMap and its journal, in this process.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { demoPolicy } from "../../cli/demo/policy.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { startGuardian } from "../../sidecar/guard/guard.ts";
import type { Running } from "../../sidecar/guard/guard.ts";
import { linkGuardian } from "../../sidecar/pod/link.ts";
import { readPolicyFile } from "../../sidecar/pod/environment.ts";
import { keptBundles } from "../../sidecar/pod/kept.ts";
import { until } from "./api.ts";
import type { Json } from "./api.ts";
import { approverKey, pod } from "./whole.ts";
import type { Whole } from "./whole.ts";

export const TOOL_SECRET = "tool-secret-of-the-tests";

/** A policy under which issues are created, releases ask a person, and everything may be called often. */
export function livePolicy(
  tools: string,
  name: string,
  denied: readonly string[] = [],
  model = "http://127.0.0.1:9/v1",
  approver: string = approverKey.signer.keyId,
): JsonObject {
  const document = parse(
    demoPolicy({
      model,
      tools,
      approver,
      module: "",
      serviceAccount: "default",
    }),
  ) as { profiles: { budgets?: unknown }[]; rules: unknown[] } & Record<string, unknown>;
  document["name"] = name;
  document["limits"] = { concurrentCalls: 64, requestsPerSecond: 10_000 };
  for (const profile of document.profiles) delete profile.budgets;
  for (const tool of denied)
    document.rules.push({ id: `no-${tool.split("/")[1] ?? ""}`, tools: [tool], then: "deny" });
  return JSON.parse(JSON.stringify(document)) as JsonObject;
}

export interface Member {
  readonly name: string;
  readonly uid: string;
  readonly guardian: Running;
  readonly journalDir: string;
  readonly said: { readonly event: string; readonly data: JsonObject }[];
  /** A call over HTTP, as an agent makes it. */
  call(
    tool: string,
    args: Json,
    key?: string,
  ): Promise<{ readonly status: number; readonly reason: string; readonly body: Json }>;
  /** Ends it and starts it again on the same volume. */
  again(): Promise<Member>;
  close(): Promise<void>;
}

export async function startMember(whole: Whole, sidecar: string, name: string): Promise<Member> {
  const { api } = whole;
  await until(
    `pod ${name} is admitted`,
    async () => (await api.call("POST", "/api/v1/namespaces/team-a/pods", pod(name))).status === 201,
  );
  const { body } = await api.call("GET", `/api/v1/namespaces/team-a/pods/${name}`);
  const { uid } = body["metadata"] as { uid: string };
  await until(`pod ${name} is known`, async () =>
    Promise.resolve(whole.controllers.pods.has(`team-a/${name}`)),
  );
  const folder = mkdtempSync(join(tmpdir(), "atoll-member-"));
  const policyDir = join(folder, "policy");
  for (const part of ["policy", "credentials"]) mkdirSync(join(folder, part));
  writeFileSync(join(folder, "credentials", "GITHUB_TOKEN"), TOOL_SECRET);
  writeFileSync(join(folder, "credentials", "MODEL_KEY"), "unused");
  const token = await api.call("POST", "/api/v1/namespaces/team-a/serviceaccounts/default/token", {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { audiences: ["atoll"], boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid } },
  });
  writeFileSync(join(folder, "token"), (token.body["status"] as { token: string }).token);
  const mount = async (): Promise<void> => {
    const map = await api.call("GET", `/api/v1/namespaces/team-a/configmaps/atoll-policy-${sidecar}`);
    for (const [file, text] of Object.entries((map.body["data"] ?? {}) as Record<string, string>))
      writeFileSync(join(policyDir, file), text);
  };
  const start = async (): Promise<Member> => {
    await mount();
    const said: { event: string; data: JsonObject }[] = [];
    const say = (event: string, data: JsonObject): void => void said.push({ event, data });
    const journalDir = join(folder, "journal");
    const [kept] = keptBundles(journalDir);
    const mounted = {
      bundle: readPolicyFile(policyDir, "bundle"),
      ceiling: readPolicyFile(policyDir, "ceiling"),
    };
    const first =
      Number(kept?.bundle?.["version"] ?? 0) > Number(mounted.bundle?.["version"] ?? 0)
        ? (kept ?? mounted)
        : mounted;
    let link: ReturnType<typeof linkGuardian> | undefined;
    const guardian = await startGuardian(
      {
        bundle: { manifest: first.bundle ?? {} },
        ...(first.ceiling === undefined ? {} : { ceiling: { manifest: first.ceiling } }),
        trust: whole.roots,
        folder: journalDir,
        credentials: join(folder, "credentials"),
        modules: "",
        api: [{ host: "127.0.0.1", port: 0 }],
        proxy: [],
        health: [],
        principal: "serviceAccount:team-a/default",
        podUid: uid,
        labels: {},
        namespaceLabels: {},
        modelTimeoutMs: 5000,
        dnsOverTcp: false,
        pod: {
          heartbeatAgeMs: () => link?.heartbeatAgeMs() ?? "never",
          broken: () => undefined,
          opened: (challenge) =>
            void link
              ?.challenge(challenge)
              .catch((error: unknown) => say("challenge", { message: String(error) })),
        },
      },
      () => undefined,
    );
    link = linkGuardian({
      guardian,
      settings: {
        controlUrl: `https://localhost:${whole.control.port}`,
        controlCa: join(policyDir, "control-ca.crt"),
        controlToken: join(folder, "token"),
        podUid: uid,
        bundleId: "repo-agents",
        ceilingId: "",
        journalDir,
      },
      first,
      more: () => ({ lock_proved: true }),
      say,
      log: (line) => say("log", { line }),
      way: {
        resolver: {
          resolve: () => Promise.resolve({ kind: "addresses", addresses: ["127.0.0.1"] }),
          close: () => undefined,
        },
      },
    });
    const stream = link;
    await until(`${name} has heard all that is in force`, async () =>
      Promise.resolve(stream.heartbeatAgeMs() !== "never"),
    );
    const base = `http://127.0.0.1:${guardian.api[0]?.port ?? 0}`;
    const stop = async (): Promise<void> => {
      stream.close();
      await guardian.drain(500);
    };
    return {
      name,
      uid,
      guardian,
      journalDir,
      said,
      async call(tool, args, key) {
        const response = await fetch(`${base}/mcp/v1/execute`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({
            tool,
            arguments: args,
            ...(key === undefined ? {} : { idempotency_key: key }),
          }),
        });
        const answer = (await response.json()) as Json;
        return { status: response.status, reason: String(answer["reason_code"]), body: answer };
      },
      async again() {
        await stop();
        return await start();
      },
      async close() {
        await stop();
        rmSync(folder, { recursive: true, force: true });
      },
    };
  };
  return await start();
}
