// Our NetworkPolicies: applied, repaired, and whatever else selects governed pods looked at. A connection that was opened
// while an island was wider lives on after the repair, so the pods of that moment are remembered until they are gone.

import {
  added,
  egressRules,
  foreignPolicy,
  ingressRules,
  islandPolicies,
  widenings,
} from "../island/island.ts";
import type { ForeignPolicy, Widening } from "../island/island.ts";
import { LABEL_SIDECAR, isMap } from "../kinds/kinds.ts";
import type { GuardianSidecar, Json, JsonMap } from "../kinds/kinds.ts";
import { applyObject, notFound } from "../runtime/runtime.ts";
import type { Client, Reflector } from "../runtime/runtime.ts";
import type { NamespaceState, PodState } from "../sidecar/sidecar.ts";
import type { Pods } from "./pods.ts";

const PATH = "/apis/networking.k8s.io/v1";

/** What is kept of one NetworkPolicy: the whole of what it says, and whether it is ours. */
interface Kept extends ForeignPolicy {
  /** The sidecar's name, "" for anybody else's. */
  readonly ours: string;
  readonly spec: string;
}
const canonical = (value: Json | undefined): string =>
  JSON.stringify(value, (_, v: Json) =>
    isMap(v) ? Object.fromEntries(Object.entries(v).toSorted(([a], [b]) => (a < b ? -1 : 1))) : v,
  );

function keep(object: JsonMap): Kept {
  const meta = isMap(object["metadata"]) ? object["metadata"] : {};
  const labels = isMap(meta["labels"]) ? meta["labels"] : {};
  const sidecar = labels[LABEL_SIDECAR];
  const policy = foreignPolicy(object);
  const ours = typeof sidecar === "string" && policy.name === `atoll-island-${sidecar}` ? sidecar : "";
  return { ...policy, ours, spec: canonical(object["spec"]) };
}

export interface Networks {
  readonly reflector: Reflector<Kept>;
  /** Applies what a sidecar should have in its namespaces, and says whether it stood already. */
  apply(sidecar: GuardianSidecar, here: readonly NamespaceState[], problems: string[]): Promise<boolean>;
  widenings(sidecar: GuardianSidecar): readonly Widening[];
  /** `namespace/name` of living pods that ran while their island was wider. */
  exposed(sidecar: string): readonly string[];
  /** Removes our policies of sidecars that are gone, once the last of their pods is. */
  sweep(): Promise<void>;
}

