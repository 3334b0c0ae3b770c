// How fast the webhook answers: its latency at a given rate, and how many reviews it answers when it has nothing else to do.
//   node bench/webhook.ts [--seconds 20] [--rate 200] [--json] [--stall MS]
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { asked, text, amount } from "../kind-e2e/asked.ts";
import { apply, startApi, until, yamlFile } from "../test/operator/api.ts";
import type { Json } from "../test/operator/api.ts";
import { podEnvironment, startProgram } from "../test/operator/install.ts";
import { entryFrom, ground, namespace, sidecarSpec, storeIndex } from "../test/operator/shapes.ts";
import { bundled } from "./bundled.ts";
import { blocksText, cpuSeconds, longestBlocks, memoryMiB, startIdler } from "./processor.ts";
import type { Load, Loaded } from "./webhook-load.ts";

const wish = asked(
  `usage: node bench/webhook.ts [--seconds 20] [--rate 200] [--sidecars 20] [--json] [--stall MS] [--options OPTIONS]
A real API server for what the webhook follows; the webhook a process of its own, bundled as it ships; the reviews from another.
--stall stops the webhook for so many milliseconds every second: with 100 the bound of the latency must be missed.
--options are more of Node's options for the webhook.
`,
  {
    seconds: amount(20, 1),
    rate: amount(200, 1),
    sidecars: amount(20, 1),
    stall: 0,
    options: text(""),
    json: false,
  },
);
const seconds = wish.seconds;
const stall = wish.stall;
const say = (line: string): void => void process.stderr.write(`${line}\n`);

