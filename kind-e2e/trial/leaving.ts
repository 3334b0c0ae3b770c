// The end: an upgrade as the installer and only as the installer, and an uninstall that leaves no trace.
import { CHART, available, installChart, valuesOf } from "./install.ts";
import { INSTALLER, until } from "./kube.ts";
import { SIDECAR, TEAM, WORLD, agent } from "./manifests.ts";
import { accepted, expect, mcp, refused, told, type Scene, type Part } from "./steps.ts";
import { run } from "./kube.ts";
import { programPath } from "../programs.ts";

const helmAs = (scene: Scene, user: string | undefined, ...args: readonly string[]) =>
  run(programPath("helm"), [
    "--kubeconfig",
    scene.kube.kubeconfig,
    ...args,
    "--namespace",
    "atoll-system",
    ...(user === undefined ? [] : ["--kube-as-user", user]),
  ]);

/** Everything in the cluster that bears our name; `atoll-cluster:` is what the provider of the cluster brought. */
async function traces(scene: Scene): Promise<string[]> {
  const kinds = [
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "clusterroles",
    "clusterrolebindings",
    "customresourcedefinitions",
    "namespaces",
  ];
  const lists = await Promise.all(kinds.map((kind) => scene.kube.kubectl("get", kind, "--output", "name")));
  return lists
    .flatMap((text) => text.split("\n"))
    .filter((name) => /atoll/u.test(name) && !name.includes("atoll-cluster:"));
}

export const leaving: Part = {
  name: "leaving",
  steps: [
    [
      "helm test runs the check from inside and passes",
      async (scene) => {
        await until("helm test passes", 90, async () => {
          const done = await helmAs(scene, INSTALLER, "test", "atoll", "--timeout", "60s");
          if (done.code === 0 && /Phase:\s+Succeeded/u.test(done.stdout)) return true;
          const said = await scene.kube.tryKubectl("logs", "atoll-check", "--namespace", "atoll-system");
          return `${told(done).slice(-200)} ${said.stdout
            .split("\n")
            .filter((l) => l.includes("×"))
            .join(" ")
            .slice(0, 600)}`;
        });
      },
    ],
    [
      "the chart upgrades as the installer, not as the administrator; calls pass before and after",
      async (scene) => {
        const values = valuesOf(scene.images, scene.keys);
        refused(
          await helmAs(
            scene,
            undefined,
            "upgrade",
            "atoll",
            CHART,
            "--values",
            values,
            "--set",
            "operator.replicas=2",
          ),
          /atoll|denied|forbidden/iu,
        );
        await installChart(scene.kube, scene.images, scene.keys);
        await available(scene.kube, "atoll-operator", 90);
        await available(scene.kube, "atoll-webhook", 90);
        const answer = await mcp(scene, "agent", "github__list_issues", { repo: "acme/one" });
        expect(!answer.error, answer.text);
      },
    ],
    [
      "rollback brings the former revision back",
      async (scene) => {
        accepted(await helmAs(scene, INSTALLER, "rollback", "atoll", "--wait=legacy", "--timeout", "120s"));
        await available(scene.kube, "atoll-webhook", 90);
        await until("governed pods are admitted", 60, async () => {
          const done = await scene.kube.tryApply(
            [agent("again", scene.images.trial, scene.sink)],
            "--dry-run=server",
          );
          return done.code === 0 ? true : told(done);
        });
      },
    ],
    [
      "the uninstall as docs/cluster.md has it leaves no trace, and pods are made as if we had never been",
      async (scene) => {
        const { kube } = scene;
        await kube
          .kubectl("delete", "namespace", TEAM, "--as", INSTALLER, "--wait=false")
          .catch(() => undefined);
        await kube
          .kubectl("delete", "pods", "--all", "--namespace", TEAM, "--wait=true", "--timeout", "90s")
          .catch(() => undefined);
        await kube.kubectl("delete", "guardiansidecar", SIDECAR, "--wait=true");
        await kube.kubectl("delete", "policybundles", "--all", "--wait=true");
        accepted(await helmAs(scene, INSTALLER, "uninstall", "atoll", "--wait", "--timeout", "120s"));
        await kube.kubectl(
          "delete",
          "customresourcedefinitions",
          "--selector",
          "app.kubernetes.io/part-of=atoll",
          "--wait=true",
          "--timeout",
          "60s",
        );
        await kube.kubectl(
          "delete",
          "clusterrole,clusterrolebinding",
          "--selector",
          "app.kubernetes.io/part-of=atoll",
        );
        await kube.kubectl(
          "delete",
          "namespace",
          "atoll-system",
          "atoll-shape",
          "--ignore-not-found",
          "--wait=true",
          "--timeout",
          "90s",
        );
        await until("nothing is left", 60, async () => {
          const left = await traces(scene);
          return left.length === 0 ? true : left.join(" ");
        });
        const free = agent("free", scene.images.trial, scene.sink);
        await kube.apply([
          {
            apiVersion: "v1",
            kind: "Namespace",
            metadata: { name: "after", labels: { "atoll.dev/governed": "true" } },
          },
        ]);
        const { spec } = free;
        if (typeof spec !== "object" || spec === null) throw new Error("no spec");
        const { serviceAccountName: _, ...plain } = { serviceAccountName: "", ...spec };
        accepted(
          await kube.tryApply(
            [{ ...free, metadata: { name: "free", namespace: "after" }, spec: plain }],
            "--dry-run=server",
          ),
        );
        expect(
          (await kube.kubectl("get", "pods", "--namespace", WORLD, "--output", "name")).includes("stand-ins"),
          "the others' pods are gone",
        );
      },
    ],
  ],
};
