// A whole guardian in this process, with stand-ins behind it, for the tests of its surfaces.

import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { demoPolicy } from "../../cli/demo/policy.ts";
import { standInModel, standInTools } from "../../cli/demo/standins.ts";
import type { StandIn } from "../../cli/demo/standins.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem } from "../../kernel/crypto/crypto.ts";
import { bundleManifest, parseBundle, signBundle } from "../../kernel/policy/bundle.ts";
import type { PodLinks } from "../../sidecar/config/config.ts";
import { startGuardian } from "../../sidecar/guard/guard.ts";
import type { Network, Running } from "../../sidecar/guard/guard.ts";

export const MODEL_SECRET = "sk-standin-0123456789abcdefghij";
export const TOOL_SECRET = "ghp_standin0123456789abcdefghijklmnopqrst";

export interface Scene {
  readonly folder: string;
  readonly guardian: Running;
  readonly base: string;
  readonly model: StandIn;
  readonly tools: StandIn;
  readonly approverPem: string;
  readonly approverTwoPem: string;
  readonly overridePem: string;
  readonly lines: string[];
  /** Ends this guardian and starts another on the same folder. */
  again(ceiling?: JsonObject): Promise<Scene>;
  close(): Promise<void>;
}

export interface SceneOptions {
  readonly modelTimeoutMs?: number;
  readonly policy?: (document: Record<string, unknown>, approverTwo: string) => void;
  readonly network?: Network;
  /** Folder with WASM modules. */
  readonly modules?: string;
  readonly pod?: PodLinks;
}

export async function scene(options: SceneOptions = {}): Promise<Scene> {
  const folder = mkdtempSync(join(tmpdir(), "atoll-scene-"));
  const model = await standInModel(MODEL_SECRET);
  const tools = await standInTools(TOOL_SECRET);
  const policyKey = generateKeyPairSync("ed25519");
  const approverKey = generateKeyPairSync("ed25519");
  const pem = (k: { export(o: { type: "spki"; format: "pem" }): string | Buffer }): string =>
    String(k.export({ type: "spki", format: "pem" }));
  const approverPem = approverKey.privateKey.export({ type: "pkcs8", format: "pem" });
  const approver = signerFromPem(approverPem);
  const approverTwoKey = generateKeyPairSync("ed25519");
  const overrideKey = generateKeyPairSync("ed25519");
  const approverTwoPem = approverTwoKey.privateKey.export({ type: "pkcs8", format: "pem" });
  const overridePem = overrideKey.privateKey.export({ type: "pkcs8", format: "pem" });
  const content = parse(
    demoPolicy({ model: model.url, tools: tools.url, approver: approver.keyId, module: "" }),
  ) as Record<string, unknown>;
  options.policy?.(content, signerFromPem(approverTwoPem).keyId);
  const document: JsonObject = JSON.parse(JSON.stringify(content));
  const ceilingKey = generateKeyPairSync("ed25519");
  const bundle = (layer: "P1" | "P0", of: JsonObject, key: typeof policyKey) => {
    const signed = signBundle(
      {
        type: "atoll.dev/bundle/v1",
        bundleId: layer === "P1" ? "scene" : "scene-ceiling",
        version: 1,
        layer,
        contentHash: hashJson(of),
        conformanceLevel: "L1",
        notBefore: "",
        expiresAt: "",
      },
      [signerFromPem(key.privateKey.export({ type: "pkcs8", format: "pem" }))],
    );
    const made = bundleManifest({ signed, content: of, source: undefined }, `scene-${layer.toLowerCase()}`);
    parseBundle(made);
    return { manifest: made };
  };
  const policyBundle = bundle("P1", document, policyKey);
  let ceilingBundle: ReturnType<typeof bundle> | undefined;
  mkdirSync(join(folder, "credentials"));
  writeFileSync(join(folder, "credentials", "MODEL_KEY"), `${MODEL_SECRET}\n`);
  writeFileSync(join(folder, "credentials", "GITHUB_TOKEN"), TOOL_SECRET);
  const trust = `role: policy\n${pem(policyKey.publicKey)}\nrole: approver\n${pem(approverKey.publicKey)}\nrole: approver\n${pem(approverTwoKey.publicKey)}\nrole: override\n${pem(overrideKey.publicKey)}\nrole: ceiling\n${pem(ceilingKey.publicKey)}`;
  const lines: string[] = [];
  const start = () =>
    startGuardian(
      {
        bundle: policyBundle,
        ...(ceilingBundle === undefined ? {} : { ceiling: ceilingBundle }),
        trust,
        folder: join(folder, "journal"),
        credentials: join(folder, "credentials"),
        modules: options.modules ?? "",
        api: [{ host: "127.0.0.1", port: 0 }],
        proxy: [{ host: "127.0.0.1", port: 0 }],
        health: [{ host: "127.0.0.1", port: 0 }],
        principal: "serviceAccount:local/guard",
        labels: {},
        namespaceLabels: {},
        modelTimeoutMs: options.modelTimeoutMs ?? 5_000,
        dnsOverTcp: false,
        ...(options.pod === undefined ? {} : { pod: options.pod }),
      },
      (line) => lines.push(line),
      options.network,
    );
  const from = (guardian: Running): Scene => ({
    folder,
    guardian,
    base: `http://127.0.0.1:${guardian.api[0]?.port ?? 0}`,
    model,
    tools,
    approverPem,
    approverTwoPem,
    overridePem,
    lines,
    async again(ceiling) {
      if (ceiling !== undefined) ceilingBundle = bundle("P0", ceiling, ceilingKey);
      await guardian.drain(1_000);
      return from(await start());
    },
    async close() {
      await guardian.drain(200);
      await model.close();
      await tools.close();
      rmSync(folder, { recursive: true, force: true });
    },
  });
  return from(await start());
}
