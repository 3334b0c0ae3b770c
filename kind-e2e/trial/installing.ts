// From an empty cluster to a policy in force.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { demoPolicy } from "../../cli/demo/policy.ts";
import { CHART, available, installChart, signPolicy, valuesOf } from "./install.ts";
import { condition, must, until } from "./kube.ts";
import {
  MODEL_URL,
  SIDECAR,
  TEAM,
  TOOLS_URL,
  agent,
  guardianSidecar,
  team,
  world,
  WORLD,
} from "./manifests.ts";
import { accepted, expect, refused, told, type Scene, type Part } from "./steps.ts";
import { programPath } from "../programs.ts";

export const policyText = (scene: Scene): string =>
  demoPolicy({
    model: MODEL_URL,
    tools: TOOLS_URL,
    approver: scene.keys.approver,
    module: "",
    serviceAccount: "agent",
  }).replace("calls: 500", "calls: 5000000");

const active = async (
  scene: Scene,
  name: string,
): Promise<{ readonly status: string; readonly text: string }> => {
  const object = await scene.kube.get("policybundle", name);
  const found = condition(object, "Active");
  return { status: found?.status ?? "", text: JSON.stringify(object["status"]) };
};
export const untilActive = (scene: Scene, name: string): Promise<object> =>
  until(`${name} is active`, 60, async () => {
    const { status, text } = await active(scene, name);
    return status === "True" ? { status } : text;
  });

