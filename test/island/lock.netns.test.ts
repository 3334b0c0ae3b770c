// The lock on real network namespaces (9.1): what leaves and enters is judged by a capture outside, never by an error.
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AGENT_PORTS, GATE_UID, GUARDIAN_UID, HEALTH_PORT, lockRules } from "../../sidecar/lock/lock.ts";
import { type Actor, AGENT_UID, HERE, makePod, type Pod } from "./pod.ts";

const CANARY = 7000;
const families = [
  { family: "IPv4", out: HERE.out4, pod: HERE.pod4, lo: "127.0.0.1", any: "0.0.0.0" },
  { family: "IPv6", out: HERE.out6, pod: HERE.pod6, lo: "::1", any: "::" },
];
const MIB = 1 << 20;

let pod: Pod;
let peer: Actor;
let agent: Actor;
let gate: Actor;
let guardian: Actor;

/** The guardian's listeners, as its process opens them. */
const openGuardian = async (): Promise<void> => {
  guardian = await pod.actor("pod", GUARDIAN_UID);
  for (const port of AGENT_PORTS)
    for (const host of ["127.0.0.1", "::1"])
      expect(await guardian.ask({ do: "serve", host, port, text: "guardian" })).toEqual({ listening: true });
  expect(await guardian.ask({ do: "serve", host: "::", port: HEALTH_PORT, bytes: 2 * MIB })).toEqual({
    listening: true,
  });
  expect(await guardian.ask({ do: "serve", host: "::", port: 15070, text: "private" })).toEqual({
    listening: true,
  });
};

beforeAll(async () => {
  pod = await makePod();
  [peer, agent, gate] = await Promise.all([
    pod.actor("outside", 0),
    pod.actor("pod", AGENT_UID),
    pod.actor("pod", GATE_UID),
  ]);
  for (const { any } of families)
    expect(await peer.ask({ do: "echo", host: any, port: CANARY })).toEqual({ listening: true });
  await peer.ask({ do: "serve", host: "::", port: CANARY, text: "canary" });
  await openGuardian();
  await agent.ask({ do: "serve", host: "::", port: 8080, text: "agent" });
});
afterAll(() => pod.remove());

type Attempt = { name: string; run: () => Promise<{ reached: boolean }> };

/** Everything an agent can try with ordinary sockets; `reached` means that somebody answered. */
const attempts = (who: () => Actor): Attempt[] =>
  families.flatMap(({ family, out, pod: inside }) => [
    {
      name: `${family} TCP out`,
      run: async () => ({
        reached: "answer" in (await who().ask({ do: "dial", host: out, port: CANARY, wait: 400 })),
      }),
    },
    {
      name: `${family} UDP out`,
      run: async () => ({
        reached: "answer" in (await who().ask({ do: "datagram", host: out, port: CANARY, wait: 300 })),
      }),
    },
    {
      name: `${family} ICMP out`,
      run: async () => ({
        reached: (await who().ask({ do: "ping", host: out, wait: 300 }))["answered"] === true,
      }),
    },
    {
      name: `${family} TCP in`,
      run: async () => ({
        reached: "answer" in (await peer.ask({ do: "dial", host: inside, port: 8080, wait: 400 })),
      }),
    },
  ]);

const reachedOf = async (list: readonly Attempt[]): Promise<string[]> => {
  const results = await Promise.all(list.map(async (each) => ({ name: each.name, ...(await each.run()) })));
  return results.filter((each) => each.reached).map((each) => each.name);
};

/** What the capture saw that the pod sent. */
const sent = async (): Promise<string[]> =>
  (await pod.seen())
    .filter(
      (line) =>
        line.includes(`${HERE.pod4}.`) ||
        line.includes(HERE.pod6) ||
        line.includes(`${HERE.pod4} `) ||
        line.includes("fe80"),
    )
    .filter((line) =>
      new RegExp(`IP6? (${HERE.pod4.replaceAll(".", "\\.")}|${HERE.pod6}|fe80)\\S* >`).test(line),
    );

const shut = async (): Promise<void> => {
  await pod.forget();
  expect(await reachedOf([...attempts(() => agent), ...attempts(() => gate)])).toEqual([]);
  expect(await sent()).toEqual([]);
};

test("without the lock every attempt succeeds, so each can fail", async () => {
  pod.unlock();
  expect(await reachedOf(attempts(() => agent))).toEqual(attempts(() => agent).map((each) => each.name));
  expect((await sent()).length).toBeGreaterThan(10);
});

