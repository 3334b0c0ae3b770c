// Evidence: a killed guardian, a power cut, an export, two verifiers that share no code, and forgeries that both find.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { restartCluster } from "../backends.ts";
import { root } from "../build.ts";
import { guardianPid } from "./escaping.ts";
import { atoll } from "./install.ts";
import { copyJournal, journalNodes, trustFor, type SeenNode } from "./journal.ts";
import { run, until } from "./kube.ts";
import { SIDECAR, TEAM, agent } from "./manifests.ts";
import { GITHUB_TOKEN } from "./secrets.ts";
import { accepted, asAgent, expect, mcp, refused, told, type Scene, type Part } from "./steps.ts";

const CLI = join(root, "cli/atoll.ts");
const INDEPENDENT = join(root, "test/independent/verify.py");

const allowedAgain = (scene: Scene, pod: string, seconds: number): Promise<object | true> =>
  until("calls pass again", seconds, async () => {
    const answer = await mcp(scene, pod, "github__list_issues", { repo: "acme/one" });
    return answer.error ? answer.text.slice(0, 200) : true;
  });
const begins = (nodes: readonly SeenNode[], before: readonly SeenNode[]): boolean =>
  before.every((node, at) => nodes[at]?.hash === node.hash);

/** While nothing was widened yet: what once was, the check names until the pods of then are replaced. */
export const checking: Part = {
  name: "checking",
  steps: [
    [
      "`atoll check` finds nothing wrong, and names what is planted: a webhook that is gone",
      async (scene) => {
        const check = async (): Promise<{
          readonly code: number;
          readonly failed: readonly string[];
          readonly text: string;
        }> => {
          const done = await run(process.execPath, [
            CLI,
            "check",
            "--json",
            "--kubeconfig",
            scene.kube.kubeconfig,
          ]);
          const results: readonly { id: string; findings: readonly { level: string; message: string }[] }[] =
            JSON.parse(done.stdout);
          const bad = results.filter((r) => r.findings.some((f) => f.level === "fail"));
          return { code: done.code, failed: bad.map((r) => r.id), text: JSON.stringify(bad) };
        };
        await until("the check is clean", 60, async () => {
          const { code, text } = await check();
          return code === 0 ? true : text.slice(0, 600);
        });
        await scene.kube.kubectl(
          "scale",
          "deployment/atoll-webhook",
          "--namespace",
          "atoll-system",
          "--replicas=0",
        );
        try {
          await until("the check names the webhook", 60, async () => {
            const { code, failed } = await check();
            return code === 1 && failed.includes("webhook") && failed.includes("webhook-service")
              ? true
              : failed.join(" ");
          });
        } finally {
          await scene.kube.kubectl(
            "scale",
            "deployment/atoll-webhook",
            "--namespace",
            "atoll-system",
            "--replicas=2",
          );
          await scene.kube.kubectl(
            "rollout",
            "status",
            "deployment/atoll-webhook",
            "--namespace",
            "atoll-system",
            "--timeout",
            "90s",
          );
        }
        const why = await run(process.execPath, [
          CLI,
          "explain",
          "agent",
          "--namespace",
          TEAM,
          "--kubeconfig",
          scene.kube.kubeconfig,
        ]);
        expect(why.stdout.includes(`governed by the GuardianSidecar ${SIDECAR}`), told(why));
        const report = await run(process.execPath, [
          CLI,
          "bug-report",
          "--kubeconfig",
          scene.kube.kubeconfig,
        ]);
        expect(
          report.code === 0 && report.stdout.includes(TEAM) && !report.stdout.includes(GITHUB_TOKEN),
          "the report is empty or tells a secret",
        );
      },
    ],
  ],
};

