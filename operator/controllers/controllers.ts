// The controllers: local copies, a queue of keys, and for each key read, judge (elsewhere, purely), apply.

import type { Registry } from "prom-client";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import type { TrustRoots } from "../../kernel/trust/trust.ts";
import type { RemoteOptions } from "../bundle/fetch.ts";
import { SYSTEM_NAMESPACE, isMap } from "../kinds/kinds.ts";
import type { GuardianSidecar, JsonMap, PolicyBundle } from "../kinds/kinds.ts";
import { watchProtection } from "../protection/protection.ts";
import { makeQueue, recordEvents, reflect } from "../runtime/runtime.ts";
import type { Client, Reflector } from "../runtime/runtime.ts";
import { TRUST_CONFIG_MAP } from "../shape/shape.ts";
import type { ShapeSettings } from "../shape/shape.ts";
import { isGoverned, trustObject } from "../sidecar/sidecar.ts";
import { makeBundles } from "./bundles.ts";
import { makeCopies } from "./copies.ts";
import { makeMetrics } from "./metrics.ts";
import { makeNetworks } from "./networks.ts";
import { makePodIndex } from "./pods.ts";
import type { Pods } from "./pods.ts";
import { podState, projectKind, projectNamespace, projectSidecar } from "./projection.ts";
import { KINDS, MANAGER, makeSaying, same } from "./saying.ts";
import { keepShapes, projectIndex } from "./shapes.ts";
import { makeSidecars } from "./sidecars.ts";
import type { Heard } from "./sidecars.ts";
import { makeWatchdog } from "./watchdog.ts";

export { MANAGER } from "./saying.ts";
export type { Pods } from "./pods.ts";

/** A bundle may be 128 KiB of text. */
const BUNDLE_PAGE = 10;

