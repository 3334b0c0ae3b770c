// How much memory one replica's control stream needs for many connected guardians, and how long a freeze takes to the last.
//   node bench/control.ts [--guardians 2000]
import { spawn } from "node:child_process";
import { connect } from "node:tls";
import type { TLSSocket } from "node:tls";
import { parseArgs } from "node:util";
import { Registry } from "prom-client";
import { generateKeyPairSync } from "node:crypto";
import { startControl } from "../operator/control/control.ts";
import { helloText } from "../operator/control/identity.ts";
import { makeAuthority, makeLeaf } from "../operator/certificates/certificates.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";

const { values } = parseArgs({
  options: {
    guardians: { type: "string", default: "2000" },
    serve: { type: "boolean" },
    help: { type: "boolean" },
  },
});
if (values.help === true) {
  process.stdout.write(
    "usage: node bench/control.ts [--guardians 2000]\nThe server is a process of its own, with the real control stream; the guardians are TLS connections of this one.\n",
  );
  process.exit(0);
}
const count = Number(values.guardians);

if (values.serve === true) {
  const authority = makeAuthority(new Date(), 3_600_000);
  const leaf = makeLeaf(authority, { dnsNames: ["localhost"] }, new Date(), 3_600_000);
  const keys = new Map<string, string>();
  const control = await startControl({
    port: 0,
    tls: { key: leaf.key, cert: leaf.certificate },
    // As the API server would answer: the token is the pod's name.
    tokens: (token) =>
      Promise.resolve({ namespace: "n", serviceAccount: "default", podName: token, podUid: token }),
    keys: {
      keyOf: (uid) => Promise.resolve(keys.get(uid)),
      publish: (identity, key) => Promise.resolve(keys.set(identity.podUid, key).size > 0),
    },
    registry: new Registry(),
    podOf: (identity) => ({ uid: identity.podUid, sidecar: "s" }),
    snapshot: () => [],
    bundleByHash: () => undefined,
    onReport: () => undefined,
    onChallenge: () => Promise.resolve(),
  });
  process.send?.({ port: control.port, ca: authority.certificate });
  process.on("message", (message) => {
    if (message === "freeze")
      control.send({ sidecar: "s" }, { event: "freeze", data: { scope: "gs/s", reason: "bench", by: "" } });
    if (message === "memory") {
      globalThis.gc?.();
      process.send?.({ rss: process.memoryUsage().rss, connected: control.connected() });
    }
    if (message === "stop") process.exit(0);
  });
} else {
  const child = spawn(process.execPath, ["--expose-gc", import.meta.filename, "--serve"], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const next = <T>(): Promise<T> => new Promise((resolve) => child.once("message", (m) => resolve(m as T)));
  const { port, ca } = await next<{ port: number; ca: string }>();
  const pair = generateKeyPairSync("ed25519");
  const signer = signerFromPem(pair.privateKey.export({ type: "pkcs8", format: "pem" }));
  const key = Buffer.from(signer.publicKey).toString("hex");
  const frozen: number[] = [];
  let began = 0;
  /** One connection as a guardian keeps it: nonce and stream over the same socket. */
  const guardian = (uid: string): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const socket = connect({ port, host: "127.0.0.1", servername: "localhost", ca });
      let text = "";
      let asked = false;
      let synced = false;
      socket.on("error", reject);
      socket.on("secureConnect", () =>
        socket.write(
          `POST /v1/nonce HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${uid}\r\ncontent-length: 2\r\n\r\n{}`,
        ),
      );
      socket.on("data", (part: Buffer) => {
        text = (text + part.toString("utf8")).slice(-4000);
        const nonce = asked ? undefined : /"nonce":"([0-9a-f]+)"/.exec(text)?.[1];
        if (nonce !== undefined) {
          asked = true;
          socket.write(
            `GET /v1/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${uid}\r\nx-atoll-key: ${key}\r\nx-atoll-nonce: ${nonce}\r\nx-atoll-signature: ${signer.sign(helloText(nonce, uid, key))}\r\n\r\n`,
          );
        }
        if (!synced && text.includes("event: synced")) {
          synced = true;
          resolve(socket);
        }
        if (text.includes("event: freeze")) {
          text = "";
          frozen.push(performance.now() - began);
        }
      });
    });
  const sockets: TLSSocket[] = [];
  const opening = performance.now();
  for (let i = 0; i < count; i += 50)
    sockets.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(50, count - i) }, (_, k) => guardian(`pod-${i + k}`)),
      )),
    );
  const opened = performance.now() - opening;
  await new Promise((resolve) => setTimeout(resolve, 6000));
  child.send("memory");
  const { rss, connected } = await next<{ rss: number; connected: number }>();
  began = performance.now();
  child.send("freeze");
  while (frozen.length < count && performance.now() - began < 30_000)
    await new Promise((resolve) => setTimeout(resolve, 5));
  frozen.sort((a, b) => a - b);
  const at = (q: number): string =>
    (frozen[Math.min(frozen.length - 1, Math.floor(frozen.length * q))] ?? NaN).toFixed(0);
  process.stdout.write(
    `${connected} guardians connected in ${(opened / 1000).toFixed(1)} s; RSS of the server ${(rss / 2 ** 20).toFixed(0)} MiB (bound 256)\nfreeze heard by ${frozen.length}: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, last ${at(1)} ms (bound 1000)\n`,
  );
  for (const s of sockets) s.destroy();
  child.send("stop");
  process.exitCode = connected === count && rss <= 256 * 2 ** 20 && frozen.length === count ? 0 : 1;
}
