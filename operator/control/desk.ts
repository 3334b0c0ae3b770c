// What the control stream has to say, kept in one place: policies by sidecar, freezes, approvals, guardians' reports.

import { sha256 } from "../../kernel/crypto/crypto.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { isHash } from "../../kernel/contracts/contracts.ts";
import type { Binding } from "../../kernel/trust/trust.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import type { FreezeOrder, TrustRoots } from "../../kernel/trust/trust.ts";
import type { Judgement } from "../bundle/bundle.ts";
import { ANNOTATION_UNFREEZE, API_VERSION, LABEL_SIDECAR, isMap } from "../kinds/kinds.ts";
import type { GuardianSidecar, Json, JsonMap } from "../kinds/kinds.ts";
import type { Pods } from "../controllers/controllers.ts";
import type { ProofCount } from "../island/island.ts";
import { applyObject, reflect } from "../runtime/runtime.ts";
import type { StagedPod } from "../rollout/rollout.ts";
import type { Client } from "../runtime/runtime.ts";
import { bundleText } from "../sidecar/sidecar.ts";
import type { PodState } from "../sidecar/sidecar.ts";
import type { Control, GuardianReport, StreamEvent, StreamPod } from "./control.ts";
import { approvalEvent, asked, statusOf } from "./asked.ts";
import { makeFreezeOrders, said } from "./freezes.ts";
import type { PodIdentity } from "./identity.ts";

export interface DeskOptions {
  readonly client: Client;
  readonly pods: () => Pods;
  readonly sidecars: () => ReadonlyMap<string, GuardianSidecar>;
  readonly onChange: (sidecar: string) => void;
  /** The installer's keys, to see whether a lifting lifts. */
  readonly roots: () => TrustRoots | undefined;
  readonly log: (line: JsonMap) => void;
  readonly now?: () => number;
}
export interface Desk {
  /** Reads the freezes that were ordered before; nothing is told to guardians until then. */
  load(): Promise<void>;
  /** Freezes of a scope that nobody has lifted. */
  frozen(scope: string): readonly FreezeOrder[];
  podOf(identity: PodIdentity): StreamPod | undefined;
  snapshot(pod: StreamPod): StreamEvent[];
  bundleByHash(hash: string): string | undefined;
  /** What a guardian's key is bound to when it is published. */
  bindingOf(identity: PodIdentity): Binding;
  setPolicy(
    sidecar: string,
    given: {
      readonly committed: Judgement;
      readonly staged?: { readonly bundle: Judgement; readonly uids: ReadonlySet<string> };
    },
    ceiling: Judgement | undefined,
  ): void;
  /** The living pods of a sidecar as they reported last. */
  reported(sidecar: string): readonly StagedPod[];
  onReport(report: GuardianReport): void;
  onChallenge(identity: PodIdentity, challenge: JsonMap): Promise<void>;
  /** Hashes that the guardians of a sidecar said they run. */
  running(sidecar: string): { readonly hash: string; readonly pods: number }[];
  /** What the guardians of a sidecar told of their island. */
  proofs(sidecar: string): ProofCount;
  attach(control: Control): void;
  /** Looks at freezes again, after pods or sidecars have changed. */
  look(): void;
  stop(): void;
}

const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
/** Guardians report every few seconds. */
const REPORT_FRESH_MS = 30_000;

/** What a sidecar's guardians are told to run. */
interface Policies {
  readonly event: StreamEvent;
  readonly staged: { readonly event: StreamEvent; readonly uids: ReadonlySet<string> } | undefined;
}

