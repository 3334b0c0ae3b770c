// The controllers: local copies, a queue of keys, and for each key read, judge (elsewhere, purely), apply.

import { Counter, Gauge, Registry, collectDefaultMetrics } from "prom-client";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import type { HighWater } from "../../kernel/policy/policy.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import type { TrustRoots } from "../../kernel/trust/trust.ts";
import { bundleStatus, judgeBundles } from "../bundle/bundle.ts";
import { fetchContent } from "../bundle/fetch.ts";
import type { Fetched, Judgement } from "../bundle/bundle.ts";
import { API_VERSION, SYSTEM_NAMESPACE, isMap } from "../kinds/kinds.ts";
import type { GuardianSidecar, JsonMap, PolicyBundle, Shape } from "../kinds/kinds.ts";
import { islandConditions } from "../island/island.ts";
import type { CanaryWatch, ProofCount } from "../island/island.ts";
import { watchProtection } from "../protection/protection.ts";
import { applyObject, makeQueue, notFound, recordEvents, reflect } from "../runtime/runtime.ts";
import type { Client, Reflector } from "../runtime/runtime.ts";
import { TRUST_CONFIG_MAP } from "../shape/shape.ts";
import type { ShapeSettings } from "../shape/shape.ts";
import {
  bundleText,
  isGoverned,
  pickBundle,
  policyObject,
  selectedNamespaces,
  sidecarStatus,
  takeCensus,
  trustObject,
} from "../sidecar/sidecar.ts";
import type { Picked, PodState } from "../sidecar/sidecar.ts";
import { makeNetworks } from "./networks.ts";
import type { StagedPod } from "../rollout/rollout.ts";
import { makeStaging } from "./staging.ts";
import type { Given } from "./staging.ts";
import { keepShapes, projectIndex } from "./shapes.ts";
import { podState, projectKind, projectNamespace, projectSidecar } from "./projection.ts";

export const MANAGER = "atoll-operator";
const KINDS = "/apis/atoll.dev/v1alpha1";
const HIGH_WATER = "atoll-high-water";
const AGAIN_MS = 5000;

export interface ControllersOptions {
  readonly client: Client;
  readonly instance: string;
  readonly requireSignature: boolean;
  readonly controlUrl: string;
  readonly canary: string;
  readonly controlCa: () => string;
  readonly log: (line: JsonMap) => void;
  readonly now?: () => number;
  /** What guardians told the control stream: content hashes and how many run each. */
  readonly running?: (sidecar: string) => readonly { readonly hash: string; readonly pods: number }[];
  /** Called with what is committed for a sidecar, so that the control stream can announce it. */
  readonly onPolicy?: (sidecar: string, given: Given, ceiling: Judgement | undefined) => void;
  /** The living pods of a sidecar as they reported last. */
  readonly reported?: (sidecar: string) => readonly StagedPod[];
  /** What guardians of a sidecar told of their island. */
  /** Freezes of a sidecar that nobody has lifted. */
  readonly frozen?: (sidecar: string) => readonly { readonly reason: string }[];
  readonly proofs?: (sidecar: string) => ProofCount;
  /** The positive control of the canary; absent when there is no canary. */
  readonly canaryWatch?: () => CanaryWatch | undefined;
  /** Called after pods or sidecars have changed. */
  readonly onLook?: () => void;
  /** How long the installer's objects may differ from his words before they are put back. */
  readonly protectionGraceMs?: number;
}
export interface Controllers {
  readonly registry: Registry;
  readonly synced: Promise<void>;
  readonly pods: ReadonlyMap<string, PodState>;
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

export function makeControllers(options: ControllersOptions): Controllers {
  const { client, log } = options;
  const now = options.now ?? Date.now;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const reconciles = new Counter({
    name: "controller_runtime_reconcile_total",
    help: "Reconciliations by controller and result",
    labelNames: ["controller", "result"],
    registers: [registry],
  });
  const restarts = new Counter({
    name: "watch_restarts_total",
    help: "Watches begun anew, by reason",
    labelNames: ["kind", "reason"],
    registers: [registry],
  });
  const refused = new Counter({
    name: "atoll_bundles_refused_total",
    help: "Bundles refused, by reason",
    labelNames: ["reason"],
    registers: [registry],
  });
  const unguarded = new Gauge({
    name: "atoll_pods_unguarded",
    help: "Pods that should be governed and are in no accepted shape",
    labelNames: ["sidecar"],
    registers: [registry],
  });
  const broken = new Gauge({
    name: "atoll_island_broken",
    help: "Guardians whose probe was answered that nobody should have answered, by leg",
    labelNames: ["sidecar", "leg"],
    registers: [registry],
  });
  const events = recordEvents(client, options.instance);

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
    for (const name of sidecars.items.keys()) add(`sidecar/${name}`);
  };
  const follow = <T>(
    kind: string,
    path: string,
    project: (o: JsonMap) => T | undefined,
    onChange: (key: string) => void,
    query?: Record<string, string>,
  ): Reflector<T> =>
    reflect({
      client,
      path,
      project,
      onChange,
      ...(query === undefined ? {} : { query }),
      onRestart: (reason, detail) => {
        restarts.inc({ kind, reason });
        if (reason !== "ended") log({ level: "warn", event: "watch", kind, reason, message: detail });
      },
    });

