// Opens the guardian's ports inside the island and hands them out over its process channel. Started as root in the
// network namespace, it becomes the guardian's UID before it opens anything: the lock knows the guardian's answers by the
// UID that opened the socket. It then stays, holding the namespace, until whoever started it is gone.
import { createServer, type Server } from "node:net";
import { AGENT_PORTS, GUARDIAN_UID } from "../lock/lock.ts";

process.setgroups?.([]);
process.setgid?.(GUARDIAN_UID);
process.setuid?.(GUARDIAN_UID);
process.on("disconnect", () => process.exit());

const listen = (host: string, port: number): Promise<Server | undefined> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      // A machine without IPv6 has nobody to answer there.
      if (host === "::1" && (error.code === "EADDRNOTAVAIL" || error.code === "EAFNOSUPPORT"))
        resolve(undefined);
      else reject(error);
    });
    server.listen({ host, port, backlog: 511 }, () => resolve(server));
  });

const tell = (message: object, server?: Server): Promise<void> =>
  new Promise((resolve, reject) => {
    process.send?.(message, server, {}, (error) => (error === null ? resolve() : reject(error)));
  });

let opened = 0;
for (const port of AGENT_PORTS)
  for (const host of ["127.0.0.1", "::1"]) {
    const server = await listen(host, port);
    if (server === undefined) continue;
    await tell({ port, host }, server);
    // The receiver's copy stays open; this one must not take connections.
    server.close();
    opened++;
  }
await tell({ opened });
// A channel alone does not keep a process that never listens to it.
process.channel?.ref();
setInterval(() => undefined, 1 << 30);
