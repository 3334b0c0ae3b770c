// The webhook process: stateless, as many replicas as wanted. It reads the ShapeIndex and namespaces' labels, answers
// admission reviews, and keeps its certificate and the caBundle of its configurations current.

import { createServer } from "node:https";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { createSecureContext } from "node:tls";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { certificateSource, expiresAt } from "../certificates/certificates.ts";
import type { Lives } from "../certificates/certificates.ts";
import { SYSTEM_NAMESPACE, isMap } from "../kinds/kinds.ts";
import type { IndexSpec, Json, JsonMap } from "../kinds/kinds.ts";
import { applyObject, reflect } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import { TRUST_CONFIG_MAP } from "../shape/shape.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import type { TrustRoots } from "../../kernel/trust/trust.ts";
import { mutatePod, validateKind } from "./review.ts";
import type { Outcome, ReviewFacts } from "./review.ts";

export interface WebhookOptions {
  readonly client: Client;
  readonly port: number;
  readonly requireSignature: boolean;
  readonly log: (line: JsonMap) => void;
  readonly lives?: Lives;
  /** Addresses for which the certificate is also good; for tests that have no Service. */
  readonly addresses?: readonly string[];
  readonly refreshMs?: number;
  /** How long a stopping replica goes on answering over connections that it has. */
  readonly drainMs?: number;
}
export interface Webhook {
  readonly port: number;
  ready(): boolean;
  metrics(): Promise<string>;
  /** Renews certificates now. */
  refresh(): Promise<void>;
  stop(): Promise<void>;
}

const SERVICE = "atoll-webhook";
const CONFIGURATIONS = [
  ["mutatingwebhookconfigurations", "MutatingWebhookConfiguration"],
  ["validatingwebhookconfigurations", "ValidatingWebhookConfiguration"],
] as const;
const BODY_LIMIT = 8 << 20;

