import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ensurePrograms,
  openCluster,
  programPath,
  restartCluster,
  writeImage,
  type Entry,
} from "../../kind-e2e/cluster.ts";
import { makeBase } from "../../kind-e2e/base.ts";
import { nodePrograms } from "../../kind-e2e/node.ts";

import { LOCK_COMMAND } from "../../operator/shape/shape.ts";
import { lockRules } from "../../sidecar/lock/lock.ts";

const name = "nodetest";
const cluster = openCluster(name, "embedded");
const work = mkdtempSync(join(tmpdir(), "atoll-node-"));
const reference = "localhost/atoll-test/busybox:1";
let image = "";

const kubectl = (args: readonly string[], input?: unknown) => {
  const done = spawnSync(programPath("kubectl"), ["--kubeconfig", cluster.kubeconfig(), ...args], {
    encoding: "utf8",
    ...(input === undefined ? {} : { input: JSON.stringify(input) }),
  });
  return { code: done.status, out: done.stdout.trim(), err: done.stderr.trim() };
};
const must = (args: readonly string[], input?: unknown): string => {
  const done = kubectl(args, input);
  if (done.code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${done.err}`);
  return done.out;
};
const pod = (podName: string, more: object, labels: object = {}): object => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: podName, labels },
  spec: { terminationGracePeriodSeconds: 0, ...more },
});
const container = (containerName: string, ...command: string[]): object => ({
  name: containerName,
  image,
  imagePullPolicy: "IfNotPresent",
  command: ["/bin/busybox", ...command],
});
/** What a cluster of this name leaves on the machine while it lives. */
const traces = (): string[] => {
  const root = "/sys/fs/cgroup";
  const groups = ["", ...readdirSync(root)]
    .map((h) => join(root, h, `atoll-${name}`))
    .filter((p) => existsSync(p));
  const links = Object.keys(networkInterfaces()).filter((n) => n === `at-${name}`);
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .filter((line) => line.includes(`clusters/${name}`));
  const processes = readdirSync("/proc")
    .filter((p) => /^\d+$/u.test(p))
    .map((p) => {
      try {
        return readFileSync(`/proc/${p}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch {
        return "";
      }
    })
    .filter((line) => line.includes(`--name=${name}`) || line.includes("/run/atoll/"));
  return [...groups, ...links, ...mounts, ...processes];
};
const nothingLeft = async (): Promise<void> => {
  for (const end = Date.now() + 15_000; traces().length > 0 && Date.now() < end; )
    await new Promise((resolve) => setTimeout(resolve, 100));
  expect(traces()).toEqual([]);
};

beforeAll(async () => {
  await ensurePrograms(nodePrograms);
  await cluster.down();
  await cluster.up({ bound: true });
  await writeImage(
    join(work, "busybox.tar"),
    reference,
    [
      [
        { path: "bin/busybox", mode: 0o755, from: { file: "/usr/bin/busybox" } },
        { path: "tmp", mode: 0o1777, from: { folder: true } },
      ],
    ],
    { entrypoint: ["/bin/busybox"] },
  );
  image = await cluster.loadImage(join(work, "busybox.tar"), reference);
});
afterAll(async () => {
  await cluster.down();
  rmSync(work, { recursive: true });
});

