// Where the API server is the installer's own: the static policy refuses what stored policies cannot see, and nothing has to be
// put back.
import { afterAll, beforeAll, expect, test } from "vitest";
import { fileURLToPath } from "node:url";
import { startApi } from "./api.ts";
import type { Api, Json } from "./api.ts";
import { INSTALLER, OPERATOR, enforce, ground, policies } from "./shapes.ts";

let api: Api;
const GROUP = "/apis/admissionregistration.k8s.io/v1";
const pathOf = (object: Json): string => {
  const kind = String(object["kind"]).toLowerCase();
  const { name } = object["metadata"] as { name: string };
  return `${GROUP}/${kind.endsWith("y") ? `${kind.slice(0, -1)}ies` : `${kind}s`}/${name}`;
};

beforeAll(async () => {
  api = await startApi({
    staticPolicies: fileURLToPath(new URL("../../charts/atoll/static", import.meta.url)),
  });
  await ground(api);
  await enforce(api);
});
afterAll(() => api.stop());

test("every deletion of a policy or binding of ours is refused, also as system:masters and as the operator", async () => {
  for (const object of policies())
    for (const as of [undefined, OPERATOR])
      for (const dry of ["", "?dryRun=All"]) {
        const reply = await api.call("DELETE", `${pathOf(object)}${dry}`, undefined, undefined, as);
        expect([pathOf(object), as, reply.status >= 400]).toEqual([pathOf(object), as, true]);
        if (as === undefined)
          expect(reply.message).toContain("act as system:serviceaccount:atoll-system:atoll-installer");
      }
});

test("every weakening is refused: Audit, Ignore, no rules, another parameter", async () => {
  for (const object of policies()) {
    const edit: Json =
      object["kind"] === "ValidatingAdmissionPolicy"
        ? { spec: { failurePolicy: "Ignore" } }
        : { spec: { validationActions: ["Audit"] } };
    const reply = await api.call("PATCH", pathOf(object), edit, "application/merge-patch+json");
    expect([pathOf(object), reply.status, reply.message]).toEqual([
      pathOf(object),
      reply.status,
      expect.stringContaining("act as system:serviceaccount:atoll-system:atoll-installer"),
    ]);
  }
});

test("all of them at once are refused too, and all of them are still there", async () => {
  for (const plural of ["validatingadmissionpolicies", "validatingadmissionpolicybindings"])
    await api.call("DELETE", `${GROUP}/${plural}`);
  for (const object of policies())
    expect([pathOf(object), (await api.call("GET", pathOf(object))).status]).toEqual([pathOf(object), 200]);
});

test("somebody else's policy is nobody's business, and the installer changes ours", async () => {
  const other: Json = {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingAdmissionPolicy",
    metadata: { name: "somebody-else" },
    spec: {
      matchConstraints: {
        resourceRules: [{ apiGroups: ["x"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["y"] }],
      },
      validations: [{ expression: "true" }],
    },
  };
  expect((await api.call("POST", `${GROUP}/validatingadmissionpolicies`, other)).message).toBe("");
  expect((await api.call("DELETE", pathOf(other))).message).toBe("");
  const [first] = policies();
  if (first === undefined) throw new Error("there is no policy");
  expect((await api.call("DELETE", pathOf(first), undefined, undefined, INSTALLER)).message).toBe("");
});