export async function startWebhook(options: WebhookOptions): Promise<Webhook> {
  const { client, log } = options;
  const registry = new Registry();
  const reviews = new Counter({
    name: "atoll_webhook_reviews_total",
    help: "Admission reviews by outcome and code",
    labelNames: ["outcome", "code"],
    registers: [registry],
  });
  const seconds = new Histogram({
    name: "atoll_webhook_review_seconds",
    help: "Time to answer a review",
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5],
    registers: [registry],
  });
  const notAfter = new Gauge({
    name: "atoll_webhook_certificate_not_after_seconds",
    help: "End of the serving certificate's validity, Unix time",
    registers: [registry],
  });

  let index: IndexSpec | undefined;
  let roots: TrustRoots | undefined;
  const indices = reflect({
    client,
    path: "/apis/atoll.dev/v1alpha1/shapeindexes",
    project: (o) => o["spec"] as unknown as IndexSpec,
    onChange: (key, value) => {
      if (key === "cluster") index = value;
    },
  });
  const namespaces = reflect({
    client,
    path: "/api/v1/namespaces",
    project: (o) => {
      const meta = isMap(o["metadata"]) ? o["metadata"] : {};
      return (isMap(meta["labels"]) ? meta["labels"] : {}) as Readonly<Record<string, string>>;
    },
    onChange: () => undefined,
  });
  const trust = reflect({
    client,
    path: `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`,
    query: { fieldSelector: `metadata.name=${TRUST_CONFIG_MAP}` },
    project: (o) =>
      isMap(o["data"]) && typeof o["data"]["roots.pem"] === "string" ? o["data"]["roots.pem"] : "",
    onChange: (_key, value) => {
      try {
        roots = value === undefined ? undefined : parseTrustRoots(value);
      } catch (error) {
        roots = undefined;
        log({ level: "error", event: "trust-roots", message: error instanceof Error ? error.message : "" });
      }
    },
  });

  const certificates = certificateSource(client, {
    namespace: SYSTEM_NAMESPACE,
    secret: "atoll-webhook-ca",
    dnsNames: [`${SERVICE}.${SYSTEM_NAMESPACE}.svc`, `${SERVICE}.${SYSTEM_NAMESPACE}.svc.cluster.local`],
    ...(options.addresses === undefined ? {} : { addresses: options.addresses }),
    ...(options.lives === undefined ? {} : { lives: options.lives }),
  });
  let published = false;
  const facts = (): ReviewFacts => ({
    index,
    namespaceLabels: (name) => namespaces.items.get(name),
    namespaces: () => namespaces.items,
    roots,
    requireSignature: options.requireSignature,
    now: Date.now(),
  });

  const handle = (path: string, review: Json): Outcome | undefined =>
    path.startsWith("/mutate") ? mutatePod(review, facts()) : validateKind(review, facts());
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const path = (request.url ?? "").split("?")[0] ?? "";
    if (request.method === "GET") {
      void plain(path, response);
      return;
    }
    if (request.method !== "POST" || (path !== "/mutate" && path !== "/validate")) {
      response.writeHead(404).end();
      return;
    }
    const began = performance.now();
    readBody(request)
      .then((body) => {
        const outcome = handle(path, JSON.parse(body) as Json);
        if (outcome === undefined) {
          response.writeHead(400).end();
          return;
        }
        reviews.inc({ outcome: outcome.outcome, code: outcome.code });
        seconds.observe((performance.now() - began) / 1000);
        const answer = Buffer.from(JSON.stringify(outcome.review), "utf8");
        response
          .writeHead(200, {
            "content-type": "application/json",
            "content-length": answer.length,
            ...(stopped ? { connection: "close" } : {}),
          })
          .end(answer);
      })
      // A review that we cannot read is no answer; the API server's policies decide without us.
      .catch((error: unknown) => {
        log({ level: "error", event: "review", message: error instanceof Error ? error.message : "" });
        if (!response.headersSent) response.writeHead(400);
        response.end();
      });
  };
  const plain = async (path: string, response: ServerResponse): Promise<void> => {
    if (path === "/metrics")
      response.writeHead(200, { "content-type": registry.contentType }).end(await registry.metrics());
    else if (path === "/livez") response.writeHead(200).end("ok");
    else if (path === "/readyz") response.writeHead(ready() ? 200 : 503).end(ready() ? "ok" : "not synced");
    else response.writeHead(404).end();
  };
  const ready = (): boolean => published && !stopped && index !== undefined;

  let stopped = false;
  const first = await certificates.refresh();
  const server: Server & { setSecureContext?: unknown } = createServer(
    { key: first.leaf.key, cert: first.leaf.certificate, minVersion: "TLSv1.2" },
    onRequest,
  );
  const https = server as ReturnType<typeof createServer>;
  https.keepAliveTimeout = 120_000;
  const refresh = async (): Promise<void> => {
    const { leaf, bundle, changed } = await certificates.refresh();
    if (changed || !published) {
      // Checked first: a context that does not load must not replace one that does.
      createSecureContext({ key: leaf.key, cert: leaf.certificate });
      https.setSecureContext({ key: leaf.key, cert: leaf.certificate, minVersion: "TLSv1.2" });
    }
    notAfter.set(expiresAt(leaf.certificate) / 1000);
    for (const [plural, kind] of CONFIGURATIONS) await publish(plural, kind, bundle);
    published = true;
  };
  // Only the caBundle is ours: the rest belongs to the installer, and a name it does not have is not added.
  const publish = async (plural: string, kind: string, bundle: string): Promise<void> => {
    const path = `/apis/admissionregistration.k8s.io/v1/${plural}/atoll`;
    const caBundle = Buffer.from(bundle, "utf8").toString("base64");
    const stored = await client.json(path);
    const webhooks = (Array.isArray(stored["webhooks"]) ? stored["webhooks"] : []).filter(isMap);
    const current = webhooks.every(
      (w: JsonMap) => isMap(w["clientConfig"]) && w["clientConfig"]["caBundle"] === caBundle,
    );
    if (current) return;
    await applyObject(
      client,
      path,
      {
        apiVersion: "admissionregistration.k8s.io/v1",
        kind,
        metadata: { name: "atoll" },
        webhooks: webhooks.map((w: JsonMap) => ({
          name: w["name"] ?? null,
          clientConfig: { caBundle },
          // Required members of an entry: repeated as stored, for an apply has to be a valid object by itself.
          sideEffects: w["sideEffects"] ?? null,
          admissionReviewVersions: w["admissionReviewVersions"] ?? null,
        })),
      },
      "atoll-webhook",
    );
  };

  await new Promise<void>((resolve, reject) => {
    https.once("error", reject);
    https.listen(options.port, resolve);
  });
  await Promise.all([indices.synced, namespaces.synced, trust.synced]);
  const attempt = (): void =>
    void refresh().catch((error: unknown) =>
      log({ level: "error", event: "certificates", message: error instanceof Error ? error.message : "" }),
    );
  attempt();
  const timer = setInterval(attempt, options.refreshMs ?? 30_000);
  const address = https.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : options.port,
    ready,
    metrics: () => registry.metrics(),
    refresh,
    async stop() {
      stopped = true;
      clearInterval(timer);
      // Whoever still sends over a kept connection is answered, and told that it was the last time there: a connection that we
      // closed first could take a review with it that is just on its way.
      const end = performance.now() + (options.drainMs ?? 3000);
      const connections = (): Promise<number> =>
        new Promise((resolve) => https.getConnections((_, count) => resolve(count)));
      while (performance.now() < end && (await connections()) > 0)
        await new Promise((resolve) => setTimeout(resolve, 50));
      for (const r of [indices, namespaces, trust]) r.stop();
      await new Promise<void>((resolve) => {
        https.close(() => resolve());
        https.closeIdleConnections();
        setTimeout(() => https.closeAllConnections(), 2000).unref();
      });
    },
  };
}

/** By events: an iterator over the stream costs a third of a review. */
function readBody(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let size = 0;
    request.on("data", (part: Buffer) => {
      size += part.length;
      if (size <= BODY_LIMIT) parts.push(part);
      else {
        request.removeAllListeners("data");
        request.resume();
        reject(new Error("the review is too large"));
      }
    });
    request.once("end", () => resolve(Buffer.concat(parts).toString("utf8")));
    request.once("error", reject);
    request.once("close", () => reject(new Error("the review was cut")));
  });
}
