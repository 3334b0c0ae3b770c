// A whole guardian on its own ports, with a policy that opens a few names: what an agent in the laboratory is governed by.
// `node guardian.ts FOLDER DESTINATION…`; prints a line when it serves.
import { generateKeyPairSync } from "node:crypto";
import { hashJson, signerFromPem } from "../../../kernel/crypto/crypto.ts";
import { bundleManifest, signBundle } from "../../../kernel/policy/bundle.ts";
import { DEFAULTS } from "../../../sidecar/config/config.ts";
import { startGuardian } from "../../../sidecar/guard/guard.ts";

const [folder = "", ...destinations] = process.argv.slice(2);
const key = generateKeyPairSync("ed25519");
const content = {
  apiVersion: "atoll.dev/policy/v1",
  name: "laboratory",
  layer: "P1",
  connectors: { web: { kind: "connect", destinations } },
  profiles: [
    {
      match: { serviceAccount: "guard" },
      destinations: { allow: destinations },
      maxSideEffect: "full",
      budgets: { session: { calls: 1000 } },
    },
  ],
  rules: [{ id: "web", tools: ["net:*"], then: "allow" }],
  privateAddresses: { allow: ["10.77.0.0/24"] },
};
const signed = signBundle(
  {
    type: "atoll.dev/bundle/v1",
    bundleId: "laboratory",
    version: 1,
    layer: "P1",
    contentHash: hashJson(content),
    conformanceLevel: "L1",
    notBefore: "",
    expiresAt: "",
  },
  [signerFromPem(key.privateKey.export({ type: "pkcs8", format: "pem" }))],
);
await startGuardian(
  {
    bundle: { manifest: bundleManifest({ signed, content, source: undefined }, "laboratory-v1") },
    trust: `role: policy\n${key.publicKey.export({ type: "spki", format: "pem" })}`,
    folder,
    credentials: "",
    modules: "",
    api: DEFAULTS.api,
    proxy: DEFAULTS.proxy,
    health: [],
    principal: DEFAULTS.principal,
    labels: {},
    namespaceLabels: {},
    modelTimeoutMs: 5000,
    dnsOverTcp: true,
  },
  () => undefined,
);
console.log("serving");
