import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ensurePrograms, startControlPlane, type ControlPlane } from "../../kind-e2e/cluster.ts";

const door = new URL("../../kind-e2e/cluster.ts", import.meta.url).href;
const running = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/mu.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
};
const until = async (what: () => boolean | Promise<boolean>, seconds = 10): Promise<void> => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    if (await what()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not within ${seconds} s`);
};
const webhook = (name: string): object => ({
  apiVersion: "admissionregistration.k8s.io/v1",
  kind: "ValidatingWebhookConfiguration",
  metadata: { name },
});
const webhooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const pod = (name: string, more: object = {}): object => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name },
  spec: { containers: [{ name: "a", image: "a" }], ...more },
});

// Whatever has to be built is built before the clock of any test runs.
beforeAll(async () => {
  await ensurePrograms(["etcd", "kube-apiserver", "kube-controller-manager"]);
});

describe("a control plane with controllers", () => {
  let plane: ControlPlane;
  beforeAll(async () => {
    plane = await startControlPlane({ controllers: true });
  });
  afterAll(() => plane.stop());

  test("says its true version", async () => {
    expect(JSON.parse((await plane.ask("/version")).text).gitVersion).toBe("v1.36.3");
  });

  test("reviews the tokens it gave, for their audience only", async () => {
    const given = await plane.ask("/api/v1/namespaces/default/serviceaccounts/default/token", {
      body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { audiences: ["atoll"] } },
    });
    expect(given.status).toBe(201);
    const { token } = JSON.parse(given.text).status;
    const review = async (audience: string): Promise<boolean> => {
      const answer = await plane.ask("/apis/authentication.k8s.io/v1/tokenreviews", {
        body: {
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenReview",
          spec: { token, audiences: [audience] },
        },
      });
      return JSON.parse(answer.text).status.authenticated === true;
    };
    expect(await review("atoll")).toBe(true);
    expect(await review("other")).toBe(false);
  });

  test("admits pods as a real API server does: service account filled in, a missing one refused", async () => {
    const made = await plane.ask("/api/v1/namespaces/default/pods", { body: pod("plain") });
    expect(made.status).toBe(201);
    expect(JSON.parse(made.text).spec.volumes[0].name).toMatch(/^kube-api-access-/u);
    const refused = await plane.ask("/api/v1/namespaces/default/pods", {
      body: pod("ghost", { serviceAccountName: "ghost" }),
    });
    expect(refused.status).toBe(403);
  });

  test("the kubeconfig works for a stock client; nobody gets in without its certificate", async () => {
    const config = JSON.parse(readFileSync(plane.kubeconfig, "utf8"));
    expect(config.clusters[0].cluster.server).toBe(plane.url);
    const ask = (...more: string[]) =>
      spawnSync(
        "curl",
        [
          "-sS",
          "--cacert",
          plane.caFile,
          "-o",
          "/dev/null",
          "-w",
          "%{http_code}",
          ...more,
          `${plane.url}/api/v1/nodes`,
        ],
        {
          encoding: "utf8",
        },
      ).stdout;
    expect(ask("--cert", plane.certificateFile, "--key", plane.keyFile)).toBe("200");
    expect(ask()).toBe("403");
  });
});

test("two control planes side by side share nothing, and nothing is left after they stop", async () => {
  const [one, two] = await Promise.all([startControlPlane(), startControlPlane()]);
  try {
    const body = { apiVersion: "v1", kind: "Namespace", metadata: { name: "only-in-one" } };
    expect((await one.ask("/api/v1/namespaces", { body })).status).toBe(201);
    expect((await one.ask("/api/v1/namespaces/only-in-one")).status).toBe(200);
    expect((await two.ask("/api/v1/namespaces/only-in-one")).status).toBe(404);
  } finally {
    await Promise.all([one.stop(), two.stop()]);
  }
  for (const plane of [one, two]) {
    expect(existsSync(plane.folder)).toBe(false);
    expect(plane.processes.map((p) => running(p.pid))).toEqual([false, false]);
  }
});

test("a static policy refuses the administrator; without it the same request passes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "atoll-static-"));
  writeFileSync(
    join(folder, "policy.yaml"),
    `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: keep.static.k8s.io}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - {apiGroups: [admissionregistration.k8s.io], apiVersions: ["*"], operations: [CREATE, UPDATE, DELETE], resources: ["*"]}
  matchConditions:
    - {name: ours, expression: "(request.operation == 'DELETE' ? oldObject : object).metadata.name.startsWith('atoll-')"}
  validations: [{expression: "false", message: "kept by a static policy"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: keep.static.k8s.io}
spec: {policyName: keep.static.k8s.io, validationActions: [Deny]}
`,
  );
  const [kept, open] = await Promise.all([
    startControlPlane({ staticPolicies: folder }),
    startControlPlane(),
  ]);
  try {
    const refused = await kept.ask(webhooks, { body: webhook("atoll-x") });
    expect(refused.status).toBe(422);
    expect(refused.text).toContain("kept by a static policy");
    expect((await kept.ask(webhooks, { body: webhook("other-x") })).status).toBe(201);
    expect((await open.ask(webhooks, { body: webhook("atoll-x") })).status).toBe(201);
  } finally {
    await Promise.all([kept.stop(), open.stop()]);
    rmSync(folder, { recursive: true });
  }
});

test("kill -9 of the process that started it leaves neither process nor folder", async () => {
  const program = `const { startControlPlane } = await import(${JSON.stringify(door)});
    const p = await startControlPlane();
    process.stdout.write(JSON.stringify({ folder: p.folder, pids: p.processes.map((r) => r.pid) }) + "\\n");
    setInterval(() => {}, 1000);`;
  const starter = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise<string>((resolve) =>
    starter.stdout.once("data", (d: Buffer) => resolve(d.toString())),
  );
  const { folder, pids } = JSON.parse(line);
  expect(existsSync(folder)).toBe(true);
  expect(pids.map(running)).toEqual([true, true]);
  starter.kill("SIGKILL");
  await until(() => !existsSync(folder) && !pids.some(running));
});

test("the program brings one up, tells where it is, and takes it away, also after its holder was killed", async () => {
  const cache = mkdtempSync(join(tmpdir(), "atoll-cache-"));
  const programs = await ensurePrograms(["etcd", "kube-apiserver"]);
  const bin = mkdtempSync(join(tmpdir(), "atoll-bin-"));
  for (const [name, path] of Object.entries(programs)) spawnSync("ln", ["-s", path, join(bin, name)]);
  const run = (...argv: string[]) => {
    const done = spawnSync(process.execPath, [new URL(door).pathname, ...argv, "--name=t"], {
      encoding: "utf8",
      env: { ...process.env, XDG_CACHE_HOME: cache, ATOLL_CLUSTER_BIN: bin },
    });
    return { code: done.status, out: done.stdout.trim(), err: done.stderr };
  };
  try {
    expect(run("status")).toMatchObject({ code: 3, out: "t not running" });
    expect(run("kubeconfig").code).toBe(3);
    const up = run("up", "--mode=control-plane");
    expect(up.err).toContain("cluster t is up");
    expect(up.code).toBe(0);
    expect(run("status").out).toMatch(/^t control-plane ready https:\/\/127/u);
    expect(run("kubeconfig").out).toBe(up.out);
    expect(run("up", "--mode=control-plane")).toMatchObject({ code: 1 });
    expect(run("down").code).toBe(0);
    expect(existsSync(up.out)).toBe(false);
    expect(run("down").err).toContain("no cluster t was running");

    const again = run("up", "--mode=control-plane");
    const { pid } = JSON.parse(readFileSync(join(cache, "atoll/clusters/t/state.json"), "utf8"));
    process.kill(pid, "SIGKILL");
    await until(() => !existsSync(again.out) && !existsSync(join(cache, "atoll/clusters/t")));
    expect(run("status").code).toBe(3);
    expect(run("up", "--mode=cp").code).toBe(2);
  } finally {
    run("down");
    rmSync(cache, { recursive: true, force: true });
    rmSync(bin, { recursive: true, force: true });
  }
});
