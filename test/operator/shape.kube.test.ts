// What may be created in a governed namespace, judged by the API server alone: there is no webhook in this cluster, and
// everything is tried as system:masters.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { IndexEntry } from "../../operator/kinds/kinds.ts";
import {
  INSTALLER,
  enforce,
  entryFrom,
  governedPod,
  ground,
  namespace,
  sidecarSpec,
  storeIndex,
} from "./shapes.ts";
import { ADMITTED, REFUSED, another, list, meta, spec } from "./deviations.ts";
import { apply, startApi, until } from "./api.ts";
import { tryGenerated } from "./generated.ts";
import type { Api, Json, Reply } from "./api.ts";

let api: Api;
let strong: IndexEntry;
let base: Json;
const A = { "atoll.dev/governed": "true", team: "a" };
const plain = (name: string, labels: Record<string, string> = {}): Json => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels },
  spec: { containers: [{ name: "agent", image: "agent:1", securityContext: { runAsUser: 1000 } }] },
});
const create = (pod: Json, where = "team-a", how = "?dryRun=All"): Promise<Reply> =>
  api.call("POST", `/api/v1/namespaces/${where}/pods${how}`, pod);

beforeAll(async () => {
  api = await startApi();
  await ground(api);
  for (const name of ["proved", "strange"])
    await api.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", {
      apiVersion: "node.k8s.io/v1",
      kind: "RuntimeClass",
      metadata: { name },
      handler: name,
    });
  strong = await entryFrom(
    api,
    "strong",
    sidecarSpec({
      runtimeClasses: ["proved"],
      credentials: [{ name: "GITHUB_TOKEN", secretRef: { name: "github", key: "token" } }],
      resources: [
        { class: "default", cpu: "100m", memory: "256Mi" },
        { class: "large", cpu: "1", memory: "1Gi" },
      ],
    }),
  );
  await storeIndex(api, [strong]);
  await enforce(api);
  await namespace(api, "team-a", A);
  base = await governedPod(api, plain("x"), A, [strong]);
});
afterAll(() => api.stop());

describe("with the webhook down", () => {
  for (const [what, change] of ADMITTED)
    test(`admits ${what}`, async () => {
      const pod = structuredClone(base);
      change(pod);
      expect((await create(pod)).message).toBe("");
    });
  for (const [what, change, words] of REFUSED)
    test(`refuses ${what}`, async () => {
      const pod = structuredClone(base);
      change(pod);
      const reply = await create(pod);
      expect([reply.status >= 400, reply.message]).toEqual([true, expect.stringContaining(words)]);
      if (words !== "") expect(reply.message).toContain("atoll-shape");
    });
});

type Path = readonly (string | number)[];
/** Every change of exactly one thing below `value`: another value, nothing, or something more. */
function* changes(
  value: unknown,
  path: Path,
): Generator<readonly [path: Path, change: (root: Json) => void]> {
  const at = (root: unknown): { parent: Record<string | number, unknown>; key: string | number } => {
    let parent = root as Record<string | number, unknown>;
    for (const key of path.slice(0, -1)) parent = parent[key] as Record<string | number, unknown>;
    return { parent, key: path.at(-1) ?? "" };
  };
  const set =
    (next: unknown): ((root: Json) => void) =>
    (root) => {
      const { parent, key } = at(root);
      parent[key] = next;
    };
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) yield* changes(item, [...path, i]);
    yield [[...path, "-"], (root) => void (at(root).parent[at(root).key] as unknown[]).splice(-1, 1)];
    yield [
      [...path, "+"],
      (root) => {
        const items = at(root).parent[at(root).key] as unknown[];
        items.push(structuredClone(items[0] ?? "x"));
      },
    ];
    return;
  }
  if (typeof value === "object" && value !== null) {
    for (const [key, item] of Object.entries(value)) yield* changes(item, [...path, key]);
    yield [
      [...path, "x"],
      (root) => {
        const { parent, key } = at(root);
        delete parent[key];
      },
    ];
    return;
  }
  yield [
    path,
    set(typeof value === "number" ? value + 1 : typeof value === "boolean" ? !value : `${String(value)}x`),
  ];
  yield [
    [...path, "x"],
    (root) => {
      const { parent, key } = at(root);
      delete parent[key];
    },
  ];
}
/** Members that a container or a volume could have and ours have not. */
const MORE: readonly (readonly [key: string, value: unknown])[] = [
  ["args", ["x"]],
  ["envFrom", [{ secretRef: { name: "x" } }]],
  ["workingDir", "/tmp"],
  ["stdin", true],
  ["stdinOnce", true],
  ["tty", true],
  ["volumeDevices", [{ name: "block", devicePath: "/dev/x" }]],
  ["resizePolicy", [{ resourceName: "cpu", restartPolicy: "RestartContainer" }]],
  ["terminationMessagePolicy", "FallbackToLogsOnError"],
  ["terminationMessagePath", "/tmp/x"],
  ["imagePullPolicy", "Always"],
  ["env", [{ name: "NODE_OPTIONS", value: "x" }]],
  ["lifecycle", { postStart: { sleep: { seconds: 1 } } }],
  ["livenessProbe", { exec: { command: ["true"] } }],
];
const SECURITY: readonly (readonly [key: string, value: unknown])[] = [
  ["procMount", "Unmasked"],
  ["seLinuxOptions", { level: "s0:c1,c2" }],
  ["appArmorProfile", { type: "Unconfined" }],
  ["windowsOptions", { hostProcess: false }],
];