export function makeDesk(options: DeskOptions): Desk {
  const now = options.now ?? Date.now;
  const policies = new Map<string, Policies>();
  const bundles = new Map<string, string>();
  const reports = new Map<string, GuardianReport>();
  /** What the guardians of a scope were told while they were connected. */
  const told = new Map<string, ReadonlySet<string>>();
  let control: Control | undefined;

  const byUid = (uid: string): PodState | undefined => options.pods().byUid(uid);
  const orders = makeFreezeOrders({
    client: options.client,
    roots: options.roots,
    log: options.log,
    now,
  });
  const takeSidecar = (name: string): boolean => {
    const sidecar = options.sidecars().get(name);
    return (
      sidecar !== undefined &&
      orders.take(
        `gs/${name}`,
        said({
          reason: sidecar.spec.freeze?.reason ?? "",
          by: sidecar.spec.freeze?.by ?? "",
          stamp: sidecar.freezeStamp ?? "",
          unfreeze: sidecar.metadata.annotations?.[ANNOTATION_UNFREEZE] ?? "",
        }),
      )
    );
  };
  const takePod = (pod: PodState): boolean =>
    orders.take(
      `pod/${pod.uid}`,
      said({ reason: pod.frozen, stamp: pod.freezeStamp ?? "", unfreeze: pod.unfreeze }),
    );
  /** Tells the guardians of a scope what they have not been told yet. */
  const spread = (scope: string, to: Parameters<Control["send"]>[0]): void => {
    const events = orders.events(scope);
    const before = told.get(scope);
    told.set(scope, new Set(events.map((e) => JSON.stringify(e))));
    for (const event of events) if (before?.has(JSON.stringify(event)) !== true) control?.send(to, event);
  };
  const spreadAll = (): void => {
    for (const scope of orders.scopes) {
      const [kind, name = ""] = scope.split("/");
      spread(scope, kind === "gs" ? { sidecar: name } : { podUid: name });
    }
  };

  // Approvals: what people put into a status goes to the guardian that asked; it judges the signatures.
  const approvals = reflect({
    client: options.client,
    path: "/apis/atoll.dev/v1alpha1/approvalrequests",
    project: asked,
    onChange: (_key, value) => {
      if (value !== undefined && value.answered)
        control?.send({ podUid: value.podUid }, approvalEvent(value));
    },
  });

  return {
    podOf(identity) {
      const pod = options.pods().get(`${identity.namespace}/${identity.podName}`);
      const sidecar = pod?.labels[LABEL_SIDECAR];
      return pod === undefined || sidecar === undefined || pod.shape === "" || pod.uid !== identity.podUid
        ? undefined
        : { uid: pod.uid, sidecar };
    },
    snapshot(pod) {
      const policy = policies.get(pod.sidecar);
      // Nothing that an object asks for is missed by whoever connects before the next look.
      const state = byUid(pod.uid);
      if (takeSidecar(pod.sidecar) || (state !== undefined && takePod(state))) {
        spreadAll();
        void orders.store();
      }
      return [
        ...orders.events(`gs/${pod.sidecar}`),
        ...orders.events(`pod/${pod.uid}`),
        ...(policy === undefined
          ? []
          : [policy.staged?.uids.has(pod.uid) === true ? policy.staged.event : policy.event]),
        ...[...approvals.items.values()].filter((a) => a.podUid === pod.uid && a.answered).map(approvalEvent),
      ];
    },
    bundleByHash: (hash) => bundles.get(hash),
    bindingOf(identity) {
      const pod = byUid(identity.podUid);
      const hash = policies.get(pod?.labels[LABEL_SIDECAR] ?? "")?.event.data["hash"];
      return {
        pod_uid: identity.podUid,
        service_account: `${identity.namespace}/${identity.serviceAccount}`,
        image: pod?.image ?? "",
        // No policy has been committed for it yet.
        bundle_hash: isHash(hash) ? hash : sha256(""),
      };
    },
    setPolicy(sidecar, given, ceiling) {
      const strategy = options.sidecars().get(sidecar)?.spec.rollout?.strategy ?? "Live";
      const announce = (bundle: Judgement, committed: boolean): StreamEvent => {
        const { contentHash, version, bundleId } = bundle.bundle.spec;
        bundles.set(contentHash, bundleText(bundle));
        return {
          event: "policy",
          data: {
            bundle_id: bundleId,
            version,
            hash: contentHash,
            ceiling_hash: ceiling?.bundle.spec.contentHash ?? "",
            committed,
            // OnRestart: told, so that it is fetched and kept, and taken up by the next start.
            activate: strategy !== "OnRestart",
          },
        };
      };
      if (ceiling !== undefined) bundles.set(ceiling.bundle.spec.contentHash, bundleText(ceiling));
      const next: Policies = {
        event: announce(given.committed, true),
        staged:
          given.staged === undefined
            ? undefined
            : { event: announce(given.staged.bundle, false), uids: given.staged.uids },
      };
      const before = policies.get(sidecar);
      const text = (p: Policies | undefined): string =>
        JSON.stringify([p?.event, p?.staged?.event, [...(p?.staged?.uids ?? [])]]);
      if (text(before) === text(next)) return;
      policies.set(sidecar, next);
      // Only those hear of it for whom something has changed.
      if (JSON.stringify(before?.event) !== JSON.stringify(next.event))
        control?.send({ sidecar }, next.event);
      else
        for (const podUid of before?.staged?.uids ?? [])
          if (next.staged?.uids.has(podUid) !== true) control?.send({ podUid }, next.event);
      for (const podUid of next.staged?.uids ?? [])
        if (next.staged !== undefined) control?.send({ podUid }, next.staged.event);
    },
    reported: (sidecar) =>
      [...options.pods().of(sidecar)].flatMap((pod) => {
        const report = reports.get(pod.uid);
        return report === undefined || pod.finished
          ? []
          : [{ uid: pod.uid, hash: report.policyHash, totals: report.decisions, at: report.at }];
      }),
    onReport(report) {
      const before = reports.get(report.identity.podUid);
      reports.set(report.identity.podUid, report);
      const said = (r: GuardianReport): string =>
        JSON.stringify([r.policyHash, r.lockProved, r.networkProved, r.failing]);
      const changed = before === undefined || said(before) !== said(report);
      const sidecar = byUid(report.identity.podUid)?.labels[LABEL_SIDECAR];
      if (changed && sidecar !== undefined) options.onChange(sidecar);
      const { namespace, podUid } = report.identity;
      for (const told of report.approvals) {
        const name = told.id.replace("_", "-");
        const known = approvals.items.get(`${namespace}/${name}`);
        // A guardian speaks of its own approvals, and only what is new is written.
        if (known?.podUid !== podUid || known.id !== told.id) continue;
        const status = statusOf(told, known, now());
        if (status === undefined) continue;
        void applyObject(
          options.client,
          `/apis/atoll.dev/v1alpha1/namespaces/${namespace}/approvalrequests/${name}/status`,
          { apiVersion: API_VERSION, kind: "ApprovalRequest", metadata: { name, namespace }, status },
          "atoll-control",
        ).catch((error: unknown) =>
          options.log({
            level: "error",
            event: "approval-status",
            approval: told.id,
            message: error instanceof Error ? error.message : "",
          }),
        );
      }
    },
    async onChallenge(identity, challenge) {
      const id = text(challenge["approval_id"]);
      if (!/^apr_[0-9a-f]{32}$/.test(id)) throw new Error("approval_id is not an approval's id");
      const ceremony = isMap(challenge["ceremony"]) ? challenge["ceremony"] : {};
      const path = `/apis/atoll.dev/v1alpha1/namespaces/${identity.namespace}/approvalrequests`;
      const name = id.replace("_", "-");
      await applyObject(
        options.client,
        `${path}/${name}`,
        {
          apiVersion: API_VERSION,
          kind: "ApprovalRequest",
          metadata: {
            name,
            namespace: identity.namespace,
            // It goes when its pod goes; what was decided is in the pod's journal.
            ownerReferences: [
              {
                apiVersion: "v1",
                kind: "Pod",
                name: identity.podName,
                uid: identity.podUid,
                controller: false,
              },
            ],
          },
          spec: {
            approvalId: id,
            sidecar: byUid(identity.podUid)?.labels[LABEL_SIDECAR] ?? "",
            pod: identity.podName,
            podUid: identity.podUid,
            tool: challenge["tool"] ?? "",
            principal: challenge["principal"] ?? "",
            quorum: ceremony["quorum"] ?? 1,
            challengeHash: sha256(canonicalize(challenge as JsonObject)),
            challenge,
            expiresAt: challenge["expires_at"] ?? "",
          },
        },
        "atoll-control",
      );
    },
    running(sidecar) {
      const counts = new Map<string, number>();
      for (const pod of options.pods().of(sidecar)) {
        const report = reports.get(pod.uid);
        if (report === undefined || pod.finished) continue;
        if (report.policyHash !== "") counts.set(report.policyHash, (counts.get(report.policyHash) ?? 0) + 1);
      }
      return [...counts]
        .map(([hash, pods]) => ({ hash, pods }))
        .toSorted((a, b) => (a.hash < b.hash ? -1 : 1));
    },
    proofs(sidecar) {
      let [reported, proved, networkTried, networkProved] = [0, 0, 0, 0];
      const broken: { leg: "lock" | "network"; pod: string; probe: string }[] = [];
      for (const pod of options.pods().of(sidecar)) {
        const report = reports.get(pod.uid);
        if (report === undefined || pod.finished) continue;
        // One that has fallen silent proves nothing any more, and is counted as one that has not proved.
        const fresh = now() - report.at < REPORT_FRESH_MS;
        reported++;
        if (report.lockProved && fresh) proved++;
        if (report.networkProved !== undefined) networkTried++;
        if (report.networkProved === true && fresh) networkProved++;
        for (const { leg, probe } of report.failing)
          broken.push({ leg, pod: `${pod.namespace}/${pod.name}`, probe });
      }
      return { reported, proved, networkTried, networkProved, broken };
    },
    attach(to) {
      control = to;
    },
    async load() {
      for (const end = now() + 30_000; !orders.loaded; )
        try {
          await orders.load();
        } catch (error) {
          if (now() > end) throw error;
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
    },
    frozen: (scope) => orders.inForce(scope),
    look() {
      const living = new Set<string>();
      let news = false;
      for (const name of options.sidecars().keys()) if (takeSidecar(name)) news = true;
      for (const pod of options.pods().values()) {
        living.add(pod.uid);
        if (pod.labels[LABEL_SIDECAR] !== undefined && pod.shape !== "" && takePod(pod)) news = true;
      }
      for (const scope of orders.scopes)
        if (scope.startsWith("pod/") && !living.has(scope.slice(4))) {
          orders.forget(scope);
          told.delete(scope);
        }
      for (const uid of reports.keys()) if (!living.has(uid)) reports.delete(uid);
      control?.sweep();
      // Told and kept at once: nobody waits for a disk to be stopped.
      if (news) spreadAll();
      void orders.store();
    },
    stop: () => approvals.stop(),
  };
}
