// `atoll check | explain | bug-report`: what stands between a cluster and governed agents, what would happen to a pod and
// why, and what to send to whoever helps.

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { parseAllDocuments } from "yaml";
import { inject, SKIPS } from "../../operator/inject/inject.ts";
import { LABEL_SIDECAR, choose, isMap } from "../../operator/kinds/kinds.ts";
import type { IndexSpec, JsonMap } from "../../operator/kinds/kinds.ts";
import { UsageError } from "../io.ts";
import type { Io } from "../io.ts";
import { judge } from "./checks.ts";
import type { Result } from "./checks.ts";
import { at, condition, labelsOf, list, named, nameOf, namespaceOf, text } from "./reading.ts";
import { withoutSecrets } from "./report.ts";
import { openClient, takeSnapshot } from "./snapshot.ts";
import type { Snapshot } from "./snapshot.ts";

const CLUSTER = {
  kubeconfig: { type: "string" },
  context: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

async function snapshotOf(values: {
  readonly kubeconfig?: string;
  readonly context?: string;
}): Promise<Snapshot> {
  const client = openClient(values.kubeconfig, values.context);
  try {
    return await takeSnapshot(client);
  } finally {
    client.close();
  }
}

const CHECK = `usage: atoll check [--pre] [--json] [--kubeconfig FILE] [--context NAME]
  --pre    only what has to be true before an installation
  --json   one object for each check
exit 0 nothing failed (there may be warnings), 1 something failed, 2 usage`;

const SIGNS = { fail: "×", warn: "!", info: "·" } as const;
const lineOf = (r: Result): string => {
  if (r.skipped !== "") return `?  ${r.what}: not known, ${r.skipped}\n`;
  const worst = r.findings.some((f) => f.level === "fail")
    ? "fail"
    : r.findings.some((f) => f.level === "warn")
      ? "warn"
      : undefined;
  const own = r.findings.map((f) => `     ${SIGNS[f.level]} ${f.message}\n`).join("");
  const hint = worst === undefined ? "" : `     → ${r.hint} (${r.id})\n`;
  return `${worst === undefined ? "√" : SIGNS[worst]}  ${r.what}\n${own}${hint}`;
};

export async function check(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { ...CLUSTER, pre: { type: "boolean" }, json: { type: "boolean" } },
  });
  if (values.help === true) {
    io.stdout.write(`${CHECK}\n`);
    return 0;
  }
  const results = judge(await snapshotOf(values), values.pre === true);
  const count = (level: string): number =>
    results.filter((r) => r.findings.some((f) => f.level === level)).length;
  const failed = count("fail");
  if (values.json === true) io.stdout.write(`${JSON.stringify(results, undefined, 2)}\n`);
  else {
    for (const r of results) io.stdout.write(lineOf(r));
    io.stdout.write(`\n${results.length} checks, ${failed} failed, ${count("warn")} with warnings\n`);
  }
  return failed === 0 ? 0 : 1;
}

const EXPLAIN = `usage: atoll explain POD -n NAMESPACE [--kubeconfig FILE] [--context NAME]
       atoll explain -f pod.yaml [-n NAMESPACE]
What happened to a pod, or would happen to a manifest: whether it is governed, by what, in which shape, and what refuses it.
exit 0 governed or left alone by rule, 1 refused or not as it should be, 2 usage`;

/** The pod in a manifest: a Pod, or the template of what makes pods. */
function podIn(path: string): JsonMap {
  for (const document of parseAllDocuments(readFileSync(path, "utf8"))) {
    const value: unknown = document.toJS();
    if (!isMap(value)) continue;
    if (value["kind"] === "Pod") return value;
    const template = at(value, "spec", "jobTemplate", "spec", "template") ?? at(value, "spec", "template");
    if (isMap(template)) return { apiVersion: "v1", kind: "Pod", ...template };
  }
  throw new Error(`\`${path}\` holds no pod and nothing that makes pods`);
}
function indexOf(s: Snapshot): IndexSpec {
  const index = named(s.lists.indexes, "cluster");
  const spec = index === undefined ? undefined : index["spec"];
  return isMap(spec) && Array.isArray(spec["sidecars"])
    ? (JSON.parse(JSON.stringify(spec)) as IndexSpec)
    : { sidecars: [] };
}