test("every change of one field of the three containers and of our volumes is refused", async () => {
  const ours = list(spec(base), "volumes").flatMap((v, i) =>
    String(v["name"]).startsWith("atoll-") ? [["volumes", i, v] as const] : [],
  );
  const containers = [0, 1, 2].map(
    (i) => ["initContainers", i, list(spec(base), "initContainers")[i]] as const,
  );
  let [tried, byShape] = [0, 0];
  const admitted: string[] = [];
  const attempt = async (path: Path, change: (root: Json) => void): Promise<void> => {
    const pod = structuredClone(base);
    change(pod);
    const reply = await create(pod);
    tried++;
    if (reply.status < 400) {
      // Left out, some members are filled in by the API server with the very value that was left out.
      const answer = spec(reply.body);
      const same =
        [0, 1, 2].every(
          (i) => JSON.stringify(list(answer, "initContainers")[i]) === JSON.stringify(containers[i]?.[2]),
        ) &&
        JSON.stringify(list(answer, "volumes").filter((v) => String(v["name"]).startsWith("atoll-"))) ===
          JSON.stringify(ours.map((o) => o[2]));
      if (!same) admitted.push(path.join("/"));
    } else if (reply.message.includes("atoll-shape")) byShape++;
  };
  for (const [key, index, object] of [...containers, ...ours])
    for (const [path, change] of changes(object, ["spec", key, index])) await attempt(path, change);
  for (const [key, index] of containers) {
    for (const [name, value] of MORE)
      await attempt(["spec", key, index, `+${name}`], (pod) => {
        const one = list(spec(pod), key)[index] ?? {};
        one[name] = Array.isArray(one[name]) ? [...(one[name] as unknown[]), ...(value as unknown[])] : value;
      });
    for (const [name, value] of SECURITY)
      await attempt(["spec", key, index, "securityContext", `+${name}`], (pod) => {
        const one = list(spec(pod), key)[index] ?? {};
        one["securityContext"] = { ...(one["securityContext"] as Json), [name]: value };
      });
  }
  expect(admitted).toEqual([]);
  expect(tried).toBeGreaterThan(400);
  expect(byShape).toBeGreaterThan(tried / 2);
  process.stdout.write(
    `one-field deviations: ${tried} tried, ${byShape} refused by atoll-shape, the rest by the API server itself or filled in again\n`,
  );
});

test("whatever the injector makes of a generated pod is admitted by the policy", async () => {
  const tally = await tryGenerated(api, strong, A, 120, 1);
  expect(tally.wrong).toEqual([]);
  expect(tally.admitted).toBeGreaterThan(10);
  process.stdout.write(
    `generated pods: ${tally.taken} taken ungoverned, ${tally.admitted} injected and admitted, ${tally.refused} refused by the injector\n`,
  );
});

