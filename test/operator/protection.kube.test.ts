// What no stored policy can prevent: the end of a policy. The operator puts it back, and how long that takes is measured.
import { afterAll, beforeAll, expect, test } from "vitest";
import { apply, until } from "./api.ts";
import type { Api, Json, Reply } from "./api.ts";
import { INSTALLER, policies, sidecarSpec } from "./shapes.ts";
import { bundle, pod, startWhole } from "./whole.ts";
import type { Whole } from "./whole.ts";

let whole: Whole;
let api: Api;
const GROUP = "/apis/admissionregistration.k8s.io/v1";
const KINDS = "/apis/atoll.dev/v1alpha1";
const naked: Json = { ...pod("naked"), spec: { containers: [{ name: "a", image: "a" }] } };

beforeAll(async () => {
  whole = await startWhole();
  api = whole.api;
  await apply(api, bundle({ version: 1 }));
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec(),
  });
  // From here on the webhook does not help: what refuses is the policy alone.
  await until("the shape is in force", async () => (await create(pod("x"))).status === 201);
  const path = `${GROUP}/mutatingwebhookconfigurations/atoll`;
  expect((await api.call("DELETE", path, undefined, undefined, INSTALLER)).message).toBe("");
  await until("the webhook is no longer asked", async () =>
    (await create(naked)).message.includes("atoll-shape"),
  );
});
afterAll(() => whole.stop());

const create = (object: Json): Promise<Reply> =>
  api.call("POST", "/api/v1/namespaces/team-a/pods?dryRun=All", object);
const degraded = async (): Promise<string> => {
  const condition = await whole.condition("guardiansidecars/strong", "ProtectionDegraded");
  return condition["status"] === "True" ? String(condition["message"]) : "";
};
const specOf = async (plural: string, name: string): Promise<unknown> =>
  (await api.call("GET", `${GROUP}/${plural}/${name}`)).body["spec"];

for (const plural of ["validatingadmissionpolicies", "validatingadmissionpolicybindings"])
  test(`every deleted object of ${plural} is back, word for word, within a second or two`, async () => {
    const names = policies()
      .filter((o) => `${String(o["kind"]).toLowerCase().replace(/y$/, "ie")}s` === plural)
      .map((o) => (o["metadata"] as { name: string }).name);
    expect(names.length).toBe(10);
    let longest = 0;
    for (const name of names) {
      const before = await specOf(plural, name);
      expect((await api.call("DELETE", `${GROUP}/${plural}/${name}`)).message).toBe("");
      const began = performance.now();
      await until(`${name} is back`, async () => (await specOf(plural, name)) !== undefined);
      longest = Math.max(longest, performance.now() - began);
      expect(await specOf(plural, name)).toEqual(before);
    }
    process.stdout.write(`${plural}: longest repair ${longest.toFixed(0)} ms\n`);
    const metrics = await whole.controllers.registry.metrics();
    for (const name of names) expect(metrics).toContain(`atoll_protection_repairs_total{name="${name}"}`);
  });

test("the gap between the end of atoll-shape's binding and the next refusal is measured, and closes", async () => {
  await until("it refuses", async () => (await create(naked)).message.includes("atoll-shape"));
  await api.call("DELETE", `${GROUP}/validatingadmissionpolicybindings/atoll-shape`);
  const began = performance.now();
  let open = 0;
  let last = 0;
  while (performance.now() - began < 3000) {
    if ((await create(naked)).status === 201) {
      open++;
      last = performance.now() - began;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  process.stdout.write(
    `binding deleted: ${open} dry runs were admitted, the last one after ${last.toFixed(0)} ms\n`,
  );
  await until("it refuses again", async () => (await create(naked)).message.includes("atoll-shape"));
});

test("a binding that is turned to Audit gets one beside it that denies, and the sidecar says so until it is deleted and put back", async () => {
  const path = `${GROUP}/validatingadmissionpolicybindings/atoll-shape`;
  const changed = await api.call(
    "PATCH",
    path,
    { spec: { validationActions: ["Audit"] } },
    "application/merge-patch+json",
  );
  expect(changed.message).toBe("");
  await until("it refuses again", async () => (await create(naked)).message.includes("atoll-shape-again-1"));
  await until("the sidecar says so", async () =>
    (await degraded()).includes("atoll-shape-again-1 stands in"),
  );
  await until("an Event tells it", async () => {
    const { body } = await api.call("GET", "/apis/events.k8s.io/v1/namespaces/default/events");
    return JSON.stringify(body).includes("ProtectionRepaired");
  });
  expect((await api.call("DELETE", path)).message).toBe("");
  await until("the copy is gone", async () => (await api.call("GET", `${path}-again-1`)).status === 404);
  await until(
    "the sidecar has nothing more to say of it",
    async () => !(await degraded()).includes("stands in"),
  );
  expect((await create(naked)).message).toContain("atoll-shape");
});

test("a policy that is emptied gets one beside it, with its binding", async () => {
  const path = `${GROUP}/validatingadmissionpolicies/atoll-keep`;
  await api.call(
    "PATCH",
    path,
    { spec: { matchConditions: [{ name: "never", expression: "false" }] } },
    "application/merge-patch+json",
  );
  for (const plural of ["validatingadmissionpolicies", "validatingadmissionpolicybindings"])
    await until(
      `the copy in ${plural}`,
      async () => (await api.call("GET", `${GROUP}/${plural}/atoll-keep-again-1`)).status === 200,
    );
  expect(await specOf("validatingadmissionpolicybindings", "atoll-keep-again-1")).toMatchObject({
    policyName: "atoll-keep-again-1",
  });
});

test("a sidecar that the installer's list does not admit says why, and holds up no other", async () => {
  const sidecar = (name: string, spec: Json): Promise<unknown> =>
    apply(api, { apiVersion: "atoll.dev/v1alpha1", kind: "GuardianSidecar", metadata: { name }, spec });
  await sidecar("foreign", {
    ...sidecarSpec(),
    image: `evil.example/x@sha256:${"e".repeat(64)}`,
    namespaceSelector: { matchLabels: { team: "e" } },
  });
  await sidecar("open", {
    ...sidecarSpec(),
    island: { inPodLock: "none" },
    namespaceSelector: { matchLabels: { team: "o" } },
  });
  await sidecar("later", { ...sidecarSpec(), namespaceSelector: { matchLabels: { team: "l" } } });
  const says = async (name: string): Promise<string> =>
    String((await whole.condition(`guardiansidecars/${name}`, "Injected"))["message"]);
  await until("foreign says why", async () => (await says("foreign")).includes("guardian.digests"));
  await until("open says why", async () => (await says("open")).includes("guardian.unlocked"));
  await until("the other two are in the index", async () => {
    const { body } = await api.call("GET", `${KINDS}/shapeindexes/cluster`);
    const { sidecars } = body["spec"] as { sidecars: { name: string }[] };
    return sidecars.map((s) => s.name).join() === "later,strong";
  });
});