describe("with the lock", () => {
  beforeAll(() => pod.lock());

  test("the agent and the gate get nothing out and nothing in", shut);

  test.each(families)("the agent reaches the guardian's two ports over loopback, $family", async ({ lo }) => {
    for (const port of AGENT_PORTS)
      expect(await agent.ask({ do: "dial", host: lo, port })).toMatchObject({ answer: "guardian" });
  });

  test.each(families)(
    "the agent reaches neither health nor private port, by loopback or pod address, $family",
    async ({ lo, pod: own }) => {
      for (const host of [lo, own])
        for (const port of [HEALTH_PORT, 15070])
          expect(await agent.ask({ do: "dial", host, port, wait: 400 })).toMatchObject({ error: "time-out" });
    },
  );

  test.each(families)(
    "a closed loopback port refuses, other sockets on loopback answer, UDP and ICMP do not, $family",
    async ({ lo, pod: own }) => {
      expect(await agent.ask({ do: "dial", host: lo, port: 9 })).toMatchObject({ error: "ECONNREFUSED" });
      for (const host of [lo, own]) {
        expect(await gate.ask({ do: "dial", host, port: 8080 })).toMatchObject({ answer: "agent" });
        expect(await guardian.ask({ do: "dial", host, port: 8080 })).toMatchObject({ answer: "agent" });
      }
      await agent.ask({ do: "echo", host: lo, port: 8053 });
      expect(await gate.ask({ do: "datagram", host: lo, port: 8053, wait: 300 })).not.toHaveProperty(
        "answer",
      );
      expect(await agent.ask({ do: "ping", host: lo, wait: 300 })).toMatchObject({ answered: false });
    },
  );

  test.each(families)(
    "the guardian dials out over TCP and has neither UDP nor ICMP, $family",
    async ({ out }) => {
      expect(await guardian.ask({ do: "dial", host: out, port: CANARY })).toMatchObject({ answer: "canary" });
      await pod.forget();
      expect(await guardian.ask({ do: "datagram", host: out, port: CANARY, wait: 300 })).not.toHaveProperty(
        "answer",
      );
      expect(await guardian.ask({ do: "ping", host: out, wait: 300 })).toMatchObject({ answered: false });
      expect(await sent()).toEqual([]);
    },
  );

  test.each(families)(
    "3 MiB written and closed, and 2 MiB served and closed, arrive to the last byte, $family",
    async ({ out, pod: inside }) => {
      for (let run = 0; run < 4; run++) {
        expect(
          await guardian.ask({
            do: "dial",
            host: out,
            port: CANARY,
            text: "pour",
            bytes: 3 * MIB,
            wait: 20_000,
          }),
        ).toMatchObject({ poured: true });
        expect(
          await peer.ask({ do: "dial", host: inside, port: HEALTH_PORT, bytes: 0, wait: 20_000 }),
        ).toMatchObject({ got: 2 * MIB });
      }
      const { sunk } = await peer.ask({ do: "report" });
      expect(Array.isArray(sunk) && sunk.slice(-4)).toEqual([3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB]);
    },
  );

  test("guardian dead: its ports squatted answer nobody, and nothing gets out or in", async () => {
    await guardian.kill();
    for (const port of [...AGENT_PORTS, HEALTH_PORT, 15070])
      expect(await agent.ask({ do: "serve", host: "::", port, text: "squatter" })).toEqual({
        listening: true,
      });
    const other = await pod.actor("pod", AGENT_UID + 1);
    for (const { lo } of families)
      for (const port of AGENT_PORTS)
        expect(await other.ask({ do: "dial", host: lo, port, wait: 400 })).toMatchObject({
          error: "time-out",
        });
    await pod.forget();
    for (const { pod: inside } of families)
      expect(await peer.ask({ do: "dial", host: inside, port: HEALTH_PORT, wait: 400 })).toMatchObject({
        error: "time-out",
      });
    expect(await sent()).toEqual([]);
    await shut();
    // Its successor cannot bind: it fails, and does not serve beside the squatter.
    const successor = await pod.actor("pod", GUARDIAN_UID);
    expect(await successor.ask({ do: "serve", host: "::", port: AGENT_PORTS[0], text: "guardian" })).toEqual({
      error: "EADDRINUSE",
    });
    await agent.ask({ do: "close servers" });
    await agent.ask({ do: "serve", host: "::", port: 8080, text: "agent" });
  });

  test("guardian restarted: it serves and dials again, the agent stays shut", async () => {
    await openGuardian();
    expect(await agent.ask({ do: "dial", host: "127.0.0.1", port: AGENT_PORTS[0] })).toMatchObject({
      answer: "guardian",
    });
    expect(await guardian.ask({ do: "dial", host: HERE.out4, port: CANARY })).toMatchObject({
      answer: "canary",
    });
    await shut();
  });

  test("lock reloaded: the agent stays shut, earlier flows die, new ones pass", async () => {
    await guardian.ask({ do: "dial", host: HERE.out4, port: CANARY, text: "hold" });
    pod.lock(lockRules({ generation: 1 }));
    await pod.forget();
    await guardian.ask({ do: "write held" });
    expect(await sent()).toEqual([]);
    await shut();
    for (const { out, lo } of families) {
      expect(await guardian.ask({ do: "dial", host: out, port: CANARY })).toMatchObject({ answer: "canary" });
      expect(await agent.ask({ do: "dial", host: lo, port: AGENT_PORTS[1] })).toMatchObject({
        answer: "guardian",
      });
    }
    pod.lock();
  });

  test("connections that the agent opened before the lock are dead after it", async () => {
    pod.unlock();
    for (const { out } of families)
      expect(await agent.ask({ do: "dial", host: out, port: CANARY, text: "hold" })).toMatchObject({
        answer: "canary",
      });
    await peer.ask({ do: "dial", host: HERE.pod4, port: 8080, text: "hold" });
    pod.lock();
    await pod.forget();
    await agent.ask({ do: "write held" });
    await peer.ask({ do: "write held" });
    expect(await sent()).toEqual([]);
  });

  test("an agent that binds the guardian's UDP port gets no late datagram, and the guardian sent none to answer", async () => {
    const before = await peer.ask({ do: "report" });
    await guardian.ask({
      do: "datagram",
      host: HERE.out4,
      port: CANARY,
      localPort: 40_053,
      text: "question",
      wait: 50,
    });
    expect(await agent.ask({ do: "datagram", host: HERE.out4, localPort: 40_053, wait: 600 })).toEqual({
      error: "time-out",
    });
    // Also when somebody outside sends unasked.
    const listening = agent.ask({ do: "datagram", host: HERE.out4, localPort: 40_053, wait: 600 });
    await peer.ask({ do: "datagram", host: HERE.pod4, port: 40_053, wait: 100 });
    expect(await listening).toEqual({ error: "time-out" });
    expect((await peer.ask({ do: "report" }))["datagrams"]).toEqual(before["datagrams"]);
  });

  test("atoll lock status tells a whole lock and its counters, and finds one rule too many", () => {
    const { whole, generation, differences, rules } = JSON.parse(status().out);
    expect({ whole, generation, differences }).toEqual({ whole: true, generation: 0, differences: [] });
    const dropped = rules.find((rule: { comment: string }) => rule.comment === "TCP out, not the guardian's");
    expect(dropped.verdict).toBe("drop");
    expect(dropped.packets).toBeGreaterThan(0);
    pod.run("pod", ["nft", "insert", "rule", "inet", "atoll_lock", "out", "accept"]);
    expect(status()).toMatchObject({ code: 1 });
    pod.lock();
    expect(status()).toMatchObject({ code: 0 });
    pod.unlock();
    expect(JSON.parse(status().out)).toMatchObject({ whole: false, differences: ["no lock is loaded"] });
    pod.lock();
  });
});

