// The chart as Helm renders it, and the operator's programs as processes with the rights that it gives them.
import { execFileSync, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { ensurePrograms, programPath } from "../../kind-e2e/cluster.ts";
import type { Api, Json } from "./api.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const CHART = join(ROOT, "charts/atoll");

export async function helm(args: readonly string[]): Promise<string> {
  await ensurePrograms(["helm"]);
  return execFileSync(programPath("helm"), args, { cwd: ROOT, encoding: "utf8", maxBuffer: 64 << 20 });
}

export interface ChartValues {
  readonly roots: string;
  readonly digests: readonly string[];
}
/** Values as a person would write them into a file. */
export function valuesFile(api: Api, values: ChartValues): string {
  const path = join(api.plane.folder, "values.json");
  writeFileSync(
    path,
    JSON.stringify({ trust: { roots: values.roots }, guardian: { digests: values.digests } }),
  );
  return path;
}
export async function rendered(api: Api, values: ChartValues): Promise<Json[]> {
  const text = await helm([
    "template",
    "atoll",
    CHART,
    "--namespace",
    "atoll-system",
    "--no-hooks",
    "--values",
    valuesFile(api, values),
  ]);
  return parseAllDocuments(text)
    .map((d) => d.toJS() as Json | null)
    .filter((o): o is Json => o !== null);
}

/** What a pod with this service account would find: the API server's address, a token of its own, the authority. */
export async function podEnvironment(api: Api, serviceAccount: string): Promise<Record<string, string>> {
  const { body, message } = await api.call(
    "POST",
    `/api/v1/namespaces/atoll-system/serviceaccounts/${serviceAccount}/token`,
    { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 7200 } },
  );
  if (message !== "") throw new Error(message);
  const folder = join(api.plane.folder, serviceAccount);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "token"), (body["status"] as { token: string }).token, { mode: 0o600 });
  writeFileSync(join(folder, "ca.crt"), api.plane.caPem);
  const { hostname, port } = new URL(api.plane.url);
  return {
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
    ATOLL_SERVICE_ACCOUNT: folder,
  };
}

export interface Program {
  readonly process: ChildProcess;
  /** The JSON lines it has written. */
  readonly lines: Json[];
  stop(): Promise<number | null>;
}
/** operator/main.ts or operator/webhook.ts, or a bundle of it, as its container would start it. */
export function startProgram(file: string, env: Readonly<Record<string, string>>): Program {
  const child = spawn(process.execPath, [resolve(ROOT, file)], {
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: Json[] = [];
  let rest = "";
  const read = (part: Buffer): void => {
    rest += part.toString("utf8");
    const parts = rest.split("\n");
    rest = parts.pop() ?? "";
    for (const line of parts)
      try {
        lines.push(JSON.parse(line) as Json);
      } catch {
        lines.push({ text: line });
      }
  };
  child.stdout.on("data", read);
  child.stderr.on("data", read);
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  return {
    process: child,
    lines,
    stop() {
      child.kill("SIGTERM");
      return ended;
    },
  };
}