describe("a node of one's own", () => {
  test("runs a pod with a native sidecar, found by its digest; logs and exec work", () => {
    expect(image).toMatch(/^localhost\/atoll-test\/busybox@sha256:[0-9a-f]{64}$/u);
    must(
      ["apply", "-f", "-"],
      pod("two", {
        initContainers: [
          {
            ...container("side", "sh", "-c", "echo from the sidecar; exec busybox sleep 3600"),
            restartPolicy: "Always",
          },
        ],
        containers: [container("main", "sh", "-c", "echo from the main; exec /bin/busybox sleep 3600")],
      }),
    );
    must(["wait", "pod/two", "--for=condition=Ready", "--timeout=60s"]);
    expect(must(["logs", "two", "-c", "main"])).toBe("from the main");
    expect(must(["logs", "two", "-c", "side"])).toBe("from the sidecar");
    expect(must(["exec", "two", "-c", "main", "--", "/bin/busybox", "echo", "hello"])).toBe("hello");
    expect(kubectl(["exec", "two", "-c", "main", "--", "/bin/busybox", "false"]).code).toBe(1);
  });

  test("resolves names, reaches a Service by name, and a NetworkPolicy closes what was open", async () => {
    must(
      ["apply", "-f", "-"],
      pod(
        "server",
        {
          containers: [container("main", "nc", "-ll", "-p", "8080", "-e", "/bin/busybox", "echo", "served")],
        },
        { app: "server" },
      ),
    );
    must(
      ["apply", "-f", "-"],
      pod("client", { containers: [container("main", "sleep", "3600")] }, { app: "client" }),
    );
    must(["apply", "-f", "-"], {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "server" },
      spec: { selector: { app: "server" }, ports: [{ port: 80, targetPort: 8080 }] },
    });
    must(["wait", "pod/server", "pod/client", "--for=condition=Ready", "--timeout=60s"]);
    const dial = (): boolean =>
      kubectl([
        "exec",
        "client",
        "--",
        "/bin/busybox",
        "nc",
        "-w",
        "2",
        "server.default.svc.cluster.local",
        "80",
      ]).out === "served";
    const becomes = async (wanted: boolean): Promise<void> => {
      for (const end = Date.now() + 20_000; dial() !== wanted; ) {
        if (Date.now() > end) throw new Error(`the Service stayed ${wanted ? "closed" : "open"}`);
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    };
    await becomes(true);
    must(["apply", "-f", "-"], {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: "closed" },
      spec: { podSelector: { matchLabels: { app: "server" } }, policyTypes: ["Ingress"] },
    });
    await becomes(false);
    must(["delete", "networkpolicy", "closed"]);
    await becomes(true);
  });

  test("runs the image made from Debian's packages: non-root nft loads the lock, Node runs, there is no shell", async () => {
    const base = makeBase(() => {});
    const ours = "localhost/atoll-test/base:1";
    const rules: Entry = { path: "etc/atoll/lock.nft", from: { text: lockRules() } };
    await writeImage(join(work, "base.tar"), ours, [base.entries, [rules]], {
      entrypoint: ["/usr/bin/node"],
    });
    const digest = await cluster.loadImage(join(work, "base.tar"), ours);
    const security = (uid: number, more: object = {}): object => ({
      runAsUser: uid,
      runAsNonRoot: true,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"], ...more },
      seccompProfile: { type: "RuntimeDefault" },
    });
    const lock = {
      name: "lock",
      image: digest,
      command: LOCK_COMMAND,
      securityContext: security(64521, { add: ["NET_ADMIN"] }),
    };
    const dial = `require("node:net").connect(443,"10.96.0.1").setTimeout(3000,()=>{console.log("closed");process.exit()})
      .on("connect",()=>{console.log("open");process.exit()}).on("error",(e)=>{console.log(e.code);process.exit()})`;
    const agent = {
      name: "agent",
      image: digest,
      command: ["/usr/bin/node", "-e", dial],
      securityContext: security(1000),
    };
    must(
      ["apply", "-f", "-"],
      pod("locked", { restartPolicy: "Never", initContainers: [lock], containers: [agent] }),
    );
    must(["apply", "-f", "-"], pod("unlocked", { restartPolicy: "Never", containers: [agent] }));
    const shell = { ...agent, name: "shell", command: ["/bin/sh", "-c", "true"] };
    must(["apply", "-f", "-"], pod("shell", { restartPolicy: "Never", containers: [shell] }));
    must(["wait", "pod/locked", "pod/unlocked", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]);
    expect(must(["logs", "unlocked"])).toBe("open");
    expect(must(["logs", "locked"])).toBe("closed");
    must(["wait", "pod/shell", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s"]);
    expect(
      must(["get", "pod", "shell", "-o", "jsonpath={.status.containerStatuses[0].state.terminated.message}"]),
    ).toContain("/bin/sh");
    must(["delete", "pod", "locked", "unlocked", "shell"]);
  });

  test("comes back after a power cut with what it knew", async () => {
    must(["create", "configmap", "kept", "--from-literal=a=b"]);
    const before = must(["get", "pod", "two", "-o", "jsonpath={.metadata.uid}"]);
    await restartCluster(name);
    expect(must(["get", "configmap", "kept", "-o", "jsonpath={.data.a}"])).toBe("b");
    must(["wait", "pod/two", "--for=condition=Ready", "--timeout=120s"]);
    expect(must(["get", "pod", "two", "-o", "jsonpath={.metadata.uid}"])).toBe(before);
    await expect
      .poll(() => kubectl(["exec", "two", "-c", "main", "--", "/bin/busybox", "echo", "again"]).out, {
        timeout: 60_000,
      })
      .toBe("again");
  });

  test("runs commands on the node, and another cluster's name is not its own", async () => {
    expect((await cluster.execOnNode(["hostname"])).stdout.trim()).toBe(name);
    expect((await cluster.execOnNode(["sh", "-c", "exit 7"])).code).toBe(7);
    await expect(openCluster("other", "embedded").execOnNode(["true"])).rejects.toThrow(
      "no cluster `other` is running",
    );
  });

  test("leaves nothing when it is taken down, and nothing when its holder is killed", async () => {
    expect(traces().length).toBeGreaterThan(3);
    expect(await cluster.down()).toBe(true);
    expect(traces()).toEqual([]);
    await cluster.up({ bound: true });
    const folder = join(cluster.kubeconfig(), "../..");
    const { pid } = JSON.parse(readFileSync(join(folder, "state.json"), "utf8"));
    expect(traces().length).toBeGreaterThan(3);
    process.kill(pid, "SIGKILL");
    await nothingLeft();
    expect(existsSync(folder)).toBe(false);
    expect(await cluster.down()).toBe(false);
  });
});