export const installing: Part = {
  name: "installing",
  steps: [
    [
      "the chart lints, and its values refuse a typo with the key's name",
      async (scene) => {
        await scene.kube.helm("lint", CHART, "--values", valuesOf(scene.images, scene.keys));
        const wrong = join(scene.keys.folder, "wrong.json");
        writeFileSync(wrong, '{"operator":{"replicsa":2}}');
        const done = await must(programPath("helm"), ["template", "atoll", CHART, "--values", wrong]).then(
          () => "accepted",
          (error: unknown) => (error instanceof Error ? error.message : ""),
        );
        expect(done.includes("replicsa"), `helm said: ${done}`);
      },
    ],
    [
      "before the installation the API server knows none of our kinds",
      async ({ kube }) =>
        refused(
          await kube.tryKubectl("get", "guardiansidecars"),
          /could not find the requested resource|doesn't have a resource type/u,
        ),
    ],
    [
      "the chart installs, operator and webhook become ready",
      async ({ kube, images, keys, chart }) => {
        await installChart(kube, images, keys, chart);
        await available(kube, "atoll-operator", 120);
        await available(kube, "atoll-webhook", 120);
      },
    ],
    [
      "our pods pass the restricted Pod Security level",
      async ({ kube }) => {
        const done = await kube.tryKubectl(
          "label",
          "--dry-run=server",
          "--overwrite",
          "namespace",
          "atoll-system",
          "pod-security.kubernetes.io/enforce=restricted",
        );
        accepted(done);
        expect(!told(done).includes("violate"), told(done));
        // The twin: a namespace whose pods are privileged is warned of.
        const loose = { apiVersion: "v1", kind: "Namespace", metadata: { name: "loose" } };
        await kube.apply([
          loose,
          {
            apiVersion: "v1",
            kind: "Pod",
            metadata: { name: "loose", namespace: "loose" },
            spec: { hostNetwork: true, containers: [{ name: "c", image: "none" }] },
          },
        ]);
        const twin = await kube.tryKubectl(
          "label",
          "--dry-run=server",
          "--overwrite",
          "namespace",
          "loose",
          "pod-security.kubernetes.io/enforce=restricted",
        );
        await kube.kubectl("delete", "namespace", "loose", "--wait=false");
        expect(told(twin).includes("violate"), `the twin: ${told(twin)}`);
      },
    ],
    [
      "a governed namespace without a GuardianSidecar takes no pod, and says why",
      async (scene) => {
        await scene.kube.apply(world(scene.images.trial));
        await scene.kube.apply(team());
        await scene.kube.kubectl(
          "rollout",
          "status",
          "deployment/stand-ins",
          "--namespace",
          WORLD,
          "--timeout",
          "90s",
        );
        scene.sink = await scene.kube.kubectl(
          "get",
          "service",
          "stand-ins",
          "--namespace",
          WORLD,
          "--output",
          "jsonpath={.spec.clusterIP}",
        );
        refused(
          await scene.kube.tryApply([agent("early", scene.images.trial, scene.sink)]),
          /GuardianSidecar|ShapeIndex|no params found|atoll-shape/u,
        );
      },
    ],
    [
      "an unsigned bundle is refused, a signed one is accepted and active",
      async (scene) => {
        const file = await signPolicy(scene.keys, policyText(scene), SIDECAR, 1);
        const signed = readFileSync(file, "utf8");
        const unsigned = join(scene.keys.folder, "unsigned.yaml");
        writeFileSync(unsigned, signed.replace(/sigs:\n(?: {4}.*\n)+/u, "sigs: []\n"));
        expect(readFileSync(unsigned, "utf8") !== signed, "the signature was not taken out");
        const done = await scene.kube.tryKubectl("apply", "-f", unsigned);
        refused(done, /POLICY_SIGNATURE_INVALID|sigs/u);
        await scene.kube.kubectl("apply", "-f", file);
        await untilActive(scene, `${SIDECAR}-v1`);
      },
    ],
    [
      "a tampered bundle is refused",
      async (scene) => {
        const tampered = join(scene.keys.folder, "tampered.yaml");
        const text = readFileSync(join(scene.keys.folder, "bundle-v1.yaml"), "utf8");
        const changed = text
          .replace('"nothing-is-deleted"', '"everything-is-deleted"')
          .replace(`name: "${SIDECAR}-v1"`, `name: "${SIDECAR}-tampered"`);
        expect(
          changed.includes("everything-is-deleted") && changed.includes("-tampered"),
          "nothing was tampered with",
        );
        writeFileSync(tampered, changed);
        refused(await scene.kube.tryKubectl("apply", "-f", tampered), "POLICY_HASH_MISMATCH");
      },
    ],
    [
      "a GuardianSidecar whose image the installer does not list gives no shape; the listed one does",
      async (scene) => {
        const other = scene.images.sidecar.replace(/[0-9a-f]{64}$/u, "a".repeat(64));
        const done = await scene.kube.tryApply([guardianSidecar(other)]);
        if (done.code === 0) {
          await until("the foreign image is refused", 60, async () => {
            const found = condition(await scene.kube.get("guardiansidecar", SIDECAR), "Injected");
            return found?.status === "False" || found?.status === "Unknown" || found === undefined
              ? true
              : "it is injected";
          });
          refused(await scene.kube.tryApply([agent("foreign", scene.images.trial, scene.sink)]), /./u);
        }
        await scene.kube.apply([guardianSidecar(scene.images.sidecar)]);
        await until("the shape is known", 60, async () => {
          const found = condition(await scene.kube.get("guardiansidecar", SIDECAR), "Injected");
          return found?.status === "True" ? true : `${found?.reason ?? ""} ${found?.message ?? ""}`;
        });
      },
    ],
    [
      "a pod is injected and becomes ready; one in an ungoverned namespace is left as it is",
      async (scene) => {
        await until("the agent pod is admitted", 30, async () => {
          const done = await scene.kube.tryApply([agent("agent", scene.images.trial, scene.sink)]);
          return done.code === 0 ? true : told(done);
        });
        await scene.kube.kubectl(
          "wait",
          "--for=condition=Ready",
          "pod/agent",
          "--namespace",
          TEAM,
          "--timeout",
          "90s",
        );
        const names = (namespace: string, what: string): Promise<string> =>
          scene.kube.kubectl(
            "get",
            what,
            "--namespace",
            namespace,
            "--output",
            "jsonpath={.items[*].spec.initContainers[*].name}{.spec.initContainers[*].name}",
          );
        expect(
          (await names(TEAM, "pod/agent")).trim() === "atoll-lock atoll-guardian atoll-gate",
          "the three containers are not there in order",
        );
        expect((await names(WORLD, "pods")).trim() === "", "an ungoverned pod was injected");
      },
    ],
  ],
};
