// The operator at scale: a real API server with many governed pods, bundles and sidecars, and the operator as it ships.
//   node bench/operator.ts [--pods 10000] [--bundles 50] [--sidecars 20] [--json] [--plant stall]
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { request } from "node:https";
import { asked, oneOf, text, amount } from "../kind-e2e/asked.ts";
import { apply, startApi, until, yamlFile } from "../test/operator/api.ts";
import type { Api, Json, Reply } from "../test/operator/api.ts";
import { podEnvironment, startProgram } from "../test/operator/install.ts";
import type { Program } from "../test/operator/install.ts";
import { enforce, ground, namespace, sidecarSpec, trust } from "../test/operator/shapes.ts";
import { ROOTS, bundle, makeKey, pod } from "../test/operator/whole.ts";
import { helloText } from "../operator/control/identity.ts";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import { sha256 } from "../kernel/crypto/crypto.ts";
import { bundled } from "./bundled.ts";
import { blocksText, cpuSeconds, longestBlocks, memoryMiB, startIdler } from "./processor.ts";
import type { Blocks } from "./processor.ts";

const wish = asked(
  `usage: node bench/operator.ts [--pods 10000] [--bundles 50] [--sidecars 20] [--steady 30] [--go FILE] [--json] [--plant stall]
A real API server; webhook and operator are processes of their own, bundled and started as they ship, with the chart's rights. Every
pod is created through webhook and policies. Then the operator is started anew and measured: until every sidecar's status counts its
pods; while nothing happens; and from one bundle's change to its status and to a guardian on the control stream.
A block of the event loop is counted without the time for which the kernel had no processor for it; with that time it is printed too.
Beside the operator runs a process that does nothing: how late that one is, the machine is.
--profile DIR writes processor profiles of the operators. --go waits, when everything is there, until that file exists. --plant stall stops the operator for 300 ms now and then: the bound of
the event loop must be missed.
`,
  {
    pods: 10_000,
    bundles: 50,
    sidecars: amount(20, 1),
    steady: amount(30, 1),
    go: text(""),
    profile: text(""),
    plant: oneOf("stall"),
    json: false,
  },
);
const [podCount, bundleCount, sidecarCount] = [wish.pods, wish.bundles, wish.sidecars].map(Number) as [
  number,
  number,
  number,
];
const say = (line: string): void =>
  void process.stderr.write(`${(performance.now() / 1000).toFixed(0)} s: ${line}\n`);
const each = Math.floor(podCount / sidecarCount);

/** A policy as an agent has one, under another name each time. */
const example = yamlFile("examples/policies/repo-triage/policy.yaml")[0] as JsonObject;
async function put(api: Api, id: string, version: number): Promise<Reply> {
  const { status, message, body } = await api.call(
    "POST",
    "/apis/atoll.dev/v1alpha1/policybundles",
    bundle({ id, version, content: { ...example, name: `${id}-v${version}` } }),
  );
  if (status !== 201) throw new Error(message);
  return { status, message, body };
}

/** Watches the event loop of every program that is started; bundled, so that no TypeScript stripper is loaded with it. */
const turns = await bundled("bench/turns.ts");
/** The longest blocks of a program's event loop since this was last asked. */
const heard = new Map<Program, number>();
function blocks(of: Program): Blocks {
  const from = heard.get(of) ?? 0;
  heard.set(of, of.lines.length);
  const lines = of.lines.slice(from);
  if (wish.profile !== "") for (const line of lines) say(JSON.stringify(line));
  return longestBlocks(lines);
}

