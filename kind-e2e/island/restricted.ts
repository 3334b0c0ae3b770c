// The layout without the in-pod lock: it runs under Pod Security `restricted`, its one way out is the egress gateway, and every
// attempt is made there too: what the NetworkPolicy alone stops, and what only the lock would.
import { Failure } from "../failure.ts";
import { CHART } from "../trial/install.ts";
import { INSTALLER, until, type Json, type Kube } from "../trial/kube.ts";
import { SIDECAR } from "../trial/manifests.ts";
import { laboratory, surroundings } from "./escape.ts";
import { admitted, gone, podIp, reachedBy, ready, type Ground } from "./ground.ts";
import { raced, withoutFelix } from "./upheaval.ts";
import { RESTRICTED, governedNamespace, role, tenant } from "./objects.ts";

const POD = "hostile";

/** What the lock alone would stop. Nobody outside is reached by any of it. */
const INSIDE: Readonly<Record<string, string>> = {
  "icmp-neighbours": "the pod's own kernel answers; on the link the node drops it",
  "guardian-port-15090": "health and metrics, to be read over the pod's own loopback",
};

const upgrade = (kube: Kube, ...set: readonly string[]): Promise<string> =>
  kube.helm(
    "upgrade",
    "atoll",
    CHART,
    "--namespace",
    "atoll-system",
    "--reuse-values",
    ...set.flatMap((one) => ["--set", one]),
    "--wait=legacy",
    "--timeout",
    "180s",
    "--kube-as-user",
    INSTALLER,
  );

/** A governed call, by the verdict or the code it was answered with. */
const call = `fetch("http://127.0.0.1:15080/mcp/v1/execute", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ tool: "tool:github/list_issues", arguments: { repo: "acme/one" } }) }).then((r) => r.json()).then((b) => console.log(b.verdict, b.reason_code), (e) => console.log(String(e)))`;
/** The gateway, as the agent reaches it: by TLS, without a certificate. */
const knock = (host: string): string =>
  `const ask = (method, path) => new Promise((done) => { const r = require("https").request({ host: ${JSON.stringify(host)}, port: 15443, method, path, rejectUnauthorized: false, agent: false }); r.on("error", (e) => done(e.code)); r.on("response", (a) => { a.resume(); done(a.statusCode) }); r.on("connect", (a, s) => { s.destroy(); done(a.statusCode) }); r.end() }); Promise.all([ask("CONNECT", "10.96.0.1:443"), ask("GET", "/v1/addresses?name=kubernetes.default.svc.cluster.local"), ask("POST", "/v1/certificate")]).then((all) => console.log(all.join(" ")))`;

export async function restricted(g: Ground): Promise<void> {
  const { spec } = await g.kube.get("guardiansidecar", SIDECAR);
  const like: Json = typeof spec === "object" && spec !== null ? { ...spec } : {};
  await upgrade(g.kube, "gateway.enabled=true", `guardian.unlocked={${RESTRICTED}}`);
  await g.kube.apply(
    governedNamespace(
      RESTRICTED,
      RESTRICTED,
      {
        ...like,
        namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": RESTRICTED } },
        island: { inPodLock: "none", networkPolicy: true, egress: [] },
      },
      { "pod-security.kubernetes.io/enforce": "restricted" },
    ),
  );
  const pod = tenant(POD, g.lab, role("stay"), {
    namespace: RESTRICTED,
    spec: { serviceAccountName: "agent" },
  });
  await admitted(g.kube, [pod]);
  await ready(g.kube, RESTRICTED, POD);
  const injected = await g.kube.kubectl(
    "get",
    "pod",
    POD,
    "--namespace",
    RESTRICTED,
    "--output",
    "jsonpath={.spec.initContainers[*].name}",
  );
  g.check(
    "the namespace enforces `restricted`, and the pod runs in it with its guardian alone",
    injected === "atoll-guardian",
    injected,
  );
  const inPod = async (script: string): Promise<string> =>
    (await g.kube.exec(RESTRICTED, POD, "/usr/bin/node", "--eval", script)).stdout.trim();
  const said = await until("a governed call passes", 60, async () => {
    const text = await inPod(call);
    return text.startsWith("ALLOW") ? { text } : text;
  });
  g.check("a governed call goes out by the gateway", true, said.text);
  const network = await until("the network is proved", 60, async () => {
    const found = await g.conditionOf(RESTRICTED, "NetworkPolicyEnforced");
    return found?.status === "True" ? found : `${found?.status} ${found?.message}`;
  });
  const lock = await g.conditionOf(RESTRICTED, "EgressLocked");
  g.check(
    "the conditions say which boundary is active",
    lock?.status === "Unknown" && lock.reason === "NotUsed",
    `EgressLocked ${lock?.status} ${lock?.reason}: ${lock?.message}; NetworkPolicyEnforced ${network.status}`,
  );
  const gateway = await g.kube.kubectl(
    "get",
    "service",
    "atoll-egress-gateway",
    "--namespace",
    "atoll-system",
    "--output",
    "jsonpath={.spec.clusterIP}",
  );
  const knocked = await inPod(knock(gateway));
  g.check("the agent reaches the gateway and is refused three times", knocked === "403 403 403", knocked);

  g.say("every attempt, without the lock");
  const lines = await laboratory(g, RESTRICTED, POD, await surroundings(g));
  if (lines.length === 0) throw new Failure("the laboratory said nothing");
  for (const { name, tried, open, by, twin } of lines) {
    const known = INSIDE[name];
    g.check(
      `${name} (${open ? "remains" : "leg 1 shape or 3 NetworkPolicy"}): ${tried}`,
      twin && open === (known !== undefined),
      open ? `${by}: ${known ?? "NOT EXPECTED"}` : by,
    );
  }
  const seen = await reachedBy(g, await podIp(g.kube, RESTRICTED, POD));
  g.check("outside nobody was reached", seen.length === 0, seen.slice(0, 3).join(" "));
  await withoutFelix(g, async () => {
    const dialled = await raced(g, RESTRICTED, "racer", 40);
    g.check(
      "a pod that starts before the network plugin knows it reaches nobody",
      !dialled.includes("OPEN") && (await reachedBy(g, await podIp(g.kube, RESTRICTED, POD))).length === 0,
      dialled,
    );
  });
  await gone(g.kube, RESTRICTED, POD);
}

/** The chart as it was. */
export const withoutGateway = (kube: Kube): Promise<string> =>
  upgrade(kube, "gateway.enabled=false", "guardian.unlocked={}");
