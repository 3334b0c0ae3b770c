// Keeps watch over what guards governed pods in the API server itself: the installer's policies, bindings and webhook
// configurations. What is deleted or changed is put back within a second, and the condition ProtectionDegraded tells it.

import { parseAllDocuments } from "yaml";
import { SYSTEM_NAMESPACE, isMap } from "../kinds/kinds.ts";
import type { JsonMap } from "../kinds/kinds.ts";
import { ApiError, notFound, reflect } from "../runtime/runtime.ts";
import type { Client, Reflector } from "../runtime/runtime.ts";
import { PLURALS, planProtection, protectionObjects, textOf } from "./plan.ts";
import type { ProtectionKind, Stored, Wanted } from "./plan.ts";

const GROUP = "/apis/admissionregistration.k8s.io/v1";
const CONFIG_MAP = "atoll-protection";
const KEY = `${SYSTEM_NAMESPACE}/${CONFIG_MAP}`;
// While the installer is at work its objects change one after the other, and what looks changed is only not yet.
const GRACE_MS = 60_000;
const WEBHOOKS = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] as const;
const NEEDED = {
  mutatingwebhookconfigurations: "pods.atoll.dev",
  validatingwebhookconfigurations: "kinds.atoll.dev",
} as const;

export interface Protection {
  readonly synced: Promise<void>;
  /** What is not as the installer left it; empty when all is well. */
  missing(): readonly string[];
  /** Looks, and creates what is missing. */
  work(): Promise<void>;
  stop(): void;
}

const lastChange = (object: JsonMap): number => {
  const meta = isMap(object["metadata"]) ? object["metadata"] : {};
  const fields = Array.isArray(meta["managedFields"]) ? meta["managedFields"] : [];
  return Math.max(
    0,
    ...fields.map((f) => (isMap(f) && typeof f["time"] === "string" ? Date.parse(f["time"]) : 0)),
  );
};
const gone = (error: unknown): void => {
  if (!notFound(error)) throw error;
};

export function watchProtection(options: {
  readonly client: Client;
  readonly onChange: () => void;
  readonly onRepair: (kind: string, name: string) => void;
  readonly log: (line: JsonMap) => void;
  readonly now: () => number;
  readonly graceMs?: number | undefined;
  /** Asks for another look after so long. */
  readonly again: (ms: number) => void;
}): Protection {
  const { client, log } = options;
  const ours = (name: unknown): boolean => typeof name === "string" && name.startsWith("atoll");
  const specs = (plural: string): Reflector<string> =>
    reflect({
      client,
      path: `${GROUP}/${plural}`,
      project: (o) =>
        isMap(o["metadata"]) && ours(o["metadata"]["name"]) && isMap(o["spec"])
          ? textOf(o["spec"])
          : undefined,
      onChange: options.onChange,
    });
  const stored = {
    ValidatingAdmissionPolicy: specs(PLURALS.ValidatingAdmissionPolicy),
    ValidatingAdmissionPolicyBinding: specs(PLURALS.ValidatingAdmissionPolicyBinding),
  } satisfies Record<ProtectionKind, Reflector<string>>;
  const webhooks = WEBHOOKS.map((plural) =>
    reflect({
      client,
      path: `${GROUP}/${plural}`,
      query: { fieldSelector: "metadata.name=atoll" },
      project: (o) => {
        const list = Array.isArray(o["webhooks"]) ? o["webhooks"].filter(isMap) : [];
        // Those on which something hangs; advice to people may fail open.
        return list.some((w: JsonMap) => w["name"] === NEEDED[plural] && w["failurePolicy"] === "Fail");
      },
      onChange: options.onChange,
    }),
  );
  const installed = reflect({
    client,
    path: `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`,
    query: { fieldSelector: `metadata.name=${CONFIG_MAP}` },
    project: (o) => ({ data: isMap(o["data"]) ? o["data"] : {}, at: lastChange(o) }),
    onChange: options.onChange,
  });

  let known: { readonly text: string; readonly wanted: readonly Wanted[] } = { text: "", wanted: [] };
  let missing: readonly string[] = [];

  /** The installer's words as the API server would store them, learned by a dry run under another name. */
  const asStored = async (one: Wanted): Promise<Wanted> => {
    const answer = await client.json(`${GROUP}/${PLURALS[one.kind]}?dryRun=All`, {
      method: "POST",
      body: { ...objectOf(one), metadata: { name: `${one.name}-as-stored` } },
    });
    return { ...one, spec: isMap(answer["spec"]) ? answer["spec"] : one.spec };
  };
  const objectOf = (one: Wanted): JsonMap => ({
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: one.kind,
    metadata: { name: one.name, labels: { "app.kubernetes.io/part-of": "atoll" } },
    spec: one.spec,
  });
  const load = async (): Promise<readonly Wanted[]> => {
    const data = installed.items.get(KEY)?.data;
    if (data === undefined) return [];
    const text = JSON.stringify(data);
    if (text !== known.text) {
      const objects = protectionObjects(
        Object.values(data).flatMap((t) =>
          typeof t === "string" ? parseAllDocuments(t).map((d): unknown => d.toJS()) : [],
        ),
      );
      const wanted: Wanted[] = [];
      for (const one of objects) wanted.push(await asStored(one));
      known = { text, wanted };
    }
    return known.wanted;
  };

  return {
    synced: Promise.all([...Object.values(stored), ...webhooks, installed].map((r) => r.synced)).then(
      () => undefined,
    ),
    missing: () => missing,
    async work() {
      const wanted = await load();
      const now: Stored = {
        ValidatingAdmissionPolicy: stored.ValidatingAdmissionPolicy.items,
        ValidatingAdmissionPolicyBinding: stored.ValidatingAdmissionPolicyBinding.items,
      };
      const plan = planProtection(wanted, now);
      missing = [
        ...(wanted.length === 0 ? [`ConfigMap ${SYSTEM_NAMESPACE}/${CONFIG_MAP}`] : []),
        ...plan.changed,
        ...WEBHOOKS.filter((_, i) => webhooks[i]?.items.get("atoll") !== true).map(
          (plural) => `${plural}/atoll`,
        ),
      ];
      const rest = (installed.items.get(KEY)?.at ?? 0) + (options.graceMs ?? GRACE_MS) - options.now();
      if (rest > 0) {
        options.again(rest);
        return;
      }
      for (const one of plan.create) {
        log({ level: "warn", event: "protection", message: `${one.kind} ${one.name} is put back` });
        try {
          await client.json(`${GROUP}/${PLURALS[one.kind]}`, { method: "POST", body: objectOf(one) });
          options.onRepair(one.kind, one.name);
        } catch (error) {
          // Our copy was behind: the watch brings what is there now.
          if (!(error instanceof ApiError && error.status === 409)) throw error;
        }
      }
      for (const one of plan.remove)
        await client.json(`${GROUP}/${PLURALS[one.kind]}/${one.name}`, { method: "DELETE" }).catch(gone);
    },
    stop() {
      for (const r of [...Object.values(stored), ...webhooks, installed]) r.stop();
    },
  };
}