const status = (): { code: number; out: string } => {
  const program = `import { lock } from "${new URL("../../cli/lock.ts", import.meta.url).href}"; process.exitCode = await lock(["status", "--json"], process);`;
  const { status: code, stdout } = spawnSync("ip", [
    "netns",
    "exec",
    pod.name,
    process.execPath,
    "--input-type=module",
    "-e",
    program,
  ]);
  return { code: code ?? -1, out: stdout.toString() };
};

/** The lock without the rules that ask for the owner of a packet: by the mark alone. */
const byMarkAlone = (): string =>
  lockRules()
    .split("\n")
    .filter((line) => !/without its owner|not the guardian's/.test(line))
    .join("\n");

describe("the port of a flow that the guardian gave up", () => {
  const DEAF = 7999;
  let port = 0;

  /** The guardian dials a peer that is silent, and gives up: its connection is still tracked, and marked. */
  const giveUp = async (rules: string, out: string): Promise<void> => {
    pod.lock(rules);
    const { localPort } = await guardian.ask({ do: "dial", host: out, port: DEAF, wait: 200 });
    port = Number(localPort);
    await pod.forget();
  };
  const agentDials = async (out: string): Promise<string[]> => {
    await agent.ask({ do: "dial", host: out, port: DEAF, localPort: port, wait: 300 });
    return sent();
  };
  /** The peer dials back from the port that the guardian had dialled. */
  const peerDials = async (inside: string): Promise<boolean> => {
    expect(await agent.ask({ do: "serve", host: "::", port, text: "agent" })).toEqual({ listening: true });
    const reply = await peer.ask({ do: "dial", host: inside, port, localPort: DEAF, wait: 400 });
    return "answer" in reply;
  };

  beforeAll(() => {
    // A connection tracker that checks windows happens to stop the peer too; the lock must not depend on it.
    pod.run("pod", ["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_be_liberal=1"]);
    // Deaf to the handshake alone, so that answers to its own dialling arrive.
    pod.run(
      "outside",
      ["nft", "-f", "-"],
      `table inet deaf { chain in { type filter hook input priority 0; tcp dport ${DEAF} tcp flags & (syn | ack) == syn drop\n }\n }\n`,
    );
  });

  test.each(families)("is no way out for the agent, $family", async ({ out }) => {
    await giveUp(lockRules(), out);
    expect(await agentDials(out)).toEqual([]);
    await giveUp(byMarkAlone(), out);
    expect(await agentDials(out)).not.toEqual([]);
  });

  test.each(families)("is no way in for the peer, $family", async ({ out, pod: inside }) => {
    await giveUp(lockRules(), out);
    expect(await peerDials(inside)).toBe(false);
    expect(await sent()).toEqual([]);
    await giveUp(byMarkAlone(), out);
    expect(await peerDials(inside)).toBe(true);
  });
});
