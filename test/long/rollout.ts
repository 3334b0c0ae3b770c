// The webhook is replaced three times while pods are created, and no create fails.
//   node test/long/rollout.ts [--rollouts 3] [--rate 50] [--json] [--plant kill]
import { createServer, connect } from "node:net";
import type { Socket } from "node:net";
import { request } from "node:https";
import { asked, oneOf, amount } from "../../kind-e2e/asked.ts";
import { apply, startApi, until, yamlFile } from "../operator/api.ts";
import type { Json } from "../operator/api.ts";
import { podEnvironment, startProgram } from "../operator/install.ts";
import type { Program } from "../operator/install.ts";
import {
  INSTALLER,
  enforce,
  entryFrom,
  ground,
  namespace,
  sidecarSpec,
  storeIndex,
} from "../operator/shapes.ts";
import { pod } from "../operator/whole.ts";

const wish = asked(
  `usage: node test/long/rollout.ts [--rollouts 3] [--rate 50] [--seconds 12] [--json] [--plant kill]
A real API server asks the webhook at one address; behind it a TCP front as kube-proxy is one: a new connection goes to a ready
replica, one that stands stays. Each rollout does what the Deployment does: a new replica is started and is ready, the old one gets
no new connections, five seconds later (preStop) SIGTERM. Meanwhile pods are created at the rate that is asked.
--plant kill ends the old replica at once, without drain: creates must fail.
`,
  { rollouts: amount(3, 1), rate: amount(50, 1), seconds: amount(12, 1), plant: oneOf("kill"), json: false },
);
const rate = wish.rate;
const MOST_AT_ONCE = 24;
const api = await startApi();
const programs: Program[] = [];
try {
  await ground(api);
  await enforce(api);
  await storeIndex(api, [await entryFrom(api, "strong", sidecarSpec())]);
  await namespace(api, "team-a", { "atoll.dev/governed": "true", team: "a" });
  for (const object of yamlFile("charts/atoll/templates/webhooks.yaml")) await apply(api, object);

  const environment = await podEnvironment(api, "atoll-webhook");
  const ready = (port: number): Promise<boolean> =>
    new Promise((resolve) => {
      const sent = request(
        { host: "127.0.0.1", port, path: "/readyz", rejectUnauthorized: false, agent: false },
        (response) => {
          response.resume();
          resolve(response.statusCode === 200);
        },
      );
      sent.on("error", () => resolve(false));
      sent.end();
    });
  interface Replica {
    readonly program: Program;
    readonly port: number;
  }
  const start = async (name: string): Promise<Replica> => {
    const program = startProgram("operator/webhook.ts", {
      ...environment,
      ATOLL_PORT: "0",
      ATOLL_EXTRA_ADDRESSES: "127.0.0.1",
      POD_NAME: name,
    });
    programs.push(program);
    let port = 0;
    await until(
      `${name} is ready`,
      async () => {
        port = Number(program.lines.find((l) => l["event"] === "serving")?.["port"] ?? 0);
        return port !== 0 && (await ready(port));
      },
      120,
    );
    return { program, port };
  };
  let endpoints = [await start("webhook-1"), await start("webhook-2")];
  let turn = 0;
  const open = new Set<Socket>();
  const front = createServer((socket) => {
    const to = endpoints[turn++ % endpoints.length];
    const back = connect(to?.port ?? 0, "127.0.0.1");
    open.add(socket);
    socket.on("close", () => {
      open.delete(socket);
      back.destroy();
    });
    back.on("close", () => socket.destroy());
    for (const each of [socket, back]) each.on("error", () => undefined);
    socket.pipe(back).pipe(socket);
  });
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", () => resolve()));
  const address = front.address();
  const at = typeof address === "object" && address !== null ? address.port : 0;
  for (const object of yamlFile("charts/atoll/templates/webhooks.yaml")) {
    for (const h of object["webhooks"] as { clientConfig: { service?: { path: string }; url?: string } }[])
      h.clientConfig = { url: `https://127.0.0.1:${at}${h.clientConfig.service?.path ?? ""}` };
    await apply(api, object, "test", INSTALLER);
  }
  const create = (name: string): ReturnType<typeof api.call> =>
    api.call("POST", "/api/v1/namespaces/team-a/pods?dryRun=All", pod(name));
  await until("pods are injected", async () => (await create("x")).status === 201, 60);

  const failed: string[] = [];
  let created = 0;
  let late = 0;
  const over = new AbortController();
  const flying = new Set<Promise<void>>();
  const began = performance.now();
  const load = async (): Promise<void> => {
    for (let sent = 0; !over.signal.aborted; sent++) {
      const due = began + (sent / rate) * 1000;
      while (performance.now() < due) await new Promise((resolve) => setTimeout(resolve, 2));
      // A machine that cannot keep up shows as a lower rate, not as reviews that wait until they are given up.
      while (flying.size >= MOST_AT_ONCE) await new Promise((resolve) => setTimeout(resolve, 2));
      if (performance.now() - due > 1000) late++;
      const one: Promise<void> = create(`p${sent}`)
        .then((reply) => {
          const spec = (reply.body["spec"] ?? {}) as { initContainers?: Json[] };
          if (reply.status === 201 && spec.initContainers?.length === 3) created++;
          else failed.push(reply.message);
        })
        .catch((error: unknown) => void failed.push(String(error)))
        .finally(() => void flying.delete(one));
      flying.add(one);
    }
  };
  const loading = load();
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  for (let i = 0; i < wish.rollouts; i++) {
    for (const old of endpoints) {
      const next = await start(`webhook-${i}-${old.port}`);
      endpoints = [...endpoints.filter((e) => e !== old), next];
      if (wish.plant === "kill") old.program.process.kill("SIGKILL");
      else {
        await pause(5000);
        await old.program.stop();
      }
    }
    process.stderr.write(`rollout ${i + 1}: ${created} creates so far, ${failed.length} failed\n`);
    await pause((wish.seconds * 1000) / wish.rollouts);
  }
  over.abort();
  await loading;
  await Promise.all(flying);
  const seconds = (performance.now() - began) / 1000;
  const perSecond = created / seconds;
  process.stdout.write(
    wish.json
      ? `${JSON.stringify({ created, perSecond, failed: failed.length, first: failed[0] ?? "", late })}\n`
      : `${wish.rollouts} rollouts of two replicas, ${created} creates in ${seconds.toFixed(0)} s (${perSecond.toFixed(0)}/s), ${failed.length} failed${failed[0] === undefined ? "" : `, such as: ${failed[0].slice(0, 300)}`}\n`,
  );
  process.exitCode = failed.length === 0 && created > 0 ? 0 : 1;
  for (const socket of open) socket.destroy();
  front.close();
} finally {
  await Promise.all(programs.map((p) => p.stop()));
  await api.stop();
}