async function startOperator(api: Api, program: string, port: number, name: string): Promise<Program> {
  return startProgram(program, {
    ...(await podEnvironment(api, "atoll-operator")),
    NODE_OPTIONS: `--max-semi-space-size=2 --import=${turns}${wish.profile === "" ? "" : ` --cpu-prof --cpu-prof-dir=${wish.profile}`}`,
    ATOLL_PORT: String(port + 1),
    ATOLL_HEALTH_PORT: String(port),
    ATOLL_EXTRA_ADDRESSES: "127.0.0.1",
    POD_NAME: name,
  });
}
const statuses = async (api: Api): Promise<{ injected: number; unguarded: number; version: number }[]> => {
  const { body } = await api.call("GET", "/apis/atoll.dev/v1alpha1/guardiansidecars");
  return (
    body["items"] as {
      status?: { counts?: { injected: number; unguarded: number }; policy?: { version: number } };
    }[]
  ).map(({ status }) => ({
    injected: status?.counts?.injected ?? 0,
    unguarded: status?.counts?.unguarded ?? 0,
    version: status?.policy?.version ?? 0,
  }));
};

/** A guardian of pod `name` on the control stream; `seen` is called for each policy that it is told. */
async function listen(
  api: Api,
  controlPort: number,
  namespaceName: string,
  name: string,
  seen: (version: number) => void,
): Promise<() => void> {
  const base = `/api/v1/namespaces/${namespaceName}`;
  const uid = ((await api.call("GET", `${base}/pods/${name}`)).body["metadata"] as { uid: string }).uid;
  const { body, message } = await api.call("POST", `${base}/serviceaccounts/default/token`, {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { audiences: ["atoll"], boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid } },
  });
  if (message !== "") throw new Error(message);
  const authorization = `Bearer ${(body["status"] as { token: string }).token}`;
  const secret = await api.call("GET", "/api/v1/namespaces/atoll-system/secrets/atoll-control-ca");
  const [{ certificate } = { certificate: "" }] = JSON.parse(
    Buffer.from((secret.body["data"] as { authorities: string }).authorities, "base64").toString("utf8"),
  ) as { certificate: string }[];
  const { signer } = makeKey();
  const publicKey = Buffer.from(signer.publicKey).toString("hex");
  const ask = (
    method: string,
    path: string,
    headers: Record<string, string>,
    onData: (text: string) => void,
  ): ReturnType<typeof request> =>
    request(
      {
        host: "127.0.0.1",
        port: controlPort,
        servername: "atoll-control.atoll-system.svc",
        method,
        path,
        ca: certificate,
        headers: { authorization, ...headers },
      },
      (response) => {
        if (response.statusCode !== 200) throw new Error(`${path}: ${response.statusCode ?? 0}`);
        response.on("data", (part: Buffer) => onData(part.toString("utf8")));
      },
    );
  const nonce = await new Promise<string>((resolve, reject) => {
    const sent = ask("POST", "/v1/nonce", {}, (text) =>
      resolve((JSON.parse(text) as { nonce: string }).nonce),
    );
    sent.on("error", reject).end("{}");
  });
  let rest = "";
  const stream = ask(
    "GET",
    "/v1/stream",
    {
      "x-atoll-key": publicKey,
      "x-atoll-nonce": nonce,
      "x-atoll-signature": signer.sign(helloText(nonce, uid, publicKey)),
    },
    (text) => {
      rest = (rest + text).slice(-20_000);
      for (let at = rest.indexOf("\n\n"); at !== -1; at = rest.indexOf("\n\n")) {
        const [, data = "{}"] = /^event: policy\ndata: (.*)$/m.exec(rest.slice(0, at)) ?? [];
        rest = rest.slice(at + 2);
        const { version } = JSON.parse(data) as { version?: number };
        if (version !== undefined) seen(version);
      }
    },
  );
  stream.on("error", () => undefined).end();
  return () => stream.destroy();
}

