// Every verb of the chart's roles is needed, and no other is asked for: what operator and webhook do in a whole life is recorded by
// the API server's audit log; then each verb is taken away, one at a time, and the API server says which of those requests it would refuse.
//   node test/long/rights.ts [--json] [--plant spare]
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asked, oneOf } from "../../kind-e2e/asked.ts";
import { certificateSource } from "../../operator/certificates/certificates.ts";
import { elect } from "../../operator/runtime/runtime.ts";
import { apply, until, yamlFile } from "../operator/api.ts";
import type { Json } from "../operator/api.ts";
import { podEnvironment, startProgram } from "../operator/install.ts";
import { INSTALLER, OPERATOR, namespace, sidecarSpec } from "../operator/shapes.ts";
import { bundle, clientOf, pod, startWhole } from "../operator/whole.ts";

const wish = asked(
  `usage: node test/long/rights.ts [--json] [--plant spare]
A table: role, verb, resource, and a request that fails without it. --plant spare gives the operator one verb too many: it must be named.
`,
  { json: false, plant: oneOf("spare") },
);
interface Rule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
  resourceNames?: string[];
}
interface Asked {
  readonly user: string;
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly uri: string;
}
const RUNNING = /^system:serviceaccount:atoll-system:atoll-(operator|webhook)$/;
const say = (line: string): void => void process.stderr.write(`${line}\n`);
const folder = mkdtempSync(join(tmpdir(), "atoll-rights-"));
const AUDIT = join(folder, "audit.log");
writeFileSync(
  join(folder, "policy.yaml"),
  JSON.stringify({
    apiVersion: "audit.k8s.io/v1",
    kind: "Policy",
    omitStages: ["RequestReceived"],
    rules: [{ level: "Metadata" }],
  }),
);
const roles = yamlFile("charts/atoll/templates/rbac.yaml").filter(
  (o) =>
    ["Role", "ClusterRole"].includes(String(o["kind"])) &&
    /^atoll-(operator|webhook)$/.test((o["metadata"] as { name: string }).name),
);

