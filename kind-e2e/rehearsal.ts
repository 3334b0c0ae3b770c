// A guardian's start as it is rehearsed while it is built, in a scratch folder and under a policy of its own: the code
// of what ran lies beside the program then, and no start makes it again. Nothing calls this in a program that ships.

import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem } from "../kernel/crypto/crypto.ts";
import { bundleManifest, signBundle } from "../kernel/policy/bundle.ts";
import { startAdmin } from "../sidecar/admin/admin.ts";
import { DEFAULTS } from "../sidecar/config/config.ts";
import { startGuardian } from "../sidecar/guard/guard.ts";

const POLICY: JsonObject = {
  apiVersion: "atoll.dev/policy/v1",
  name: "rehearsal",
  layer: "P1",
  connectors: {
    t: { kind: "mcp", url: "http://127.0.0.1:9/mcp" },
    m: { kind: "openai", url: "http://127.0.0.1:9/v1" },
  },
  tools: ["tool:t/one", "tool:agent/two"].map((name) => ({
    name,
    effect: "E1",
    sideEffect: "read_only",
    sandbox: "isolated",
    trust: "trusted",
    input: {
      type: "object",
      properties: { n: { type: "integer" }, text: { type: "string", maxLength: 100 } },
    },
  })),
  models: [{ name: "model:m/small", price: { inputMicroUsdPerMTok: 1, outputMicroUsdPerMTok: 1 } }],
  toolsets: { all: ["tool:t/one", "tool:agent/two"] },
  profiles: [
    {
      match: { principal: "*" },
      toolsets: ["all"],
      models: ["model:m/small"],
      maxSideEffect: "full",
      budgets: { session: { calls: 10 } },
    },
  ],
  rules: [
    {
      id: "one",
      tools: ["tool:t/one"],
      when: 'call.args.text.startsWith("a") && session.calls >= 0',
      then: "allow",
    },
    { id: "two", tools: ["tool:agent/two"], then: "deny" },
  ],
  perimeter: { requireTls: false },
};

export async function rehearse(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "atoll-rehearsal-"));
  try {
    const key = generateKeyPairSync("ed25519");
    const signed = signBundle(
      {
        type: "atoll.dev/bundle/v1",
        bundleId: "rehearsal",
        version: 1,
        layer: "P1",
        contentHash: hashJson(POLICY),
        conformanceLevel: "L1",
        notBefore: "",
        expiresAt: "",
      },
      [signerFromPem(key.privateKey.export({ type: "pkcs8", format: "pem" }))],
    );
    const running = await startGuardian(
      {
        bundle: { manifest: bundleManifest({ signed, content: POLICY, source: undefined }, "rehearsal-v1") },
        trust: `role: policy\n${key.publicKey.export({ type: "spki", format: "pem" })}`,
        folder: join(folder, "journal"),
        credentials: "",
        modules: "",
        api: [{ host: "127.0.0.1", port: 0 }],
        proxy: [{ host: "127.0.0.1", port: 0 }],
        health: [],
        principal: DEFAULTS.principal,
        labels: {},
        namespaceLabels: {},
        modelTimeoutMs: DEFAULTS.modelTimeoutMs,
        dnsOverTcp: false,
      },
      () => undefined,
    );
    const admin = await startAdmin(running, join(folder, "journal"));
    const ready = running.ready();
    await admin.close();
    await running.drain(0);
    if (!ready.ok) throw new Error(`the rehearsed start is not ready: ${ready.why}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
