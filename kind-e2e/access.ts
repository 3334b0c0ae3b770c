// How a client reaches a cluster: the files a kubeconfig is made of, and one small authenticated request.
import { readFileSync } from "node:fs";
import { request } from "node:https";

export type Access = {
  readonly url: string;
  /** The cluster's authority, as PEM text. */
  readonly caPem: string;
  readonly caFile: string;
  /** The administrator's client certificate and key (group system:masters). */
  readonly certificateFile: string;
  readonly keyFile: string;
};

const base64 = (text: string): string => Buffer.from(text, "utf8").toString("base64");

/** One file that works wherever it is copied: certificates inside, no paths. */
export function kubeconfig(
  cluster: string,
  access: { url: string; caPem: string; certificate: string; key: string },
): string {
  return `${JSON.stringify(
    {
      apiVersion: "v1",
      kind: "Config",
      clusters: [
        {
          name: cluster,
          cluster: { server: access.url, "certificate-authority-data": base64(access.caPem) },
        },
      ],
      users: [
        {
          name: `${cluster}-admin`,
          user: {
            "client-certificate-data": base64(access.certificate),
            "client-key-data": base64(access.key),
          },
        },
      ],
      contexts: [{ name: cluster, context: { cluster, user: `${cluster}-admin` } }],
      "current-context": cluster,
    },
    null,
    2,
  )}\n`;
}

export type Answer = { readonly status: number; readonly text: string };

/** A request as the administrator. */
export function ask(
  access: Access,
  path: string,
  send?: { method?: string; type?: string; body: unknown },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const body = send === undefined ? undefined : JSON.stringify(send.body);
    const call = request(
      `${access.url}${path}`,
      {
        method: send === undefined ? "GET" : (send.method ?? "POST"),
        ca: access.caPem,
        cert: readFileSync(access.certificateFile),
        key: readFileSync(access.keyFile),
        agent: false,
        timeout: 10_000,
        ...(body === undefined
          ? {}
          : {
              headers: {
                "content-type": send?.type ?? "application/json",
                "content-length": Buffer.byteLength(body),
              },
            }),
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("error", reject);
        response.on("end", () => {
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") });
        });
      },
    );
    call.on("error", reject);
    call.on("timeout", () => call.destroy(new Error(`no answer from ${access.url}${path} within 10 s`)));
    call.end(body);
  });
}