export async function explain(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { ...CLUSTER, namespace: { type: "string", short: "n" }, file: { type: "string", short: "f" } },
  });
  if (values.help === true) {
    io.stdout.write(`${EXPLAIN}\n`);
    return 0;
  }
  const [name] = positionals;
  if ((name === undefined) === (values.file === undefined))
    throw new UsageError("either a pod's name or -f FILE", EXPLAIN);
  const s = await snapshotOf(values);
  if (s.unreachable !== "") throw new Error(s.unreachable);
  const manifest = values.file === undefined ? undefined : podIn(values.file);
  const namespace =
    values.namespace ?? (manifest === undefined ? "default" : namespaceOf(manifest) || "default");
  const lines = manifest === undefined ? running(s, namespace, name ?? "") : future(s, namespace, manifest);
  for (const line of lines.text) io.stdout.write(`${line}\n`);
  return lines.good ? 0 : 1;
}

interface Told {
  readonly good: boolean;
  readonly text: readonly string[];
}
export function future(s: Snapshot, namespace: string, pod: JsonMap): Told {
  const home = named(s.lists.namespaces, namespace);
  const labels = home === undefined ? {} : labelsOf(home);
  const index = indexOf(s);
  const result = inject(pod, { name: namespace, labels }, index);
  if (result.outcome === "skip")
    return { good: true, text: [`left as it is: ${result.message} (${result.code}: ${SKIPS[result.code]})`] };
  if (result.outcome === "refuse")
    return {
      good: false,
      text: [
        `refused (${result.code}): ${result.message}`,
        ...result.findings.map((f) => `  ${JSON.stringify(f)}`),
      ],
    };
  return {
    good: true,
    text: [
      `governed by the GuardianSidecar ${result.sidecar}, size class ${result.size}, ${result.patch.length} changes`,
      ...result.warnings.map((w) => `  warning: ${w}`),
    ],
  };
}

export function running(s: Snapshot, namespace: string, name: string): Told {
  const pod = s.lists.pods.find((p) => nameOf(p) === name && namespaceOf(p) === namespace);
  if (pod === undefined) return { good: false, text: [`there is no pod ${namespace}/${name}`] };
  const home = named(s.lists.namespaces, namespace);
  const sidecar = labelsOf(pod)[LABEL_SIDECAR];
  const ours = list(pod, "spec", "initContainers").filter((c) => text(c, "name").startsWith("atoll-"));
  if (sidecar === undefined || ours.length === 0) {
    const meant = choose(indexOf(s), home === undefined ? {} : labelsOf(home), labelsOf(pod)).mine;
    return {
      good: meant.length === 0,
      text: [
        `not governed: it has no guardian`,
        meant.length === 0
          ? "  and no GuardianSidecar would take it"
          : `  though ${meant.map((e) => e.name).join(", ")} would take it now: it is older than that; delete it, and its owner makes it anew`,
      ],
    };
  }
  const object = named(s.lists.sidecars, sidecar);
  const states = list(pod, "status", "initContainerStatuses")
    .filter((c) => text(c, "name").startsWith("atoll-"))
    .map((c) => `  ${text(c, "name")}: ${at(c, "ready") === true ? "ready" : "not ready"}`);
  const conditions = ["PolicyActive", "EgressLocked", "NetworkPolicyEnforced", "Ready"].flatMap((type) => {
    const found = object === undefined ? undefined : condition(object, type);
    return found === undefined ? [] : [`  ${type}: ${found.status} (${found.reason}: ${found.message})`];
  });
  return {
    good: object !== undefined && !states.some((line) => line.endsWith("not ready")),
    text: [
      `governed by the GuardianSidecar ${sidecar}${object === undefined ? ", which is gone" : ""}`,
      ...states,
      `  policy: ${text(object, "status", "policy", "bundle")} ${text(object, "status", "policy", "hash")}`,
      ...conditions,
    ],
  };
}

const REPORT = `usage: atoll bug-report [-o report.json] [--kubeconfig FILE] [--context NAME]
The checks' results and the objects they looked at, without Secrets, environment values, annotations and policy contents.`;

export async function bugReport(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { ...CLUSTER, output: { type: "string", short: "o" } },
  });
  if (values.help === true) {
    io.stdout.write(`${REPORT}\n`);
    return 0;
  }
  const s = await snapshotOf(values);
  const report = `${JSON.stringify({ type: "atoll.dev/bug-report/v1", results: judge(s, false), snapshot: withoutSecrets(s) }, undefined, 1)}\n`;
  if (values.output === undefined) io.stdout.write(report);
  else {
    writeFileSync(values.output, report, { mode: 0o600 });
    io.stdout.write(`${values.output}: ${report.length} bytes; look through it before you send it\n`);
  }
  return 0;
}