export const proving: Part = {
  name: "proving",
  steps: [
    [
      "a guardian that is killed comes back with the same key, and its chains go on",
      async (scene) => {
        const before = await journalNodes(scene, "agent");
        const pid = await guardianPid(scene);
        accepted(await scene.cluster.execOnNode(["kill", "-9", pid]));
        expect(
          (await asAgent(scene, "agent", "dial", scene.sink, "8082")) === '"closed"',
          "the way out opened while the guardian was down",
        );
        await allowedAgain(scene, "agent", 60);
        const after = await journalNodes(scene, "agent");
        expect(begins(after, before) && after.length > before.length, "the chain does not go on");
      },
    ],
    [
      "after a power cut of the node no ungoverned pod ran, and the chains go on",
      async (scene) => {
        if (scene.cluster.backend === "kind") return;
        const before = await journalNodes(scene, "agent");
        await restartCluster(scene.name);
        await until("the pod is ready again", 180, async () => {
          const text = await scene.kube.kubectl(
            "get",
            "pod",
            "agent",
            "--namespace",
            TEAM,
            "--output",
            'jsonpath={.status.conditions[?(@.type=="Ready")].status}',
          );
          return text === "True" ? true : text;
        });
        await allowedAgain(scene, "agent", 90);
        expect(
          (await asAgent(scene, "agent", "dial", scene.sink, "8082")) === '"closed"',
          "the way out is open after the restart",
        );
        const said = await scene.kube.kubectl("logs", "agent", "--namespace", TEAM, "--container", "agent");
        expect(
          said.includes('{"first_dial":"closed"}') && !said.includes('"open"'),
          `the agent's first word: ${said}`,
        );
        const after = await journalNodes(scene, "agent");
        expect(begins(after, before) && after.length > before.length, "the chain does not go on");
        const count = await scene.kube.kubectl(
          "get",
          "guardiansidecar",
          SIDECAR,
          "--output",
          "jsonpath={.status.counts.unguarded}",
        );
        expect(count === "0", `${count} pods are unguarded`);
      },
    ],
    [
      "every receipt that the agent was given is in the export, which both verifiers accept",
      async (scene) => {
        const answers = [
          await mcp(scene, "agent", "github__create_issue", { repo: "acme/one", title: "for the record" }),
          await mcp(scene, "agent", "github__delete_repo", { repo: "acme/one" }),
        ];
        const pack = join(scene.keys.folder, "pack.tar");
        const trust = await trustFor(scene, "agent");
        await atoll("export", "--journal", await copyJournal(scene, "agent"), "-o", pack);
        await atoll("verify", pack, "--trust", trust);
        const bytes = readFileSync(pack);
        for (const { receipt, text } of answers) expect(receipt !== "" && bytes.includes(receipt), text);
        accepted(await run("python3", [INDEPENDENT, pack, "--trust", trust]));
      },
    ],
    [
      "one changed letter, and a stranger's trust, are refused by both",
      async (scene) => {
        const pack = join(scene.keys.folder, "pack.tar");
        const trust = join(scene.keys.folder, "believed.pem");
        const forged = join(scene.keys.folder, "forged.tar");
        const bytes = readFileSync(pack);
        const at = bytes.indexOf('"reason_code":"DENY_RULE"');
        expect(at > 0, "the denial is not in the pack");
        bytes.write("DENY_RULF", at + '"reason_code":"'.length);
        writeFileSync(forged, bytes);
        for (const [what, keys] of [
          [forged, trust],
          [pack, scene.keys.roots],
        ] as const) {
          const own = await run(process.execPath, [
            join(root, "cli/atoll.ts"),
            "verify",
            what,
            "--trust",
            keys,
          ]);
          expect(own.code === 1, `atoll verify: ${told(own)}`);
          const other = await run("python3", [INDEPENDENT, what, "--trust", keys]);
          expect(other.code === 1, `verify.py: ${told(other)}`);
        }
      },
    ],
    [
      "a Job's pod ends when its agent ends, guardian and gate with it",
      async (scene) => {
        const pod = agent("job", scene.images.trial, scene.sink, "tools");
        const { spec } = pod;
        if (typeof spec !== "object" || spec === null) throw new Error("no spec");
        await until("the job is admitted", 30, async () => {
          const done = await scene.kube.tryApply([
            {
              apiVersion: "batch/v1",
              kind: "Job",
              metadata: { name: "job", namespace: TEAM },
              spec: { backoffLimit: 3, template: { spec: { ...spec, restartPolicy: "Never" } } },
            },
          ]);
          return done.code === 0 ? true : told(done);
        });
        accepted(
          await scene.kube.tryKubectl(
            "wait",
            "--for=condition=Complete",
            "job/job",
            "--namespace",
            TEAM,
            "--timeout",
            "120s",
          ),
        );
        refused(
          await scene.kube.tryKubectl("exec", "--namespace", TEAM, "job/job", "--", "/usr/bin/node", "-v"),
          /./u,
        );
        await scene.kube.kubectl("delete", "job", "job", "--namespace", TEAM, "--wait=true");
      },
    ],
  ],
};
