// 9.4 from inside a pod: every attempt as the agent, under all legs and with the lock alone taken away.
import { Failure } from "../failure.ts";
import { attempts } from "../../test/island/lab/attempts.ts";
import { deadEnds } from "../../test/island/lab/dead-ends.ts";
import { admitted, gone, podIp, reachedBy, ready, type Ground } from "./ground.ts";
import { HOST_PORT, LAB, OPEN, SINK_PORT, SINKS, TEAM, role, tenant } from "./objects.ts";

type Line = {
  name: string;
  leg: string;
  tried: string;
  open: boolean;
  by: string;
  twin: boolean;
  deadEnd: boolean;
};
/** What no leg has to be taken away for here: it needs the shape's absence, or leads nowhere in this network. */
const SHAPE = "shape";
/** Nobody listens there in a real pod. */
const ABSENT: ReadonlySet<string> = new Set(["guardian-port-15070"]);
const COUNT = attempts.length + deadEnds.length;

export async function surroundings(g: Ground): Promise<string> {
  const [pod, node, api, dns] = await Promise.all([
    podIp(g.kube, SINKS, "sink-pod"),
    podIp(g.kube, SINKS, "sink-host"),
    g.kube.kubectl(
      "get",
      "service",
      "kubernetes",
      "--namespace",
      "default",
      "--output",
      "jsonpath={.spec.clusterIP}",
    ),
    g.kube.kubectl(
      "get",
      "service",
      "kube-dns",
      "--namespace",
      "kube-system",
      "--output",
      "jsonpath={.spec.clusterIP}",
    ),
  ]);
  return JSON.stringify({
    out4: node,
    out6: "fe80::ecee:eeff:feee:eeee",
    port: HOST_PORT,
    pod4: "",
    device: "eth0",
    closedPorts: [15090],
    guardianUid: 64523,
    places: [
      { name: "pod", host: pod, port: SINK_PORT },
      { name: "API server", host: api, port: 443 },
      { name: "kubelet", host: node, port: 10250 },
      { name: "name server", host: dns, port: 53 },
    ],
  });
}

export async function laboratory(
  g: Ground,
  namespace: string,
  pod: string,
  at: string,
  names: readonly string[] = [],
): Promise<Line[]> {
  const own = await podIp(g.kube, namespace, pod);
  const done = await g.kube.tryKubectl(
    "exec",
    "--namespace",
    namespace,
    pod,
    "--container",
    "agent",
    "--",
    "/usr/bin/node",
    "--eval",
    `process.env.ATOLL_LAB = ${JSON.stringify(at.replace('"pod4":""', `"pod4":"${own}"`))}; process.argv.push(...${JSON.stringify(names)}); process.argv.splice(1, 0, "lab"); import(${JSON.stringify(`file://${LAB.at(-1) ?? ""}`)})`,
  );
  const lines = done.stdout.split("\n").filter((line) => line.startsWith("{"));
  if (lines.length === 0) throw new Failure(`the laboratory said nothing: ${done.stderr}`);
  return lines.map((line): Line => JSON.parse(line));
}

/** `nft` in the pod's network namespace, from the node. */
export async function inNetwork(
  g: Ground,
  namespace: string,
  pod: string,
  ...argv: readonly string[]
): Promise<string> {
  const pid = await g.pidOf(namespace, pod, "agent");
  const done = await g.onNode("nsenter", "--target", pid, "--net", ...argv);
  if (done.code !== 0) throw new Failure(`${argv.join(" ")}: ${done.stderr}`);
  return done.stdout;
}

/** What an attempt that may not be closed by the lock alone is closed by as well, where it stays shut without the lock. */
export async function escape(g: Ground): Promise<void> {
  const at = await surroundings(g);
  await g.onNode("ip", "address", "replace", "169.254.169.254/32", "dev", "lo");
  const pods = [
    tenant("hostile", g.lab, role("stay")),
    tenant("hostile", g.lab, role("stay"), { namespace: OPEN }),
  ];
  await Promise.all([gone(g.kube, TEAM, "hostile"), gone(g.kube, OPEN, "hostile")]);
  await admitted(g.kube, pods);
  await ready(g.kube, TEAM, "hostile");
  await ready(g.kube, OPEN, "hostile");

  for (const namespace of [TEAM, OPEN]) {
    g.say(`all legs, ${namespace === TEAM ? "lock and NetworkPolicy" : "the lock without a NetworkPolicy"}`);
    const lines = await laboratory(g, namespace, "hostile", at);
    g.check("every attempt was made", lines.length === COUNT, `${lines.length} of ${COUNT}`);
    for (const { name, leg, tried, open, by, twin } of lines)
      g.check(
        `${name} (leg ${leg === SHAPE ? "1 shape" : "2 lock"}): ${tried}`,
        !open && twin,
        `${by}; its twin ${twin ? "works" : "FAILS"}`,
      );
    const seen = await reachedBy(g, await podIp(g.kube, namespace, "hostile"));
    g.check(
      `outside nobody was reached from ${namespace}/hostile`,
      seen.length === 0,
      seen.slice(0, 3).join(" "),
    );
  }

  g.say("the lock taken away, no NetworkPolicy: the laboratory bites");
  await inNetwork(g, OPEN, "hostile", "nft", "flush", "ruleset");
  const bare = await laboratory(g, OPEN, "hostile", at);
  for (const { name, leg, open, by, deadEnd } of bare)
    if (!deadEnd && leg !== SHAPE && !ABSENT.has(name)) g.check(`${name} opens without its leg`, open, by);
  const seen = await reachedBy(g, await podIp(g.kube, OPEN, "hostile"));
  g.check("and is seen outside", seen.length > 0, `${seen.length} arrivals`);

  g.say("the lock taken away, the NetworkPolicy in its place: the third leg");
  await inNetwork(g, TEAM, "hostile", "nft", "flush", "ruleset");
  const walled = await laboratory(g, TEAM, "hostile", at, [
    "tcp-IPv4",
    "udp-IPv4",
    "icmp-IPv4",
    "places",
    "dns-tunnel-IPv4",
  ]);
  // The guardian's names are asked for over TCP, so the network lets that through and the lock alone keeps the agent from it.
  for (const { name, open, by } of walled)
    g.check(`${name} (leg 3 NetworkPolicy)`, !open || (name === "places" && by === "name server TCP"), by);

  g.say("atoll lock, from the node");
  const pid = await g.pidOf(TEAM, "hostile", "agent");
  const atoll = (...argv: readonly string[]) =>
    g.onNode(process.execPath, programPathOfAtoll(), "lock", ...argv, "--pid", pid);
  const missing = await atoll("status");
  g.check("status finds that it is missing", missing.code === 1, missing.stdout.trim().split("\n").at(-1));
  const applied = await atoll("apply");
  g.check("apply puts it back", applied.code === 0, applied.stdout.trim() + applied.stderr.trim());
  const whole = await atoll("status");
  g.check("status finds it whole", whole.code === 0, whole.stdout.trim().split("\n").at(-1));
  await Promise.all([gone(g.kube, TEAM, "hostile"), gone(g.kube, OPEN, "hostile")]);
}

const programPathOfAtoll = (): string => new URL("../../cli/atoll.ts", import.meta.url).pathname;
