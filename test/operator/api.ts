// A real API server with our kinds, for the tests of this folder.
import { readFileSync, readdirSync } from "node:fs";
import { Agent, request } from "node:https";
import { parseAllDocuments } from "yaml";
import { startControlPlane } from "../../kind-e2e/cluster.ts";
import type { ControlPlane, ControlPlaneOptions } from "../../kind-e2e/cluster.ts";

export type Json = Record<string, unknown>;
export interface Reply {
  readonly status: number;
  readonly message: string;
  readonly body: Json;
}
export interface Api {
  readonly plane: ControlPlane;
  /** As the administrator (system:masters), or as somebody else. */
  call(method: string, path: string, body?: unknown, type?: string, as?: string): Promise<Reply>;
  stop(): Promise<void>;
}

export const root = new URL("../../", import.meta.url);
export const yamlFile = (path: string): Json[] =>
  parseAllDocuments(readFileSync(new URL(path, root), "utf8"))
    .map((d): unknown => d.toJS())
    .filter((d): d is Json => typeof d === "object" && d !== null);
export const yamlFolder = (path: string): Json[] =>
  readdirSync(new URL(path, root))
    .filter((f) => f.endsWith(".yaml"))
    .sort()
    .flatMap((f) => yamlFile(`${path}/${f}`));

const text = (v: unknown): string => (typeof v === "string" ? v : "");

/** Where an object of any kind that the tests use lies. */
export function pathOf(object: Json): string {
  const meta = object["metadata"] as { name?: string; namespace?: string } | undefined;
  const [group, version] = text(object["apiVersion"]).includes("/")
    ? text(object["apiVersion"]).split("/")
    : ["", text(object["apiVersion"])];
  const kind = text(object["kind"]).toLowerCase();
  const plural = kind.endsWith("y")
    ? `${kind.slice(0, -1)}ies`
    : kind.endsWith("s") || kind.endsWith("x")
      ? `${kind}es`
      : `${kind}s`;
  const base = group === "" ? `/api/${version ?? ""}` : `/apis/${group ?? ""}/${version ?? ""}`;
  return `${base}${meta?.namespace === undefined ? "" : `/namespaces/${meta.namespace}`}/${plural}`;
}
export const nameOf = (object: Json): string =>
  text((object["metadata"] as { name?: string } | undefined)?.name);

export async function startApi(options: ControlPlaneOptions = {}): Promise<Api> {
  const plane = await startControlPlane(options);
  const agent = new Agent({
    keepAlive: true,
    ca: plane.caPem,
    cert: readFileSync(plane.certificateFile),
    key: readFileSync(plane.keyFile),
  });
  const call: Api["call"] = (method, path, body, type, as) =>
    new Promise((resolve, reject) => {
      const payload = method === "GET" ? undefined : JSON.stringify(body ?? {});
      const sent = request(
        `${plane.url}${path}`,
        {
          method,
          agent,
          headers: {
            ...(as === undefined ? {} : { "impersonate-user": as }),
            ...(payload === undefined
              ? {}
              : {
                  "content-type": type ?? "application/json",
                  // Said by us: for DELETE Node would send a body of which the API server knows nothing.
                  "content-length": Buffer.byteLength(payload),
                }),
          },
        },
        (response) => {
          let answer = "";
          response.setEncoding("utf8");
          response.on("data", (part: string) => (answer += part));
          response.on("error", reject);
          response.on("end", () => {
            const status = response.statusCode ?? 0;
            let parsed: Json = {};
            try {
              parsed = JSON.parse(answer) as Json;
            } catch {
              // Not every answer is an object; its text is then the message.
            }
            resolve({
              status,
              message: status >= 400 ? text(parsed["message"]) || answer : "",
              body: parsed,
            });
          });
        },
      );
      sent.on("error", reject);
      sent.end(payload);
    });
  return {
    plane,
    call,
    async stop() {
      agent.destroy();
      await plane.stop();
    },
  };
}

/** Server-side apply as the installer would. */
export async function apply(api: Api, object: Json, manager = "test", as?: string): Promise<Reply> {
  const reply = await api.call(
    "PATCH",
    `${pathOf(object)}/${nameOf(object)}?fieldManager=${manager}&force=true`,
    object,
    "application/apply-patch+yaml",
    as,
  );
  if (reply.status >= 300) throw new Error(`${text(object["kind"])} ${nameOf(object)}: ${reply.message}`);
  return reply;
}

/** Applies our CRDs and waits until the server serves them. */
export async function applyCrds(api: Api): Promise<void> {
  for (const crd of yamlFolder("crds")) await apply(api, crd);
  for (const crd of yamlFolder("crds")) {
    const plural = nameOf(crd).split(".")[0] ?? "";
    await until(`${plural} is served`, async () => {
      const { status } = await api.call("GET", `/apis/atoll.dev/v1alpha1/${plural}`);
      return status === 200;
    });
  }
}

export async function until(what: string, holds: () => Promise<boolean>, seconds = 30): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