const whole = await startWhole({
  plane: {
    controllers: true,
    apiserverFlags: [
      `--audit-policy-file=${join(folder, "policy.yaml")}`,
      `--audit-log-path=${AUDIT}`,
      "--audit-log-mode=blocking",
    ],
  },
  lives: { authorityMs: 9000, leafMs: 3000, overlapMs: 2000 },
  evictionGraceMs: 100,
});
const { api } = whole;
try {
  // A life: a bundle from a ConfigMap, a sidecar, pods, a stray, an approval, a freeze, repairs, certificates, a lease, an end.
  await until("the webhook is ready", async () => Promise.resolve(whole.webhook.ready()));
  await until(
    "the bundle is stored",
    async () =>
      (await api.call("POST", "/apis/atoll.dev/v1alpha1/policybundles", bundle({ version: 1 }))).status ===
      201,
  );
  const late = bundle({ version: 2 });
  const { content, ...spec } = late["spec"] as Json;
  await apply(api, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "policy", namespace: "default" },
    data: { "policy.json": JSON.stringify(content) },
  });
  await apply(api, {
    ...late,
    spec: { ...spec, source: { configMap: { namespace: "default", name: "policy", key: "policy.json" } } },
  });
  await namespace(api, "strays", { team: "a" });
  await until(
    "a stray is there",
    async () => (await api.call("POST", "/api/v1/namespaces/strays/pods", pod("stray"))).status === 201,
  );
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec({ watchdog: { evict: true, perMinute: 6 } }),
  });
  await namespace(api, "strays", { team: "a", "atoll.dev/governed": "true" });
  await until(
    "a pod is governed",
    async () => (await api.call("POST", "/api/v1/namespaces/team-a/pods", pod("one"))).status === 201,
  );
  say("a bundle, a sidecar, a pod");
  await until(
    "the stray is evicted",
    async () => {
      const { status, body } = await api.call("GET", "/api/v1/namespaces/strays/pods/stray");
      return status === 404 || (body["metadata"] as Json)["deletionTimestamp"] !== undefined;
    },
    60,
  );
  const { uid } = (await api.call("GET", "/api/v1/namespaces/team-a/pods/one")).body["metadata"] as {
    uid: string;
  };
  const identity = { namespace: "team-a", serviceAccount: "default", podName: "one", podUid: uid };
  await until("the pod is known", async () => Promise.resolve(whole.controllers.pods.has("team-a/one")));
  const challenge = {
    approval_id: `apr_${"a".repeat(32)}`,
    tool: "tool:calc/add",
    principal: "p",
    ceremony: { quorum: 1 },
    expires_at: new Date(Date.now() + 3_600_000).toISOString(),
  };
  for (let i = 0; i < 2; i++)
    await whole.desk.onChallenge(identity, challenge).catch((e: unknown) => say(String(e)));
  await until("the approval is known and its state written", async () => {
    whole.desk.onReport({
      identity,
      policyHash: "",
      ceilingHash: "",
      lockProved: false,
      networkProved: undefined,
      failing: [],
      decisions: { total: 0, denied: 0, errors: 0 },
      approvals: [
        { id: challenge.approval_id, state: "granted", counted: [], refused: [], reviewOpen: false },
      ],
      at: Date.now(),
    });
    const path = `/apis/atoll.dev/v1alpha1/namespaces/team-a/approvalrequests/${challenge.approval_id.replace("_", "-")}`;
    return "state" in (((await api.call("GET", path)).body["status"] ?? {}) as Json);
  });
  const client = await clientOf(api, "atoll-operator");
  // A guardian at the control stream: its token is reviewed, its key is kept.
  const { tokenReviews, storedKeys } = await import("../../operator/control/identity.ts");
  const token = await api.call("POST", "/api/v1/namespaces/team-a/serviceaccounts/default/token", {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { audiences: ["atoll"], boundObjectRef: { apiVersion: "v1", kind: "Pod", name: "one", uid } },
  });
  await tokenReviews(client, Date.now)((token.body["status"] as { token: string }).token);
  await storedKeys(client, "atoll-system").publish(identity, "ab".repeat(32));
  await apply(api, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "atoll-canary", namespace: "atoll-system" },
    spec: { ports: [{ port: 7007 }], selector: { a: "b" } },
  });
  const program = startProgram("operator/main.ts", {
    ...(await podEnvironment(api, "atoll-operator")),
    ATOLL_PORT: "0",
    ATOLL_HEALTH_PORT: "0",
    ATOLL_CANARY: "service",
    POD_NAME: "operator-0",
  });
  await until(
    "the program leads",
    () => Promise.resolve(program.lines.some((l) => l["event"] === "leading")),
    120,
  );
  await program.stop();
  const lease = elect({
    client,
    namespace: "atoll-system",
    name: "atoll-operator",
    identity: "x",
    onLost: () => undefined,
  });
  await lease.held;
  await lease.release();
  const turning = certificateSource(client, {
    namespace: "atoll-system",
    secret: "atoll-control-ca",
    dnsNames: ["localhost"],
    lives: { authorityMs: 500, leafMs: 300, overlapMs: 100 },
  });
  await turning.refresh();
  say("an approval, a token, a key, a lease, certificates");
  // Repairs: one policy is deleted, another weakened; its stand-in goes when it has been put back.
  const group = "/apis/admissionregistration.k8s.io/v1";
  for (const kind of ["validatingadmissionpolicies", "validatingadmissionpolicybindings"]) {
    const path = `${group}/${kind}/atoll-keep`;
    await api.call("DELETE", path);
    await until("it is put back", async () => (await api.call("GET", path)).status === 200, 60);
    const other = `${group}/${kind}/atoll-touch`;
    await api.call(
      "PATCH",
      other,
      kind.endsWith("policies")
        ? { spec: { failurePolicy: "Ignore" } }
        : { spec: { validationActions: ["Audit"] } },
      "application/merge-patch+json",
    );
    await until(
      "a copy stands in",
      async () => (await api.call("GET", `${other}-again-1`)).status === 200,
      60,
    );
    await api.call("DELETE", other);
    await until(
      "the copy is gone",
      async () => (await api.call("GET", `${other}-again-1`)).status === 404,
      120,
    );
  }
  say("repairs");
  await api.call("DELETE", "/api/v1/namespaces/team-a/pods/one?gracePeriodSeconds=0");
  await api.call("DELETE", "/apis/atoll.dev/v1alpha1/guardiansidecars/strong");
  await until(
    "the island is gone",
    async () =>
      (
        await api.call(
          "GET",
          "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies/atoll-island-strong",
        )
      ).status === 404,
    60,
  );
  await new Promise((resolve) => setTimeout(resolve, 7000));

  const asked = new Map<string, Asked>();
  const denied: string[] = [];
  for (const line of readFileSync(AUDIT, "utf8").split("\n")) {
    if (line === "") continue;
    const event = JSON.parse(line) as {
      user: { username: string };
      verb: string;
      requestURI: string;
      objectRef?: {
        apiGroup?: string;
        resource?: string;
        subresource?: string;
        namespace?: string;
        name?: string;
      };
      responseStatus?: { code: number };
    };
    if (!RUNNING.test(event.user.username) || event.objectRef?.resource === undefined) continue;
    const { apiGroup = "", resource, subresource, namespace: place = "", name = "" } = event.objectRef;
    const code = event.responseStatus?.code ?? 0;
    if (code === 403) denied.push(`${event.user.username} ${event.verb} ${event.requestURI}`);
    // An apply that makes the object needs the right to create it as well.
    for (const verb of event.verb === "patch" && code === 201 ? ["patch", "create"] : [event.verb]) {
      const one: Asked = {
        user: event.user.username,
        verb,
        group: apiGroup,
        resource: subresource === undefined ? resource : `${resource}/${subresource}`,
        namespace: place,
        // With a name only where it was in the request: a create by POST has none.
        name: event.verb === "create" && subresource === undefined ? "" : name,
        uri: event.requestURI.split("?")[0] ?? "",
      };
      asked.set(JSON.stringify([one.user, verb, apiGroup, one.resource, place, one.name]), one);
    }
  }
  whole.controllers.stop();
  await whole.webhook.stop();
  say(`${asked.size} different requests; ${denied.length} denied`);

  const allowed = async (one: Asked): Promise<boolean> => {
    const [resource = "", subresource] = one.resource.split("/");
    const { body, message } = await api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SubjectAccessReview",
      spec: {
        user: one.user,
        groups: ["system:serviceaccounts", "system:serviceaccounts:atoll-system", "system:authenticated"],
        resourceAttributes: {
          verb: one.verb,
          group: one.group,
          resource,
          ...(subresource === undefined ? {} : { subresource }),
          ...(one.namespace === "" ? {} : { namespace: one.namespace }),
          ...(one.name === "" ? {} : { name: one.name }),
        },
      },
    });
    if (message !== "") throw new Error(message);
    return (body["status"] as { allowed: boolean }).allowed;
  };
  const table: { role: string; verb: string; resource: string; fails: string }[] = [];
  const spare: string[] = [];
  for (const role of roles) {
    const meta = role["metadata"] as { name: string; namespace?: string };
    const title = `${String(role["kind"])} ${meta.namespace === undefined ? "" : `${meta.namespace}/`}${meta.name}`;
    const rules = structuredClone(role["rules"]) as Rule[];
    if (wish.plant === "spare" && role === roles[0])
      rules.push({ apiGroups: [""], resources: ["secrets"], verbs: ["deletecollection"] });
    for (const [i, rule] of rules.entries())
      for (const resource of rule.resources)
        for (const verb of rule.verbs) {
          // Without this verb on this resource; the rest of the rule stays.
          const without = [
            ...rules.filter((_, k) => k !== i),
            ...(rule.resources.length > 1
              ? [{ ...rule, resources: rule.resources.filter((r) => r !== resource) }]
              : []),
            ...(rule.verbs.length > 1
              ? [{ ...rule, resources: [resource], verbs: rule.verbs.filter((v) => v !== verb) }]
              : []),
          ];
          await apply(api, { ...role, rules: without }, "test", INSTALLER);
          const candidates = [...asked.values()].filter(
            (a) =>
              a.user.endsWith(meta.name) &&
              a.verb === verb &&
              a.resource === resource &&
              rule.apiGroups.includes(a.group) &&
              (meta.namespace === undefined || a.namespace === meta.namespace) &&
              (rule.resourceNames === undefined || rule.resourceNames.includes(a.name)),
          );
          let fails: Asked | undefined;
          // The authorizer hears of the role by a watch.
          for (let look = 0; look < 20 && fails === undefined && candidates.length > 0; look++) {
            for (const one of candidates) if (!(await allowed(one))) fails ??= one;
            if (fails === undefined) await new Promise((resolve) => setTimeout(resolve, 50));
          }
          // The API server asks for this one by itself, when a binding that names a parameter is put back; it finds fault with
          // the object then (422), not with the request (403).
          let last = "";
          if (fails === undefined && resource === "shapeindexes" && verb === "get")
            for (let look = 0; look < 20 && fails === undefined; look++) {
              const path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
              const { body } = await api.call("GET", `${path}/atoll-shape`);
              const again = {
                apiVersion: body["apiVersion"],
                kind: body["kind"],
                metadata: { name: "atoll-shape-again-1" },
                spec: body["spec"],
              };
              const reply = await api.call("POST", `${path}?dryRun=All`, again, undefined, OPERATOR);
              last = `${reply.status}: ${reply.message}`;
              if (reply.status === 422 && reply.message.includes('does not have "get" permission'))
                fails = {
                  user: "",
                  verb,
                  group: "",
                  resource,
                  namespace: "",
                  name: "",
                  uri: `${path} (atoll-shape)`,
                };
              else await new Promise((resolve) => setTimeout(resolve, 50));
            }
          const what = `${verb} ${rule.apiGroups[0] === "" ? "" : `${rule.apiGroups[0] ?? ""}/`}${resource}${rule.resourceNames === undefined ? "" : ` (${rule.resourceNames[0] ?? ""}${rule.resourceNames.length > 1 ? " …" : ""})`}`;
          table.push({ role: title, verb, resource: what, fails: fails?.uri ?? "" });
          if (fails === undefined) spare.push(`${title}: ${what}${last === "" ? "" : ` (${last})`}`);
        }
    await apply(api, role, "test", INSTALLER);
  }
  for (const { role, resource, fails } of table)
    if (!wish.json)
      process.stdout.write(`${role.padEnd(36)} ${resource.padEnd(64)} ${fails || "NOTHING FAILS"}\n`);
  process.stdout.write(
    wish.json
      ? `${JSON.stringify({ table, spare, denied })}\n`
      : `${table.length} verbs, ${spare.length} that nothing needed, ${denied.length} requests denied with all of them\n${[...spare, ...denied].join("\n")}\n`,
  );
  process.exitCode = spare.length === 0 && denied.length === 0 ? 0 : 1;
} finally {
  await whole.stop().catch(() => undefined);
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