describe("several GuardianSidecars", () => {
  const entry = (name: string, match: IndexEntry["match"]): IndexEntry => ({
    ...strong,
    name,
    match,
    shapes: strong.shapes,
  });
  const B = { "atoll.dev/governed": "true", team: "b" };
  const both: Json = {};
  beforeAll(async () => {
    const coder = await entryFrom(
      api,
      "coder",
      sidecarSpec({
        namespaceSelector: { matchLabels: { team: "b" } },
        podSelector: { matchExpressions: [{ key: "role", operator: "In", values: ["coder", "both"] }] },
      }),
    );
    const planner = await entryFrom(
      api,
      "planner",
      sidecarSpec({
        namespaceSelector: { matchLabels: { team: "b" } },
        podSelector: { matchExpressions: [{ key: "role", operator: "In", values: ["planner", "both"] }] },
      }),
    );
    await storeIndex(api, [strong, coder, planner, entry("nobody", [])]);
    await namespace(api, "team-b", B);
    await namespace(api, "team-c", { "atoll.dev/governed": "true", team: "c" });
    await namespace(api, "free", {});
    both["coder"] = await governedPod(api, plain("c", { role: "coder" }), B, [coder]);
    both["planner"] = await governedPod(api, plain("p", { role: "planner" }), B, [planner]);
    await until(
      "the index is in force",
      async () => (await create(both["coder"] as Json, "team-b")).status === 201,
    );
  });
  const relabelled = (pod: unknown, labels: Record<string, string>): Json => {
    const copy = structuredClone(pod as Json);
    meta(copy)["labels"] = { ...(meta(copy)["labels"] as Json), ...labels };
    return copy;
  };
  test("each pod has the shape of its own", async () => {
    expect((await create(both["coder"] as Json, "team-b")).message).toBe("");
    expect((await create(both["planner"] as Json, "team-b")).message).toBe("");
  });
  test("another's shape is refused, with either label", async () => {
    const swapped = relabelled(both["coder"], { role: "planner" });
    expect((await create(swapped, "team-b")).message).toContain("has to be planner");
    expect(
      (await create(relabelled(swapped, { "atoll.dev/sidecar": "planner" }), "team-b")).message,
    ).toContain("not exactly those of GuardianSidecar planner");
  });
  test("a pod that none takes, and one that two take, are refused with the candidates' names", async () => {
    expect((await create(relabelled(both["coder"], { role: "other" }), "team-b")).message).toContain(
      "there are coder, planner",
    );
    expect((await create(relabelled(both["coder"], { role: "both" }), "team-b")).message).toContain(
      "(coder, planner)",
    );
  });
  test("a governed namespace that no GuardianSidecar selects takes nothing", async () => {
    expect((await create(plain("x"), "team-c")).message).toContain(
      "no GuardianSidecar selects this namespace",
    );
  });
  test("an ungoverned namespace takes anything", async () => {
    expect((await create(plain("x"), "free")).message).toBe("");
  });
  test("the label atoll.dev/default-sidecar on the namespace decides where nothing else does", async () => {
    await namespace(api, "team-d", {
      "atoll.dev/governed": "true",
      team: "b",
      "atoll.dev/default-sidecar": "coder",
    });
    const pod = relabelled(both["coder"], { role: "other" });
    await until("the namespace is known", async () => (await create(pod, "team-d")).status === 201);
    expect((await create(relabelled(both["planner"], { role: "other" }), "team-d")).message).toContain(
      "has to be coder",
    );
  });
  test("the large size class is as good as the default one, a mixture of both is not", async () => {
    const large = plain("large");
    meta(large)["annotations"] = { "atoll.dev/size": "large" };
    const pod = await governedPod(api, large, A, [strong]);
    expect((await create(pod)).message).toBe("");
    const mixed = structuredClone(pod);
    list(spec(mixed), "initContainers")[2] = { ...another("atoll-gate") };
    expect((await create(mixed)).message).toContain("not exactly those");
  });
  test("without the index nothing governed is created, and everything else is", async () => {
    const path = "/apis/atoll.dev/v1alpha1/shapeindexes/cluster";
    // No right that the chart gives reaches so far.
    await apply(api, {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "for-this-test" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
      subjects: [{ kind: "ServiceAccount", name: "atoll-installer", namespace: "atoll-system" }],
    });
    expect((await api.call("DELETE", path)).message).toContain("written by the operator alone");
    await until(
      "it is deleted",
      async () => (await api.call("DELETE", path, undefined, undefined, INSTALLER)).status === 200,
    );
    await until("it is gone", async () => (await create(base)).status >= 400);
    expect((await create(base)).message).toContain("atoll-shape");
    expect((await create(plain("x"), "free")).message).toBe("");
    await storeIndex(api, [strong]);
    await until("it is back", async () => (await create(base)).status === 201);
  });
});
