import { createServer } from "node:net";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { kubeconfig } from "../../kind-e2e/access.ts";
import { admissionConfiguration, apiserverFlags, portTaken } from "../../kind-e2e/control-plane.ts";
import { kubernetesVersion, linkerFlags, modulesFolder, pinHash, programs } from "../../kind-e2e/pins.ts";
import { freePorts } from "../../kind-e2e/ports.ts";
import { cacheFolder, goSuffices, progressLine, programPath } from "../../kind-e2e/programs.ts";

test("ports are different from each other and free", async () => {
  const ports = await freePorts(8);
  expect(new Set(ports).size).toBe(8);
  for (const port of ports) {
    const server = createServer().listen(port, "127.0.0.1");
    await once(server, "listening");
    server.close();
  }
});

test("a taken port is told from other failures", () => {
  expect(portTaken("listen tcp 127.0.0.1:1: bind: address already in use")).toBe(true);
  expect(portTaken("connection refused")).toBe(false);
});

test("a kubeconfig carries its certificates inside and names no file", () => {
  const text = kubeconfig("one", {
    url: "https://127.0.0.1:6443",
    caPem: "CA",
    certificate: "CERT",
    key: "KEY",
  });
  const config = JSON.parse(text);
  expect(config.clusters[0].cluster).toEqual({
    server: "https://127.0.0.1:6443",
    "certificate-authority-data": Buffer.from("CA").toString("base64"),
  });
  expect(config["current-context"]).toBe("one");
  expect(text).not.toContain("/tmp");
});

test("static policies reach the API server by an absolute folder, and only with their feature gate", () => {
  expect(JSON.parse(admissionConfiguration("./policies")).plugins[0].configuration.staticManifestsDir).toBe(
    join(process.cwd(), "policies"),
  );
  const settings = {
    secrets: "/s",
    etcdPort: 1,
    port: 2,
    bindAddress: "127.0.0.1",
    advertiseAddress: "127.0.0.1",
  };
  expect(apiserverFlags(settings).join(" ")).not.toContain("feature-gates");
  expect(apiserverFlags({ ...settings, admissionFile: "/a.json" })).toEqual(
    expect.arrayContaining([
      "--feature-gates=ManifestBasedAdmissionControlConfig=true",
      "--admission-control-config-file=/a.json",
    ]),
  );
});

test("the version that clients are told is the version that go.mod pins", () => {
  const pinned = readFileSync(join(modulesFolder, "kubernetes", "go.mod"), "utf8");
  expect(pinned).toMatch(
    new RegExp(`^\\tk8s\\.io/kubernetes v${kubernetesVersion.replaceAll(".", "\\.")}( |$)`, "mu"),
  );
  expect(linkerFlags("kubernetes")).toContain(`gitVersion=v${kubernetesVersion}`);
  expect(linkerFlags("etcd")).not.toContain("gitVersion");
});

test("every module that requires others has checksums for them", () => {
  const requiring = [...new Set(programs.map((p) => p.module))].filter((module) =>
    readFileSync(join(modulesFolder, module, "go.mod"), "utf8").includes("require"),
  );
  expect(requiring).toEqual(["etcd", "kubernetes", "containerd", "calico", "coredns", "helm"]);
  for (const module of requiring)
    expect(readFileSync(join(modulesFolder, module, "go.sum"), "utf8")).toMatch(/ h1:[A-Za-z0-9+/=]{44}\n/u);
});

test("programs lie under a name made of their pins, or where ATOLL_CLUSTER_BIN says", () => {
  expect(pinHash("etcd")).not.toBe(pinHash("helm"));
  expect(programPath("etcd", { XDG_CACHE_HOME: "/c" })).toBe(`/c/atoll/cluster/etcd-${pinHash("etcd")}/etcd`);
  expect(programPath("etcd", { XDG_CACHE_HOME: "/c", ATOLL_CLUSTER_BIN: "/b" })).toBe("/b/etcd");
  expect(cacheFolder({ XDG_CACHE_HOME: "" })).toMatch(/\/\.cache\/atoll\/cluster$/u);
});

test("a waiting person reads what is built and what is left", () => {
  expect(progressLine(0, 14, "etcd", 876)).toBe("building etcd (1 of 14; about 15 min left)");
  expect(progressLine(13, 14, "helm", 80)).toBe("building helm (14 of 14; about 80 s left)");
});

test("an older Go will do when it may fetch the one that is needed", () => {
  expect(goSuffices("go1.26.8", "local")).toBe(true);
  expect(goSuffices("go1.24.4", "auto")).toBe(true);
  expect(goSuffices("go1.24.4", "local")).toBe(false);
  expect(goSuffices("go1.19.8", "")).toBe(false);
  expect(goSuffices("", "")).toBe(false);
});