export interface ControllersOptions extends Heard {
  readonly client: Client;
  readonly instance: string;
  readonly requireSignature: boolean;
  readonly controlUrl: string;
  readonly canary: string;
  readonly controlCa: () => string;
  /** Address of the egress gateway and its authority; absent where there is none. */
  readonly gateway?: string;
  readonly gatewayCa?: () => string;
  readonly log: (line: JsonMap) => void;
  /** How contents from outside the cluster are reached; for tests. */
  readonly remote?: RemoteOptions;
  readonly now?: () => number;
  /** Called after pods or sidecars have changed. */
  readonly onLook?: () => void;
  /** How long the installer's objects may differ from his words before they are put back. */
  readonly protectionGraceMs?: number;
  /** How long a pod may be unguarded before it is evicted, where that is asked for. */
  readonly evictionGraceMs?: number;
}
export interface Controllers {
  readonly registry: Registry;
  readonly synced: Promise<void>;
  readonly pods: Pods;
  readonly sidecars: ReadonlyMap<string, GuardianSidecar>;
  /** Works the queue from now on; until then only copies are kept. */
  start(): void;
  idle(): Promise<void>;
  /** The installer's keys; undefined while they cannot be read. */
  readonly roots: () => TrustRoots | undefined;
  /** Asks for a new look at a sidecar, as when a guardian has reported. */
  touch(sidecar: string): void;
  stop(): void;
}
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export function makeControllers(options: ControllersOptions): Controllers {
  const { client, log } = options;
  const now = options.now ?? Date.now;
  const metrics = makeMetrics();
  const events = recordEvents(client, options.instance);
  const saying = makeSaying(client, events, (reason) => metrics.refused.inc({ reason }));
  const copies = makeCopies(client);

  let started = false;
  const wanted = new Set<string>(["protection", "trust", "bundles", "index"]);
  const add = (key: string): void => {
    if (started) queue.add(key);
    else wanted.add(key);
  };
  // A freeze waits for nothing that is in the queue.
  let looking: NodeJS.Timeout | undefined;
  const look = (): void => {
    looking ??= setTimeout(() => {
      looking = undefined;
      if (started) options.onLook?.();
    }, 10);
  };
  const allSidecars = (): void => {
    for (const name of sidecarCopies.items.keys()) add(`sidecar/${name}`);
  };
  const follow = <T>(
    kind: string,
    path: string,
    project: (o: JsonMap) => T | undefined,
    onChange: (key: string, value: T | undefined) => void,
    more?: {
      readonly query?: Record<string, string>;
      readonly page?: number;
      readonly metadataOnly?: boolean;
    },
  ): Reflector<T> =>
    reflect({
      client,
      path,
      project,
      onChange,
      ...more,
      onRestart: (reason, detail) => {
        metrics.restarts.inc({ kind, reason });
        if (reason !== "ended") log({ level: "warn", event: "watch", kind, reason, message: detail });
      },
    });

  const bundleCopies = follow(
    "PolicyBundle",
    `${KINDS}/policybundles`,
    (o) => projectKind(o) as unknown as PolicyBundle,
    () => add("bundles"),
    { page: BUNDLE_PAGE },
  );
  const sidecarCopies = follow("GuardianSidecar", `${KINDS}/guardiansidecars`, projectSidecar, (name) => {
    look();
    add(`sidecar/${name}`);
    add("bundles");
    add("index");
  });
  const namespaces = follow("Namespace", "/api/v1/namespaces", projectNamespace, () => {
    add("trust");
    allSidecars();
  });
  // The roots themselves, so that an edit of the copy in any namespace is undone by the next look.
  let roots: TrustRoots | undefined;
  let rootsPem = "";
  const trustCopies = follow(
    "ConfigMap",
    `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`,
    (o) => (isMap(o["data"]) && typeof o["data"]["roots.pem"] === "string" ? o["data"]["roots.pem"] : ""),
    () => {
      // The list of admitted images lies there too.
      shapes.doubt();
      add("trust");
      add("bundles");
      allSidecars();
    },
    { query: { fieldSelector: `metadata.name=${TRUST_CONFIG_MAP}` } },
  );
  const pods = makePodIndex();
  const podList = follow("Pod", "/api/v1/pods", podState, (key, pod) => {
    pods.set(key, pod);
    if (pod !== undefined && (pod.frozen !== "" || pod.unfreeze !== "")) look();
    queue.addAfter("pods", 500);
  });
  const networks = makeNetworks({
    client,
    manager: MANAGER,
    pods,
    sidecars: () => sidecarCopies.items,
    touch: (name) => add(`sidecar/${name}`),
    follow: (path, project, onChange) => follow("NetworkPolicy", path, project, onChange),
  });

  const loadRoots = (): TrustRoots | undefined => {
    const text = trustCopies.items.get(`${SYSTEM_NAMESPACE}/${TRUST_CONFIG_MAP}`) ?? "";
    if (text === rootsPem && roots !== undefined) return roots;
    rootsPem = text;
    try {
      roots = text === "" ? undefined : parseTrustRoots(text);
    } catch (error) {
      roots = undefined;
      log({ level: "error", event: "trust-roots", message: messageOf(error) });
    }
    return roots;
  };
  const settings = (): ShapeSettings => ({
    trustRootsSha256: sha256(rootsPem),
    controlUrl: options.controlUrl,
    canary: options.canary,
    gateway: options.gateway ?? "",
  });

  const indices = follow("ShapeIndex", `${KINDS}/shapeindexes`, projectIndex, (key) => {
    const stored = indices.items.get("cluster");
    // Somebody else's edit of the index is undone at once.
    if (key !== "cluster" || same(stored, JSON.parse(JSON.stringify(shapes.index())))) return;
    shapes.doubt();
    add("index");
  });
  const shapes = keepShapes({
    client,
    manager: MANAGER,
    settings,
    sidecars: sidecarCopies.items,
    stored: () => indices.items.get("cluster"),
  });
  const bundles = makeBundles({
    client,
    saying,
    bundles: bundleCopies.items,
    sidecars: sidecarCopies.items,
    roots: loadRoots,
    requireSignature: options.requireSignature,
    remote: options.remote,
    running: (sidecar) => options.running?.(sidecar) ?? [],
    now,
    onCommitted: () => add("bundles"),
    again: (ms) => queue.addAfter("bundles", ms),
  });
  const protection = watchProtection({
    client,
    log,
    now,
    graceMs: options.protectionGraceMs,
    onChange: () => add("protection"),
    again: (ms) => queue.addAfter("protection", ms),
    onRepair: (kind, name) => {
      metrics.repairs.inc({ name });
      events.emit(
        { apiVersion: "admissionregistration.k8s.io/v1", kind, metadata: { name } },
        "Warning",
        "ProtectionRepaired",
        `${name} was deleted or changed and is put back as the installer left it`,
      );
    },
  });
  const sidecars = makeSidecars({
    ...options,
    sidecars: sidecarCopies.items,
    namespaces: namespaces.items,
    pods,
    bundles,
    shapes,
    networks,
    copies,
    watchdog: makeWatchdog({
      client,
      now,
      ...(options.evictionGraceMs === undefined ? {} : { graceMs: options.evictionGraceMs }),
      onEvicted: (sidecar, pod, result) => {
        metrics.evictions.inc({ sidecar, result });
        log({ event: "eviction", sidecar, pod: `${pod.namespace}/${pod.name}`, result });
      },
    }),
    saying,
    metrics,
    rootsReadable: () => loadRoots() !== undefined,
    missing: () => protection.missing(),
    again: (name, ms) => queue.addAfter(`sidecar/${name}`, ms),
    now,
  });

  async function copyTrust(): Promise<void> {
    loadRoots();
    if (rootsPem === "") return;
    for (const namespace of namespaces.items.values()) {
      if (!isGoverned(namespace) || namespace.deleting) continue;
      const problem = await copies.apply(trustObject(namespace.name, rootsPem));
      if (problem !== undefined) throw new Error(problem);
    }
  }

  // Our copies in governed namespaces: what somebody changes or deletes is applied again.
  const ownMaps = follow(
    "ConfigMap",
    "/api/v1/configmaps",
    (o) => {
      const meta = isMap(o["metadata"]) ? o["metadata"] : {};
      return typeof meta["resourceVersion"] === "string" ? meta["resourceVersion"] : "";
    },
    (key) => {
      const [namespace = "", name = ""] = key.split("/");
      if (copies.doubt(namespace, name))
        queue.addAfter(
          name === TRUST_CONFIG_MAP ? "trust" : `sidecar/${name.replace("atoll-policy-", "")}`,
          200,
        );
    },
    // What stands in them is not looked at, only that it is no longer what we wrote.
    { query: { labelSelector: "app.kubernetes.io/managed-by=atoll" }, metadataOnly: true },
  );

  const queue = makeQueue({
    concurrency: 1,
    onError: (key, error, failures) => {
      metrics.reconciles.inc({ controller: key.split("/")[0] ?? "", result: "error" });
      log({
        level: "error",
        event: "reconcile",
        key,
        failures,
        message: messageOf(error),
      });
    },
    work: async (key) => {
      // What is to be done for one key may never wait for anything: streams and reviews have their turn in between.
      await new Promise((resolve) => setImmediate(resolve));
      const [controller = "", name = ""] = key.split("/");
      if (controller === "bundles") {
        await bundles.reconcile();
        allSidecars();
      } else if (controller === "trust") await copyTrust();
      else if (controller === "index") await shapes.write();
      else if (controller === "protection") {
        await protection.work();
        allSidecars();
      } else if (controller === "sidecar") await sidecars.reconcile(name);
      else if (controller === "pods") {
        options.onLook?.();
        await networks.sweep();
        allSidecars();
      }
      metrics.reconciles.inc({ controller, result: "success" });
    },
  });

  const reflectors = [
    bundleCopies,
    sidecarCopies,
    namespaces,
    trustCopies,
    podList,
    indices,
    ownMaps,
    networks.reflector,
  ];
  return {
    registry: metrics.registry,
    synced: Promise.all([protection.synced, ...reflectors.map((r) => r.synced)]).then(() => undefined),
    pods,
    sidecars: sidecarCopies.items,
    roots: loadRoots,
    start() {
      started = true;
      // Bundles first: a sidecar that is judged before them would be told that it has none.
      queue.add("trust");
      queue.add("bundles");
      for (const key of wanted) queue.add(key);
      wanted.clear();
    },
    idle: () => queue.idle(),
    touch: (sidecar) => add(`sidecar/${sidecar}`),
    stop() {
      clearTimeout(looking);
      queue.stop();
      protection.stop();
      for (const r of reflectors) r.stop();
    },
  };
}