  const bundles = follow(
    "PolicyBundle",
    `${KINDS}/policybundles`,
    (o) => projectKind(o) as unknown as PolicyBundle,
    () => add("bundles"),
  );
  const sidecars = follow("GuardianSidecar", `${KINDS}/guardiansidecars`, projectSidecar, (name) => {
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
  const trust = follow(
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
    { fieldSelector: `metadata.name=${TRUST_CONFIG_MAP}` },
  );
  const podList = follow("Pod", "/api/v1/pods", podState, (key) => {
    const pod = podList.items.get(key);
    if (pod !== undefined && (pod.frozen !== "" || pod.unfreeze !== "")) look();
    queue.addAfter("pods", 500);
  });
  const networks = makeNetworks({
    client,
    manager: MANAGER,
    pods: () => podList.items,
    sidecars: () => sidecars.items,
    touch: (name) => add(`sidecar/${name}`),
    follow: (path, project, onChange) =>
      reflect({
        client,
        path,
        project,
        onChange,
        onRestart: (reason) => restarts.inc({ kind: "NetworkPolicy", reason }),
      }),
  });

  const loadRoots = (): void => {
    const text = trust.items.get(`${SYSTEM_NAMESPACE}/${TRUST_CONFIG_MAP}`) ?? "";
    if (text === rootsPem && roots !== undefined) return;
    rootsPem = text;
    try {
      roots = text === "" ? undefined : parseTrustRoots(text);
    } catch (error) {
      roots = undefined;
      log({ level: "error", event: "trust-roots", message: error instanceof Error ? error.message : "" });
    }
  };
  const settings = (): ShapeSettings => ({
    trustRootsSha256: sha256(rootsPem),
    controlUrl: options.controlUrl,
    canary: options.canary,
  });

  let judgements: ReadonlyMap<string, Judgement> = new Map();
  const fetchedCache = new Map<string, Fetched>();
  const highWater: Record<string, HighWater> = {};
  let highWaterLoaded = false;

  async function loadHighWater(): Promise<void> {
    if (highWaterLoaded) return;
    try {
      const map = await client.json(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${HIGH_WATER}`);
      for (const [id, text] of Object.entries(isMap(map["data"]) ? map["data"] : {}))
        highWater[id] = JSON.parse(text as string) as HighWater;
    } catch (error) {
      if (!notFound(error)) throw error;
    }
    highWaterLoaded = true;
  }
  async function commit(judgement: Judgement): Promise<void> {
    const { bundleId, version } = judgement.bundle.spec;
    const known = highWater[bundleId];
    if (known !== undefined && known.version >= version) return;
    const next: HighWater = { version, digest: judgement.digest as HighWater["digest"] };
    const all = { ...highWater, [bundleId]: next };
    await applyObject(
      client,
      `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${HIGH_WATER}`,
      {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: HIGH_WATER, namespace: SYSTEM_NAMESPACE },
        data: Object.fromEntries(Object.entries(all).map(([id, h]) => [id, JSON.stringify(h)])),
      },
      MANAGER,
    );
    highWater[bundleId] = next;
    add("bundles");
  }

  async function reconcileBundles(): Promise<void> {
    loadRoots();
    await loadHighWater();
    const list = [...bundles.items.values()];
    const uses = [...sidecars.items.values()];
    fetchedCache.clear();
    for (const bundle of list) fetchedCache.set(bundle.metadata.name, await fetchContent(client, bundle));
    const contentOf = (name: string): JsonObject | undefined => {
      const found = fetchedCache.get(name);
      return found?.ok === true ? found.content : undefined;
    };
    const judge = (ceilings: (id: string) => readonly JsonObject[]): ReadonlyMap<string, Judgement> =>
      judgeBundles({
        bundles: list,
        fetched: (b) =>
          fetchedCache.get(b.metadata.name) ?? { ok: false, reason: "NotFound", message: "not fetched" },
        roots,
        requireSignature: options.requireSignature,
        now: now(),
        highWater,
        ceilings,
      });
    // Ceilings first: they are judged without regard to anything else.
    const above = judge(() => []);
    judgements = judge((id) =>
      uses
        .filter((s) => s.spec.policyBundleRef.bundleId === id && s.spec.ceilingRef !== undefined)
        .flatMap((s) => {
          const ref = s.spec.ceilingRef;
          const picked = ref === undefined ? undefined : pickBundle(ref, "P0", "L1", above);
          const content = picked?.ok === true ? contentOf(picked.judgement.bundle.metadata.name) : undefined;
          return content === undefined ? [] : [content];
        }),
    );
    for (const judgement of judgements.values()) {
      const { bundle } = judgement;
      const status = bundleStatus(
        judgement,
        highWater[bundle.spec.bundleId],
        [...uses].reduce(
          (sum, s) =>
            sum +
            (options.running?.(s.metadata.name) ?? []).reduce(
              (n, r) => n + (r.hash === bundle.spec.contentHash ? r.pods : 0),
              0,
            ),
          0,
        ),
        now(),
      );
      tell(bundle, "PolicyBundle", bundle.status?.conditions, status.conditions ?? []);
      if (same(bundle.status, status)) continue;
      await applyStatus("PolicyBundle", "policybundles", bundle.metadata.name, status as unknown as JsonMap);
    }
    const next = [...judgements.values()].map((j) => j.again).filter((t) => t !== undefined && t > now());
    if (next.length > 0)
      queue.addAfter("bundles", Math.min(2_000_000_000, Math.min(...next.map(Number)) - now() + 50));
    allSidecars();
  }

  function tell(
    object: PolicyBundle | GuardianSidecar,
    kind: string,
    before: readonly { type: string; status: string; reason: string }[] | undefined,
    after: readonly { type: string; status: "True" | "False" | "Unknown"; reason: string; message: string }[],
  ): void {
    for (const condition of after) {
      const old = before?.find((c) => c.type === condition.type);
      if (old?.status === condition.status && old.reason === condition.reason) continue;
      const bad =
        condition.status === "False" &&
        [
          "Fetched",
          "Verified",
          "Compiled",
          "PolicyActive",
          "Injected",
          "EgressLocked",
          "NetworkPolicyEnforced",
        ].includes(condition.type);
      const alarm = condition.status === "True" && ["Drifted", "ProtectionDegraded"].includes(condition.type);
      const good =
        condition.status === "True" && ["Active", "PolicyActive", "Ready"].includes(condition.type);
      if (!bad && !alarm && !good) continue;
      if (bad && kind === "PolicyBundle") refused.inc({ reason: condition.reason });
      events.emit(
        { apiVersion: API_VERSION, kind, metadata: object.metadata },
        good ? "Normal" : "Warning",
        condition.reason,
        `${condition.type}: ${condition.message}`,
      );
    }
  }
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
  const applyStatus = (kind: string, plural: string, name: string, status: JsonMap): Promise<JsonMap> =>
    applyObject(
      client,
      `${KINDS}/${plural}/${name}/status`,
      {
        apiVersion: API_VERSION,
        kind,
        metadata: { name },
        status: JSON.parse(JSON.stringify(status)) as JsonMap,
      },
      MANAGER,
    );

  const indices = follow("ShapeIndex", `${KINDS}/shapeindexes`, projectIndex, (key) => {
    const stored = indices.items.get("cluster");
    // Somebody else's edit of the index is undone at once.
    if (key !== "cluster" || same(stored, JSON.parse(JSON.stringify(shapes.index())))) return;
    shapes.doubt();
    add("index");
  });
  const staging = makeStaging(now);
  const shapes = keepShapes({
    client,
    manager: MANAGER,
    settings,
    sidecars: sidecars.items,
    stored: () => indices.items.get("cluster"),
  });

  async function reconcileSidecar(name: string): Promise<void> {
    loadRoots();
    options.onLook?.();
    const sidecar = sidecars.items.get(name);
    if (sidecar === undefined) {
      unguarded.remove({ sidecar: name });
      for (const leg of ["lock", "network"]) broken.remove({ sidecar: name, leg });
      staging.forget(name);
      await shapes.drop(name);
      return;
    }
    const { spec } = sidecar;
    const problems: string[] = [];
    if (roots === undefined) problems.push("the installer's trust roots cannot be read");
    const taken =
      roots === undefined
        ? { problem: "the installer's trust roots cannot be read" }
        : await shapes.take(sidecar);
    let bundle = pickBundle(spec.policyBundleRef, "P1", spec.conformanceLevel, judgements);
    const ceiling =
      spec.ceilingRef === undefined ? undefined : pickBundle(spec.ceilingRef, "P0", "L1", judgements);
    const here = selectedNamespaces(sidecar, namespaces.items.values());
    // What is not good is not distributed: the ConfigMap keeps the last good one.
    let given: Given | undefined;
    if (bundle.ok && (ceiling === undefined || ceiling.ok) && options.controlCa() !== "") {
      given = staging.step(sidecar, bundle.judgement, judgements, () => options.reported?.(name) ?? []);
      bundle = { ok: true, judgement: given.committed };
      if (given.fell === true)
        events.emit(
          { apiVersion: API_VERSION, kind: "GuardianSidecar", metadata: sidecar.metadata },
          "Warning",
          "RolledBack",
          given.note?.message ?? "",
        );
      if (given.againMs !== undefined) queue.addAfter(`sidecar/${name}`, given.againMs);
      const from = {
        bundle: bundleText(bundle.judgement),
        ceiling: ceiling === undefined ? undefined : bundleText(ceiling.judgement),
        controlCa: options.controlCa(),
      };
      for (const namespace of here)
        await applyIfChanged(policyObject(name, namespace, from), "configmaps", problems);
      await commit(bundle.judgement);
      if (ceiling !== undefined) await commit(ceiling.judgement);
      options.onPolicy?.(name, given, ceiling?.judgement);
    }
    const walled = await networks.apply(sidecar, here, problems);
    await report(sidecar, bundle, ceiling, taken, here.length, problems, walled, given);
  }

  async function report(
    sidecar: GuardianSidecar,
    bundle: Picked,
    ceiling: Picked | undefined,
    taken: readonly Shape[] | { readonly problem: string },
    count: number,
    problems: readonly string[],
    walled: boolean,
    given: Given | undefined,
  ): Promise<void> {
    const { name } = sidecar.metadata;
    const current = new Set("problem" in taken ? [] : taken.map((s) => s.hash));
    const accepted = new Set([
      ...current,
      ...(sidecar.status?.earlierShapes ?? []),
      ...(sidecar.status?.shapes ?? []).map((s) => s.hash),
    ]);
    const census = takeCensus(
      name,
      shapes.index(),
      accepted,
      current,
      namespaces.items,
      podList.items.values(),
    );
    unguarded.set({ sidecar: name }, census.unguarded);
    const missing = protection.missing();
    const proofs = options.proofs?.(name);
    const watch = options.canaryWatch?.();
    for (const leg of ["lock", "network"] as const)
      broken.set({ sidecar: name, leg }, (proofs?.broken ?? []).filter((b) => b.leg === leg).length);
    const status = sidecarStatus({
      sidecar,
      bundle,
      ceiling,
      shapes: taken,
      ...(given === undefined ? {} : { given }),
      census,
      namespaces: count,
      running: options.running?.(name) ?? [],
      frozen: options.frozen?.(name) ?? [],
      problems,
      protection:
        missing.length === 0
          ? { ok: true, message: "all policies, bindings and webhooks are in place" }
          : {
              ok: false,
              message: `missing or changed: ${missing.join(", ")}; what is changed is put back after it is deleted, the rest needs the installer`,
            },
      ...islandConditions({
        sidecar,
        proofs,
        canary: watch === undefined ? "none" : watch.dead(),
        applied: walled,
        widenings: networks.widenings(sidecar),
        exposed: networks.exposed(name),
      }),
      now: now(),
    });
    tell(sidecar, "GuardianSidecar", sidecar.status?.conditions, status.conditions ?? []);
    // What guardians reported grows old without any object changing.
    queue.addAfter(`sidecar/${name}`, AGAIN_MS);
    if (!same(sidecar.status, status))
      await applyStatus("GuardianSidecar", "guardiansidecars", name, status as unknown as JsonMap);
  }

  const repairs = new Counter({
    name: "atoll_protection_repairs_total",
    help: "Policies and bindings of the installer that were put back",
    labelNames: ["name"],
    registers: [registry],
  });
  const protection = watchProtection({
    client,
    log,
    now,
    graceMs: options.protectionGraceMs,
    onChange: () => add("protection"),
    again: (ms) => queue.addAfter("protection", ms),
    onRepair: (kind, name) => {
      repairs.inc({ name });
      events.emit(
        { apiVersion: "admissionregistration.k8s.io/v1", kind, metadata: { name } },
        "Warning",
        "ProtectionRepaired",
        `${name} was deleted or changed and is put back as the installer left it`,
      );
    },
  });
  const applied = new Map<string, string>();
  async function applyIfChanged(object: JsonMap, plural: string, problems: string[]): Promise<void> {
    const meta = object["metadata"] as { name: string; namespace: string };
    const path = `/api/v1/namespaces/${meta.namespace}/${plural}/${meta.name}`;
    const text = sha256(JSON.stringify(object));
    if (applied.get(path) === text) return;
    try {
      await applyObject(client, path, object, MANAGER);
      applied.set(path, text);
    } catch (error) {
      problems.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async function copyTrust(): Promise<void> {
    loadRoots();
    if (rootsPem === "") return;
    for (const namespace of namespaces.items.values()) {
      if (!isGoverned(namespace) || namespace.deleting) continue;
      const problems: string[] = [];
      await applyIfChanged(trustObject(namespace.name, rootsPem), "configmaps", problems);
      if (problems[0] !== undefined) throw new Error(problems[0]);
    }
  }
  // Our copies in governed namespaces: what somebody changes or deletes is applied again.
  const copies = follow(
    "ConfigMap",
    "/api/v1/configmaps",
    (o) => {
      const meta = isMap(o["metadata"]) ? o["metadata"] : {};
      return typeof meta["resourceVersion"] === "string" ? meta["resourceVersion"] : "";
    },
    (key) => {
      const [namespace = "", name = ""] = key.split("/");
      if (applied.delete(`/api/v1/namespaces/${namespace}/configmaps/${name}`))
        queue.addAfter(
          name === TRUST_CONFIG_MAP ? "trust" : `sidecar/${name.replace("atoll-policy-", "")}`,
          200,
        );
    },
    { labelSelector: "app.kubernetes.io/managed-by=atoll" },
  );

  const queue = makeQueue({
    concurrency: 1,
    onError: (key, error, failures) => {
      reconciles.inc({ controller: key.split("/")[0] ?? "", result: "error" });
      log({
        level: "error",
        event: "reconcile",
        key,
        failures,
        message: error instanceof Error ? error.message : "",
      });
    },
    work: async (key) => {
      const [controller = "", name = ""] = key.split("/");
      if (controller === "bundles") await reconcileBundles();
      else if (controller === "trust") await copyTrust();
      else if (controller === "index") await shapes.write();
      else if (controller === "protection") {
        await protection.work();
        allSidecars();
      } else if (controller === "sidecar") await reconcileSidecar(name);
      else if (controller === "pods") {
        options.onLook?.();
        await networks.sweep();
        allSidecars();
      }
      reconciles.inc({ controller, result: "success" });
    },
  });

  const reflectors = [bundles, sidecars, namespaces, trust, podList, indices, copies, networks.reflector];
  return {
    registry,
    synced: Promise.all([protection.synced, ...reflectors.map((r) => r.synced)]).then(() => undefined),
    pods: podList.items,
    sidecars: sidecars.items,
    roots() {
      loadRoots();
      return roots;
    },
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

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isMap(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, v]) => v !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => [k, sorted(v)]),
  );
}
