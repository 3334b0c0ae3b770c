// Whether the installer's policies, bindings and webhooks are still there. They are not ours to repair: the operator's
// rights do not reach them, so that taking the operator over does not open them.

import { isMap } from "../kinds/kinds.ts";
import { notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";

const GROUP = "/apis/admissionregistration.k8s.io/v1";
export const POLICIES: readonly string[] = [
  "atoll-shape",
  "atoll-dry-run",
  "atoll-keep",
  "atoll-touch",
  "atoll-touch-nodes",
  "atoll-protect",
  "atoll-protect-kinds",
  "atoll-protect-namespaces",
  "atoll-protect-networks",
  "atoll-roots",
];
const WANTED: readonly string[] = [
  ...POLICIES.map((p) => `validatingadmissionpolicies/${p}`),
  ...POLICIES.map((p) => `validatingadmissionpolicybindings/${p}`),
  "mutatingwebhookconfigurations/atoll",
  "validatingwebhookconfigurations/atoll",
];

/** What is missing, or no longer denies. */
export async function missingProtection(client: Client): Promise<string[]> {
  const missing: string[] = [];
  await Promise.all(
    WANTED.map(async (name) => {
      try {
        const object = await client.json(`${GROUP}/${name}`);
        const spec = isMap(object["spec"]) ? object["spec"] : {};
        const actions = spec["validationActions"];
        const weak =
          (name.startsWith("validatingadmissionpolicies/") && spec["failurePolicy"] !== "Fail") ||
          (name.startsWith("validatingadmissionpolicybindings/") &&
            !(Array.isArray(actions) && actions.includes("Deny")));
        if (weak) missing.push(`${name} (does not deny)`);
      } catch (error) {
        if (!notFound(error)) throw error;
        missing.push(name);
      }
    }),
  );
  return missing.toSorted();
}