const api = await startApi();
const programs: Program[] = [];
try {
  await ground(api);
  await trust(api, ROOTS, sha256(ROOTS));
  const webhook = startProgram(await bundled("operator/webhook.ts"), {
    ...(await podEnvironment(api, "atoll-webhook")),
    ATOLL_PORT: "0",
    ATOLL_EXTRA_ADDRESSES: "127.0.0.1",
  });
  programs.push(webhook);
  const serving = (): Json | undefined => webhook.lines.find((l) => l["event"] === "serving");
  for (const object of yamlFile("charts/atoll/templates/webhooks.yaml")) await apply(api, object);
  await until("the webhook serves", () => Promise.resolve(serving() !== undefined), 120);
  for (const object of yamlFile("charts/atoll/templates/webhooks.yaml")) {
    for (const h of object["webhooks"] as { clientConfig: { service?: { path: string }; url?: string } }[])
      h.clientConfig = {
        url: `https://127.0.0.1:${Number(serving()?.["port"])}${h.clientConfig.service?.path ?? ""}`,
      };
    await apply(api, object);
  }
  await enforce(api);
  for (let i = 0; i < sidecarCount; i++)
    await namespace(api, `team-${i}`, { "atoll.dev/governed": "true", team: `t${i}` });
  await until(
    "bundles are judged",
    async () =>
      (
        await put(api, "b0", 1).catch((error: unknown) => ({
          status: error instanceof Error && error.message.includes("already exists") ? 201 : 500,
        }))
      ).status === 201,
    120,
  );
  for (let i = 1; i < bundleCount; i++) await put(api, `b${i}`, 1);
  const program = await bundled("operator/main.ts");
  const port = 20_000 + (randomBytes(2).readUInt16BE() % 20_000);
  let operator = await startOperator(api, program, port, "first");
  programs.push(operator);
  for (let i = 0; i < sidecarCount; i++)
    await apply(api, {
      apiVersion: "atoll.dev/v1alpha1",
      kind: "GuardianSidecar",
      metadata: { name: `s${i}` },
      spec: sidecarSpec({
        policyBundleRef: { bundleId: `b${i}` },
        namespaceSelector: { matchLabels: { team: `t${i}` } },
      }),
    });
  await until(
    "every sidecar has its policy",
    async () => {
      const all = await statuses(api);
      return all.length === sidecarCount && all.every((s) => s.version === 1);
    },
    240,
  );
  say(`${bundleCount} bundles and ${sidecarCount} sidecars are active; creating ${podCount} pods`);

  const creating = performance.now();
  const failed: string[] = [];
  let next = 0;
  let created = 0;
  const worker = async (): Promise<void> => {
    while (next < each * sidecarCount) {
      const i = next++;
      const object = pod(`agent-${Math.floor(i / sidecarCount)}`);
      const reply = await api.call("POST", `/api/v1/namespaces/team-${i % sidecarCount}/pods`, object);
      if (reply.status === 201) created++;
      else failed.push(reply.message);
      if (created % 1000 === 0) say(`${created} pods`);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  const perSecond = created / ((performance.now() - creating) / 1000);
  if (failed.length > 0) throw new Error(`${failed.length} pods were refused, such as: ${failed[0] ?? ""}`);
  await until(
    "the first operator has counted",
    async () => (await statuses(api)).every((s) => s.injected === each),
    120,
  );
  await operator.stop();
  // What only a new look can find: one pod less in every namespace.
  for (let i = 0; i < sidecarCount; i++)
    await api.call("DELETE", `/api/v1/namespaces/team-${i}/pods/agent-0?gracePeriodSeconds=0`);
  say(`everything is there (${perSecond.toFixed(0)} pods/s)`);
  if (wish.go !== "") {
    const file = wish.go;
    await until("the file to go on", () => Promise.resolve(existsSync(file)), 3600);
  }

  const idler = startIdler();
  await idler.lateMs();
  const began = performance.now();
  operator = await startOperator(api, program, port, "second");
  programs.push(operator);
  const pid = operator.process.pid ?? 0;
  await until(
    "every sidecar has counted again",
    async () => {
      // Seldom, so that it is not our asking that keeps the API server from answering the operator.
      await new Promise((resolve) => setTimeout(resolve, 250));
      return (await statuses(api)).every((s) => s.injected === each - 1 && s.unguarded === 0);
    },
    300,
  );
  const sync = (performance.now() - began) / 1000;
  const syncBlock = blocks(operator);
  const late = [await idler.lateMs()];
  const syncCpu = cpuSeconds(pid);
  const syncPeak = memoryMiB(pid).peak;
  say(
    `synced after ${sync.toFixed(1)} s (${syncCpu.toFixed(1)} s of processor time), ${blocksText(syncBlock)}`,
  );

  const stalling =
    wish.plant === "stall"
      ? setInterval(() => {
          process.kill(pid, "SIGSTOP");
          setTimeout(() => process.kill(pid, "SIGCONT"), 300);
        }, 2000)
      : undefined;
  const before = cpuSeconds(pid);
  let rss = 0;
  for (let i = 0; i < wish.steady; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    rss = Math.max(rss, memoryMiB(pid).rss);
  }
  const steadyCpu = (cpuSeconds(pid) - before) / wish.steady;
  const steadyBlock = blocks(operator);
  late.push(await idler.lateMs());
  say(
    `steady: at most ${rss.toFixed(0)} MiB, ${blocksText(steadyBlock)}, ${(steadyCpu * 100).toFixed(0)} % of a core`,
  );

  let heard = Number.NaN;
  let changed = Number.NaN;
  const close = await listen(api, port + 1, "team-0", "agent-1", (version) => {
    if (version === 2 && Number.isNaN(heard)) heard = performance.now() - changed;
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  changed = performance.now();
  await put(api, "b0", 2);
  await until(
    "the status tells the new version",
    async () => {
      const { body } = await api.call("GET", "/apis/atoll.dev/v1alpha1/guardiansidecars/s0");
      return (body["status"] as { policy?: { version: number } }).policy?.version === 2;
    },
    60,
  );
  const told = performance.now() - changed;
  await until("the stream tells it", () => Promise.resolve(!Number.isNaN(heard)), 60);
  const changeBlock = blocks(operator);
  late.push(await idler.lateMs());
  idler.stop();
  clearInterval(stalling);
  close();
  say(
    `one bundle's change: status after ${told.toFixed(0)} ms, stream after ${heard.toFixed(0)} ms, ${blocksText(changeBlock)}`,
  );

  const phases = [syncBlock, steadyBlock, changeBlock];
  const block = Math.max(...phases.map((b) => b.own));
  const wall = Math.max(...phases.map((b) => b.wall));
  const missed = [
    ...(created >= podCount - sidecarCount ? [] : [`only ${created} pods`]),
    ...(sync <= 30 ? [] : ["sync above 30 s"]),
    ...(rss <= 250 ? [] : ["steady memory above 250 MiB"]),
    ...(block <= 100 ? [] : ["a block of the event loop above 100 ms"]),
    ...(told <= 5000 && heard <= 5000 ? [] : ["a bundle's change took more than 5 s"]),
  ];
  process.stdout.write(
    wish.json
      ? `${JSON.stringify({ pods: created, bundles: bundleCount, sidecars: sidecarCount, podsPerSecond: perSecond, syncSeconds: sync, syncCpuSeconds: syncCpu, syncPeakMiB: syncPeak, steadyMiB: rss, steadyCpu, blockMs: { sync: syncBlock, steady: steadyBlock, change: changeBlock }, idlerLateMs: late, changeMs: { status: told, stream: heard }, missed })}\n`
      : `${created} pods, ${bundleCount} bundles, ${sidecarCount} sidecars: sync ${sync.toFixed(1)} s (bound 30), steady RSS ${rss.toFixed(0)} MiB (bound 250; ${syncPeak.toFixed(0)} at most while syncing), longest block of the event loop ${block.toFixed(0)} ms (bound 100; ${wall.toFixed(0)} ms with the time in which it waited for a processor, and an idle process was late by ${late.map((l) => l.toFixed(0)).join(", ")} ms in the three phases), change in status ${told.toFixed(0)} ms and on the stream ${heard.toFixed(0)} ms (bound 5000)\n${missed.length === 0 ? "all within their bounds" : `missed: ${missed.join("; ")}`}\n`,
  );
  process.exitCode = missed.length === 0 ? 0 : 1;
} finally {
  await Promise.all(programs.map((p) => p.stop()));
  await api.stop();
}