const api = await startApi();
try {
  await ground(api);
  for (const object of yamlFile("charts/atoll/templates/webhooks.yaml")) await apply(api, object);
  const entries = [];
  for (let i = 0; i < wish.sidecars; i++)
    entries.push(
      await entryFrom(api, `s${i}`, sidecarSpec({ namespaceSelector: { matchLabels: { team: `t${i}` } } })),
    );
  await storeIndex(api, entries);
  for (let i = 0; i < wish.sidecars; i++)
    await namespace(api, `team-${i}`, { "atoll.dev/governed": "true", team: `t${i}` });
  const webhook = startProgram(await bundled("operator/webhook.ts"), {
    ...(await podEnvironment(api, "atoll-webhook")),
    NODE_OPTIONS: `--import=${await bundled("bench/turns.ts")}${wish.options === "" ? "" : ` ${wish.options}`}`,
    ATOLL_PORT: "0",
    ATOLL_EXTRA_ADDRESSES: "127.0.0.1",
  });
  const pid = webhook.process.pid ?? 0;
  const serving = (): Json | undefined => webhook.lines.find((l) => l["event"] === "serving");
  await until("the webhook serves", () => Promise.resolve(serving() !== undefined));
  const port = Number(serving()?.["port"]);
  let ca = "";
  await until("the authority is published", async () => {
    const { body } = await api.call(
      "GET",
      "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/atoll",
    );
    const [hook] = body["webhooks"] as { clientConfig: { caBundle?: string } }[];
    ca = Buffer.from(hook?.clientConfig.caBundle ?? "", "base64").toString("utf8");
    return ca !== "";
  });
  // As the API server would ask: the pod with its defaults and the token volume, in the words of AdmissionReview.
  const raw: Json = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "agent-0", labels: { app: "agent", "app.kubernetes.io/name": "agent" } },
    spec: {
      containers: [
        {
          name: "agent",
          image: "agent:1",
          securityContext: { runAsUser: 1000 },
          env: [{ name: "MODE", value: "work" }],
          readinessProbe: { httpGet: { path: "/ready", port: 8080 } },
        },
        { name: "logs", image: "logs:1", securityContext: { runAsUser: 1001 } },
      ],
    },
  };
  // Nobody answers for the webhook's Service here, so the defaults come from a namespace that is not governed.
  await namespace(api, "plain", {});
  const { body: pod, message } = await api.call("POST", "/api/v1/namespaces/plain/pods?dryRun=All", raw);
  if (message !== "") throw new Error(message);
  const review = {
    kind: "AdmissionReview",
    apiVersion: "admission.k8s.io/v1",
    request: {
      uid: "705ab4f5-6393-11e8-b7cc-42010a800002",
      kind: { group: "", version: "v1", kind: "Pod" },
      resource: { group: "", version: "v1", resource: "pods" },
      requestKind: { group: "", version: "v1", kind: "Pod" },
      requestResource: { group: "", version: "v1", resource: "pods" },
      name: "agent-0",
      namespace: "team-0",
      operation: "CREATE",
      userInfo: {
        username: "system:serviceaccount:kube-system:replicaset-controller",
        uid: "1",
        groups: ["system:serviceaccounts", "system:authenticated"],
      },
      object: pod,
      oldObject: null,
      dryRun: false,
      options: { kind: "CreateOptions", apiVersion: "meta.k8s.io/v1" },
    },
  };
  const bodyFile = join(api.plane.folder, "review.json");
  writeFileSync(bodyFile, JSON.stringify(review));
  const client = await bundled("bench/webhook-load.ts");
  const go = async (load: Partial<Load>): Promise<Loaded & { readonly serverCpu: number }> => {
    const asked: Load = { port, ca, bodyFile, connections: 16, seconds, rate: 0, ...load };
    const before = cpuSeconds(pid);
    const { stdout } = await promisify(execFile)(process.execPath, [client, JSON.stringify(asked)]);
    return { ...(JSON.parse(stdout) as Loaded), serverCpu: cpuSeconds(pid) - before };
  };
  await go({ seconds: 4, connections: 8 });
  const stalling =
    stall === 0
      ? undefined
      : setInterval(() => {
          process.kill(pid, "SIGSTOP");
          setTimeout(() => process.kill(pid, "SIGCONT"), stall);
        }, 1000);
  say(`${JSON.stringify(review).length} bytes a review, ${entries.length} sidecars`);
  const idler = startIdler();
  await idler.lateMs();
  const from = webhook.lines.length;
  const steady = await go({ rate: wish.rate });
  const blocks = longestBlocks(webhook.lines.slice(from));
  say(
    `${wish.rate} reviews/s asked: ${(steady.answers / steady.seconds).toFixed(0)} answered, p50 ${steady.p50.toFixed(1)} ms, p99 ${steady.p99.toFixed(1)} ms, worst ${steady.worst.toFixed(0)} ms; webhook ${((steady.serverCpu / steady.seconds) * 100).toFixed(0)} % of a core`,
  );
  const late = await idler.lateMs();
  idler.stop();
  say(
    `webhook's event loop: ${blocksText(blocks)}; a process beside it that does nothing was late by up to ${late.toFixed(0)} ms`,
  );
  const full = await go({ connections: 32 });
  clearInterval(stalling);
  const rate = full.answers / full.seconds;
  const perCpu = full.answers / full.serverCpu;
  say(
    `saturated: ${rate.toFixed(0)} reviews/s, ${perCpu.toFixed(0)} for each second of the webhook's processor time (webhook ${((full.serverCpu / full.seconds) * 100).toFixed(0)} %, client ${((full.cpuSeconds / full.seconds) * 100).toFixed(0)} % of a core), p99 ${full.p99.toFixed(0)} ms`,
  );
  const { rss } = memoryMiB(pid);
  const missed = [
    ...(steady.bad + full.bad === 0
      ? []
      : [`${steady.bad + full.bad} wrong answers, such as ${steady.firstBad || full.firstBad}`]),
    ...(steady.answers >= wish.rate * seconds * 0.99 ? [] : ["not every review was answered"]),
    ...(steady.p99 <= 25 ? [] : ["p99 above 25 ms"]),
    ...(rate >= 2000 ? [] : ["fewer than 2,000 reviews/s at saturation"]),
  ];
  process.stdout.write(
    wish.json
      ? `${JSON.stringify({ steady, blocks, idlerLateMs: late, full: { ...full, rate, perCpu }, rssMiB: Math.round(rss), missed })}\n`
      : `webhook RSS ${rss.toFixed(0)} MiB\n${missed.length === 0 ? "all within their bounds" : `missed: ${missed.join("; ")}`}\n`,
  );
  process.exitCode = missed.length === 0 ? 0 : 1;
  await webhook.stop();
} finally {
  await api.stop();
}
