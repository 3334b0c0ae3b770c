// The server of bench/control.ts: the real control stream, in a process of its own.
import { Registry } from "prom-client";
import { makeAuthority, makeLeaf } from "../operator/certificates/certificates.ts";
import { startControl } from "../operator/control/control.ts";
// Loaded, not run: a replica holds the controllers beside the stream.
import { makeControllers } from "../operator/controllers/controllers.ts";

const leak = Number(process.argv[2]);
const leaked: Buffer[] = [];
const authority = makeAuthority(new Date(), 3_600_000);
const leaf = makeLeaf(authority, { dnsNames: ["localhost"] }, new Date(), 3_600_000);
const keys = new Map<string, string>();
let reports = 0;
const control = await startControl({
  port: 0,
  tls: { key: leaf.key, cert: leaf.certificate },
  // As the API server would answer: the token is the pod's name.
  tokens: (token) =>
    Promise.resolve({ namespace: "n", serviceAccount: "default", podName: token, podUid: token }),
  keys: {
    keyOf: (uid) => Promise.resolve(keys.get(uid)),
    keysOf: (uid) => Promise.resolve([keys.get(uid) ?? ""]),
    rotate: () => Promise.reject(new Error("nobody rotates here")),
    publish: (identity, key) => Promise.resolve(keys.set(identity.podUid, key).size > 0),
  },
  registry: new Registry(),
  podOf: (identity) => ({ uid: identity.podUid, sidecar: "s" }),
  snapshot: () => {
    if (leak > 0) leaked.push(Buffer.alloc(leak * 1024, 1));
    return [];
  },
  bundleByHash: () => undefined,
  onReport: () => void reports++,
  onChallenge: () => Promise.resolve(),
});
if (typeof makeControllers !== "function") throw new Error("the controllers were not loaded");
globalThis.gc?.();
process.send?.({ port: control.port, ca: authority.certificate, base: process.memoryUsage().rss });
process.on("message", (message) => {
  if (message === "freeze")
    control.send({ sidecar: "s" }, { event: "freeze", data: { scope: "gs/s", reason: "bench", by: "" } });
  if (message === "measure") {
    // As it is, without a collection that nobody would ask for.
    const { rss, heapUsed } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    process.send?.({
      rss,
      heapUsed,
      cpuSeconds: (user + system) / 1e6,
      connected: control.connected(),
      reports,
    });
  }
  if (message === "stop") process.exit(0);
});
