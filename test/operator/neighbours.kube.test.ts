// With others in the cluster: LimitRanges, quotas, other injectors, certificates that turn over, and an audit log of all of it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { Server } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeAuthority, makeLeaf } from "../../operator/certificates/certificates.ts";
import { apply, until } from "./api.ts";
import type { Api, Json, Reply } from "./api.ts";
import { INSTALLER, sidecarSpec } from "./shapes.ts";
import { bundle, pod, startWhole } from "./whole.ts";
import type { Whole } from "./whole.ts";

let whole: Whole;
let api: Api;
let other: Server | undefined;
const folder = mkdtempSync(join(tmpdir(), "atoll-audit-"));
const AUDIT = join(folder, "audit.log");
const create = (object: Json): Promise<Reply> =>
  api.call("POST", "/api/v1/namespaces/team-a/pods?dryRun=All", object);

beforeAll(async () => {
  writeFileSync(
    join(folder, "policy.yaml"),
    JSON.stringify({
      apiVersion: "audit.k8s.io/v1",
      kind: "Policy",
      omitStages: ["RequestReceived"],
      rules: [{ level: "Metadata" }],
    }),
  );
  whole = await startWhole({
    plane: {
      controllers: true,
      apiserverFlags: [`--audit-policy-file=${join(folder, "policy.yaml")}`, `--audit-log-path=${AUDIT}`],
    },
    lives: { authorityMs: 12_000, leafMs: 4000, overlapMs: 3000 },
  });
  api = whole.api;
  await until("the webhook is ready", async () => Promise.resolve(whole.webhook.ready()));
  await until(
    "the bundle is stored",
    async () =>
      (await api.call("POST", "/apis/atoll.dev/v1alpha1/policybundles", bundle({ version: 1 }))).status ===
      201,
  );
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec(),
  });
  await until("pods are injected", async () => (await create(pod("x"))).status === 201);
});
afterAll(async () => {
  other?.closeAllConnections();
  other?.close();
  await whole.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("authority and leaf turn over while pods are created, and no create fails", async () => {
  const bundles = new Set<string>();
  const failed: string[] = [];
  let created = 0;
  const began = Date.now();
  const end = began + 16_000;
  // 50 a second, where the machine can; no more than eight under way, where it cannot.
  const worker = async (): Promise<void> => {
    while (Date.now() < end) {
      const at = began + created * 20;
      const reply = await create(pod(`p${created++}`));
      if (reply.status !== 201) failed.push(reply.message);
      await new Promise((resolve) => setTimeout(resolve, Math.max(1, at + 20 * 8 - Date.now())));
    }
  };
  const watcher = async (): Promise<void> => {
    while (Date.now() < end) {
      const { body } = await api.call(
        "GET",
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/atoll",
      );
      for (const hook of body["webhooks"] as { clientConfig: { caBundle: string } }[])
        bundles.add(hook.clientConfig.caBundle);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  };
  await Promise.all([...Array.from({ length: 8 }, worker), watcher()]);
  process.stdout.write(
    `certificates: ${bundles.size} bundles of authorities in 16 s, ${created} creates, ${failed.length} failed\n`,
  );
  expect(failed).toEqual([]);
  expect(bundles.size).toBeGreaterThan(2);
});

test("a LimitRange that fills in what is missing, and a quota that asks for everything, leave our shape as it is", async () => {
  await apply(api, {
    apiVersion: "v1",
    kind: "LimitRange",
    metadata: { name: "defaults", namespace: "team-a" },
    spec: {
      limits: [
        {
          type: "Container",
          default: { cpu: "250m", memory: "64Mi" },
          defaultRequest: { cpu: "10m", memory: "16Mi" },
        },
      ],
    },
  });
  await apply(api, {
    apiVersion: "v1",
    kind: "ResourceQuota",
    metadata: { name: "all", namespace: "team-a" },
    spec: {
      hard: {
        "requests.cpu": "10",
        "requests.memory": "10Gi",
        "limits.cpu": "20",
        "limits.memory": "20Gi",
        pods: "10",
      },
    },
  });
  await until("the quota is counted", async () => {
    const { body } = await api.call("GET", "/api/v1/namespaces/team-a/resourcequotas/all");
    return "hard" in ((body["status"] ?? {}) as Json);
  });
  const reply = await create(pod("bounded"));
  expect(reply.message).toBe("");
  const [agent] = (reply.body["spec"] as { containers: { resources: Json }[] }).containers;
  expect(agent?.resources).toMatchObject({ limits: { cpu: "250m" } });
});

test("another injector, before or after ours in the alphabet, that changes every container and puts its own in front, gives way", async () => {
  const authority = makeAuthority(new Date(), 3_600_000);
  const leaf = makeLeaf(
    authority,
    { dnsNames: ["localhost"], addresses: ["127.0.0.1"] },
    new Date(),
    3_600_000,
  );
  other = createServer({ key: leaf.key, cert: leaf.certificate }, (request, response) => {
    let text = "";
    request.on("data", (part: Buffer) => (text += part.toString("utf8")));
    request.on("end", () => {
      const review = JSON.parse(text) as {
        request: {
          uid: string;
          object: { spec: { initContainers?: { name: string }[]; containers: Json[] } };
        };
      };
      const { initContainers = [], containers } = review.request.object.spec;
      const patch: Json[] = [];
      for (const [key, all] of [
        ["initContainers", initContainers],
        ["containers", containers],
      ] as const)
        for (const [i, c] of all.entries())
          patch.push({
            op: "add",
            path: `/spec/${key}/${i}/env${"env" in c ? "/-" : ""}`,
            value: "env" in c ? { name: "SEEN", value: "1" } : [{ name: "SEEN", value: "1" }],
          });
      if (!initContainers.some((c) => c.name === "first")) {
        const first = { name: "first", image: "first:1", securityContext: { runAsUser: 1000 } };
        patch.push({
          op: "add",
          path: initContainers.length === 0 ? "/spec/initContainers" : "/spec/initContainers/0",
          value: initContainers.length === 0 ? [first] : first,
        });
      }
      response.end(
        JSON.stringify({
          apiVersion: "admission.k8s.io/v1",
          kind: "AdmissionReview",
          response: {
            uid: review.request.uid,
            allowed: true,
            patchType: "JSONPatch",
            patch: Buffer.from(JSON.stringify(patch)).toString("base64"),
          },
        }),
      );
    });
  });
  await new Promise<void>((resolve) => other?.listen(0, () => resolve()));
  const address = other.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  for (const name of ["a-before-ours", "z-after-ours"]) {
    await apply(api, {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "MutatingWebhookConfiguration",
      metadata: { name },
      webhooks: [
        {
          name: "other.example.com",
          admissionReviewVersions: ["v1"],
          sideEffects: "None",
          clientConfig: {
            url: `https://127.0.0.1:${port}/`,
            caBundle: Buffer.from(authority.certificate).toString("base64"),
          },
          rules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
          namespaceSelector: { matchLabels: { "atoll.dev/governed": "true" } },
        },
      ],
    });
    await until(`${name} is called and the pod admitted`, async () => {
      const reply = await create(pod("both"));
      const spec = (reply.body["spec"] ?? {}) as {
        initContainers?: { name: string; env?: { name: string }[] }[];
      };
      const names = (spec.initContainers ?? []).map((c) => c.name).join();
      const ours = (spec.initContainers ?? []).filter((c) => c.name.startsWith("atoll-"));
      return (
        names === "atoll-lock,atoll-guardian,atoll-gate,first" &&
        !ours.some((c) => (c.env ?? []).some((e) => e.name === "SEEN"))
      );
    });
    await api.call(
      "DELETE",
      `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${name}`,
      undefined,
      undefined,
      INSTALLER,
    );
  }
});

test("in all of this nothing that operator and webhook asked for was denied them", () => {
  const denied = readFileSync(AUDIT, "utf8")
    .split("\n")
    .filter((l) => l !== "")
    .map(
      (l) =>
        JSON.parse(l) as {
          user: { username: string };
          verb: string;
          requestURI: string;
          responseStatus?: { code: number };
        },
    )
    .filter((e) => /^system:serviceaccount:atoll-system:atoll-(operator|webhook)$/.test(e.user.username))
    .filter((e) => e.responseStatus?.code === 403)
    .map((e) => `${e.user.username} ${e.verb} ${e.requestURI}`);
  expect(denied).toEqual([]);
});