export function makeNetworks(options: {
  readonly client: Client;
  readonly manager: string;
  readonly pods: Pods;
  readonly sidecars: () => ReadonlyMap<string, GuardianSidecar>;
  readonly follow: (
    path: string,
    project: (o: JsonMap) => Kept,
    onChange: (key: string, value: Kept | undefined) => void,
  ) => Reflector<Kept>;
  readonly touch: (sidecar: string) => void;
}): Networks {
  const { client } = options;
  const exposed = new Map<string, { readonly sidecar: string; readonly pod: string }>();
  /** What we wanted when we last looked, by `namespace/name`. */
  const wanted = new Map<string, string>();

  const podsOf = (sidecar: string, namespace?: string): PodState[] => {
    const found: PodState[] = [];
    for (const pod of options.pods.of(sidecar))
      if (!pod.finished && (namespace === undefined || pod.namespace === namespace)) found.push(pod);
    return found;
  };
  const own = (sidecar: GuardianSidecar) => ({
    ingress: ingressRules(),
    egress: egressRules(sidecar),
  });
  const note = (sidecar: string, pods: readonly PodState[]): void => {
    for (const pod of pods) exposed.set(pod.uid, { sidecar, pod: `${pod.namespace}/${pod.name}` });
  };
  /** Seen at the moment of the change, because a policy may be gone again before anybody's turn comes. */
  const look = (key: string, value: Kept | undefined): void => {
    const mine = wanted.get(key);
    if (mine !== undefined) {
      if (value?.spec === mine) return;
      const sidecar = key.slice(key.indexOf("/") + 1).replace("atoll-island-", "");
      const known = options.sidecars().get(sidecar);
      // Narrower than ours opens nothing.
      const rules = known === undefined ? undefined : own(known);
      const opened =
        value === undefined ||
        rules === undefined ||
        !value.types.includes("Egress") ||
        !value.types.includes("Ingress") ||
        canonical(value.podSelector) !== canonical({ matchLabels: { [LABEL_SIDECAR]: sidecar } }) ||
        added(value.egress, rules.egress, "to") !== undefined ||
        added(value.ingress, rules.ingress, "from") !== undefined;
      if (opened)
        note(
          sidecar,
          podsOf(sidecar).filter((p) => key.startsWith(`${p.namespace}/`)),
        );
      options.touch(sidecar);
      return;
    }
    const namespace = key.slice(0, key.indexOf("/"));
    for (const sidecar of options.sidecars().values()) {
      if (sidecar.spec.island?.networkPolicy === false) continue;
      const { name } = sidecar.metadata;
      // Where it has no pods the policy is none of its business; pods that come later are looked at then.
      const pods = podsOf(name, namespace);
      if (pods.length === 0) continue;
      const wide = value === undefined || value.ours !== "" ? [] : widenings(pods, own(sidecar), [value]);
      const hit = new Set(wide.flatMap((w) => w.pods));
      note(
        name,
        pods.filter((p) => hit.has(`${p.namespace}/${p.name}`)),
      );
      options.touch(name);
    }
  };
  const reflector = options.follow(`${PATH}/networkpolicies`, keep, look);
  const pathOf = (key: string): string => {
    const [namespace = "", name = ""] = key.split("/");
    return `${PATH}/namespaces/${namespace}/networkpolicies/${name}`;
  };
  const remove = async (key: string): Promise<void> => {
    try {
      await client.json(pathOf(key), { method: "DELETE" });
    } catch (error) {
      if (!notFound(error)) throw error;
    }
  };

  return {
    reflector,
    async apply(sidecar, here, problems) {
      const { name } = sidecar.metadata;
      let stood = true;
      for (const namespace of here) {
        const key = `${namespace.name}/atoll-island-${name}`;
        const [policy] = islandPolicies(sidecar, namespace.name);
        if (policy === undefined) {
          wanted.delete(key);
          if (reflector.items.has(key)) await remove(key);
          continue;
        }
        const spec = canonical(policy["spec"]);
        const found = reflector.items.get(key);
        wanted.set(key, spec);
        if (found?.spec === spec && found.ours === name) continue;
        try {
          const answer = await applyObject(client, pathOf(key), policy, options.manager);
          // Somebody else's field that our apply does not own would stay: it is told, not believed away.
          if (canonical(answer["spec"]) !== spec) stood = false;
        } catch (error) {
          stood = false;
          problems.push(`NetworkPolicy ${key}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }
      return stood;
    },
    widenings: (sidecar) =>
      sidecar.spec.island?.networkPolicy === false
        ? []
        : widenings(
            podsOf(sidecar.metadata.name),
            own(sidecar),
            [...reflector.items.values()].filter((p) => p.ours === ""),
          ),
    exposed(sidecar) {
      const living = new Set(podsOf(sidecar).map((p) => p.uid));
      for (const [uid, at] of exposed) if (at.sidecar === sidecar && !living.has(uid)) exposed.delete(uid);
      return [...exposed.values()].filter((e) => e.sidecar === sidecar).map((e) => e.pod);
    },
    async sweep() {
      for (const [key, policy] of reflector.items) {
        if (policy.ours === "" || options.sidecars().has(policy.ours)) continue;
        if (podsOf(policy.ours).some((p) => p.namespace === policy.namespace)) continue;
        wanted.delete(key);
        await remove(key);
      }
    },
  };
}
