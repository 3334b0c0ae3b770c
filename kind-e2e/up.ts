#!/usr/bin/env node
// `npm run up`: a real Kubernetes with a governed agent on it, from nothing; `npm run down` leaves nothing.
import { dirname } from "node:path";
import { asked, text } from "./asked.ts";
import { openCluster } from "./backends.ts";
import { Failure } from "./failure.ts";
import { readState } from "./holder.ts";
import { requireRoot } from "./node.ts";
import { programs } from "./pins.ts";
import { ensurePrograms, programPath } from "./programs.ts";
import { demoPolicy } from "../cli/demo/policy.ts";
import { installChart, loadImages, makeKeys, signPolicy, trialFolder, STATIC } from "./trial/install.ts";
import { condition, kubeOf, until, type Output } from "./trial/kube.ts";
import {
  DONE_URL,
  MODEL_URL,
  SIDECAR,
  TEAM,
  TOOLS_URL,
  WORLD,
  agent,
  guardianSidecar,
  team,
  trial,
  world,
} from "./trial/manifests.ts";

const USAGE = `usage: npm run up [-- --name NAME]

Brings up a single-node Kubernetes (kind where Docker and kind answer, else the embedded one, which is built from its
Go modules the first time: about a quarter of an hour on two cores), builds the images, installs the chart, signs and
applies a policy, and has an agent pod governed: one call allowed, one denied, its way out closed.
\`npm run down [-- --name NAME]\` ends it and removes everything.
`;
const began = performance.now();
let last = began;
const line = (text: string): void => {
  const now = performance.now();
  const seconds = ((now - began) / 1000).toFixed(1).padStart(6);
  process.stderr.write(`${seconds} s  ${text}\n`);
};
const step = (text: string): void => {
  line(`${text} (${((performance.now() - last) / 1000).toFixed(1)} s)`);
  last = performance.now();
};
const detail = (text: string): void => line(`  ${text}`);

async function up(name: string): Promise<void> {
  const cluster = openCluster(name);
  if (cluster.backend === "embedded") {
    requireRoot();
    await ensurePrograms(
      programs.map((p) => p.name),
      detail,
    );
    step("programs of the cluster are there");
    if (readState(name)?.phase !== "ready") await cluster.up({ report: detail, staticPolicies: STATIC });
  } else if (!cluster.running()) await cluster.up({ report: detail });
  step(`cluster \`${name}\` (${cluster.backend}) runs`);
  const kube = kubeOf(cluster.kubeconfig());

  const images = await loadImages(cluster, detail);
  step("images built and loaded");
  const keys = await makeKeys(trialFolder(name));
  await installChart(kube, images, keys);
  step("chart installed: operator and webhook are ready");

  await kube.apply(world(images.trial));
  await kube.apply(team());
  const policy = demoPolicy({
    model: MODEL_URL,
    tools: TOOLS_URL,
    approver: keys.approver,
    module: "",
    serviceAccount: "agent",
  });
  const bundle = await signPolicy(keys, policy, SIDECAR, 1);
  await kube.kubectl("apply", "-f", bundle);
  await kube.apply([guardianSidecar(images.sidecar)]);
  await until("the policy is active", 60, async () => {
    const found = condition(await kube.get("policybundle", `${SIDECAR}-v1`), "Active");
    return found?.status === "True" ? true : `${found?.reason ?? ""} ${found?.message ?? ""}`;
  });
  await until("the sidecar's shape is known", 60, async () => {
    const found = condition(await kube.get("guardiansidecar", SIDECAR), "Injected");
    return found?.status === "True" ? true : `${found?.reason ?? ""} ${found?.message ?? ""}`;
  });
  step("policy signed, applied and active; GuardianSidecar applied");

  await kube.kubectl("rollout", "status", "deployment/stand-ins", "--namespace", WORLD, "--timeout", "60s");
  const service = await kube.kubectl(
    "get",
    "service",
    "stand-ins",
    "--namespace",
    WORLD,
    "--output",
    "jsonpath={.spec.clusterIP}",
  );
  await kube.kubectl("delete", "pod", "agent", "--namespace", TEAM, "--ignore-not-found", "--wait=true");
  await until("the agent pod is admitted", 30, async () => {
    const done = await kube.tryApply([agent("agent", images.trial, service)]);
    return done.code === 0 ? true : done.stderr;
  });
  await kube.kubectl("wait", "--for=condition=Ready", "pod/agent", "--namespace", TEAM, "--timeout", "90s");
  step("agent pod runs beside its guardian");

  const asked = async (...argv: string[]): Promise<string> => {
    const done = await kube.exec(TEAM, "agent", ...trial(...argv));
    return done.stdout + done.stderr;
  };
  const allowed = await until("an allowed call", 30, async () => {
    const text = await asked("mcp", "github__create_issue", '{"repo":"acme/one","title":"it works"}');
    return text.includes('"number":') && !text.includes('"isError":true') ? { text } : text;
  });
  step(`ALLOWED  github__create_issue: ${allowed.text.trim().slice(0, 100)}…`);
  const denied = await asked("mcp", "github__delete_repo", '{"repo":"acme/one"}');
  if (!denied.includes('"isError":true') || !denied.includes("DENY_RULE"))
    throw new Failure(`the call was not denied: ${denied}`);
  step("DENIED   github__delete_repo: DENY_RULE, with a receipt");
  const out = await asked("dial", service, "8082");
  if (out.trim() !== '"closed"') throw new Failure(`the agent reached ${service}:8082: ${out}`);
  const inWorld = (...argv: string[]): Promise<Output> =>
    kube.tryKubectl("exec", "--namespace", WORLD, "deployment/stand-ins", "--", ...trial(...argv));
  if ((await inWorld("dial", service, "8082")).stdout.trim() !== '"open"')
    throw new Failure("the control of the dial failed: a pod without a guardian does not reach it either");
  const done = await inWorld("get", DONE_URL.replace(/\/\/.*:/u, "//127.0.0.1:"));
  if (!done.stdout.includes("create_issue") || done.stdout.includes("delete_repo"))
    throw new Failure("the denied call reached the tool server");
  step("LOCKED   the agent's own way out is closed; the tool server saw the allowed call alone");
  process.stdout.write(`
Try it:
  export KUBECONFIG=${cluster.kubeconfig()} PATH=${dirname(programPath("kubectl"))}:$PATH
  kubectl get guardiansidecars,policybundles
  kubectl exec -n ${TEAM} agent -c agent -- ${trial("mcp", "github__list_issues", `'{"repo":"acme/one"}'`).join(" ")}
  kubectl logs -n ${TEAM} agent -c atoll-guardian
The end of it: npm run down${name === "atoll" ? "" : ` -- --name ${name}`}
`);
}

const { name } = asked(USAGE, { name: text("atoll") });
try {
  await up(name);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  line(error.message);
  process.exitCode = 1;
}
