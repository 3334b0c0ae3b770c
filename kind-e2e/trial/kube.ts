// kubectl and helm against one cluster, as a reader would call them; waiting says what it waits for.
import { spawn } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { Failure } from "../failure.ts";
import { programPath } from "../programs.ts";

export type Output = { readonly code: number; readonly stdout: string; readonly stderr: string };
export type Json = { readonly [key: string]: unknown };

export const run = (program: string, args: readonly string[], input?: string): Promise<Output> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.stdin.on("error", () => undefined);
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, stdout, stderr }));
    child.stdin.end(input ?? "");
  });

export const must = async (program: string, args: readonly string[], input?: string): Promise<string> => {
  const done = await run(program, args, input);
  const name = program.slice(program.lastIndexOf("/") + 1);
  if (done.code !== 0)
    throw new Failure(`\`${name} ${args.join(" ").slice(0, 200)}\`: ${(done.stderr || done.stdout).trim()}`);
  return done.stdout;
};

/** Asks until the answer is there; after `seconds` the last reason is told. */
export async function until<T extends object | true>(
  what: string,
  seconds: number,
  ask: () => Promise<T | string | undefined>,
): Promise<T> {
  const end = Date.now() + seconds * 1000;
  let last = "";
  for (let wait = 50; ; wait = Math.min(wait * 1.5, 1000)) {
    try {
      const answer = await ask();
      if (typeof answer === "string") last = answer;
      else if (answer !== undefined) return answer;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    if (Date.now() > end)
      throw new Failure(`${what}: not within ${seconds} s${last === "" ? "" : `; ${last}`}`);
    await pause(wait);
  }
}

export const INSTALLER = "system:serviceaccount:atoll-system:atoll-installer";

export type Kube = {
  readonly kubeconfig: string;
  readonly kubectl: (...args: readonly string[]) => Promise<string>;
  readonly tryKubectl: (...args: readonly string[]) => Promise<Output>;
  readonly helm: (...args: readonly string[]) => Promise<string>;
  readonly apply: (objects: readonly Json[], ...args: readonly string[]) => Promise<string>;
  readonly tryApply: (objects: readonly Json[], ...args: readonly string[]) => Promise<Output>;
  readonly get: (...args: readonly string[]) => Promise<Json>;
  readonly exec: (namespace: string, pod: string, ...argv: readonly string[]) => Promise<Output>;
};

export function kubeOf(kubeconfig: string): Kube {
  const kubectlPath = programPath("kubectl");
  const base = ["--kubeconfig", kubeconfig];
  const tryKubectl = (...args: readonly string[]): Promise<Output> => run(kubectlPath, [...base, ...args]);
  const kubectl = (...args: readonly string[]): Promise<string> => must(kubectlPath, [...base, ...args]);
  const listOf = (items: readonly Json[]): string =>
    JSON.stringify({ apiVersion: "v1", kind: "List", items });
  return {
    kubeconfig,
    kubectl,
    tryKubectl,
    helm: (...args) => must(programPath("helm"), [...base, ...args]),
    apply: (objects, ...args) => must(kubectlPath, [...base, "apply", "-f", "-", ...args], listOf(objects)),
    tryApply: (objects, ...args) => run(kubectlPath, [...base, "apply", "-f", "-", ...args], listOf(objects)),
    get: async (...args) => {
      const value: Json = JSON.parse(await kubectl("get", "-o", "json", ...args));
      return value;
    },
    exec: (namespace, pod, ...argv) =>
      tryKubectl("exec", "--namespace", namespace, pod, "--container", "agent", "--", ...argv),
  };
}

export type Condition = {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
};
export const conditionsOf = (object: Json): readonly Condition[] => {
  const status = object["status"];
  if (typeof status !== "object" || status === null || !("conditions" in status)) return [];
  return Array.isArray(status.conditions) ? status.conditions : [];
};
export const condition = (object: Json, type: string): Condition | undefined =>
  conditionsOf(object).find((c) => c.type === type);
