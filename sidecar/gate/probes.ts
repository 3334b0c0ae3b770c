// The probes: each tries to reach one target by one protocol and tells whether anybody answered. An error is no proof
// (a blocked send may report success, an open one may fail), so only what comes back counts. A reset or a refusal
// came back too.
import { createSocket } from "node:dgram";
import { get } from "node:http";
import { connect } from "node:net";
import { parseAddress } from "../resolve/resolve.ts";
import type { Echo } from "./icmp.ts";
import type { Target } from "./targets.ts";

const ANSWERS: readonly (string | undefined)[] = ["ECONNREFUSED", "ECONNRESET"];

/** Address with zone, as Node's sockets want it. */
const zoned = ({ address, scope }: Target): string => (scope === 0 ? address : `${address}%${scope}`);

const tcp = (target: Target, timeoutMs: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: zoned(target), port: target.port });
    const done = (answered: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answered);
    };
    const timer = setTimeout(() => done(false), timeoutMs);
    socket.on("connect", () => done(true));
    socket.on("error", (error: NodeJS.ErrnoException) => done(ANSWERS.includes(error.code)));
  });

/** A DNS question for the root's name servers: a name server answers it, a canary echoes it, a closed port refuses it. */
const QUESTION = Buffer.from([0x61, 0x74, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]);

const udp = (target: Target, timeoutMs: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket(target.address.includes(":") ? "udp6" : "udp4");
    let open = true;
    const done = (answered: boolean): void => {
      if (!open) return;
      open = false;
      clearTimeout(timer);
      socket.close();
      resolve(answered);
    };
    const timer = setTimeout(() => done(false), timeoutMs);
    socket.on("message", () => done(true));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (ANSWERS.includes(error.code)) done(true);
    });
    // Connected, so that a refusal (ICMP port unreachable) reaches this socket.
    socket.connect(target.port, zoned(target), (error?: Error) => {
      if (!open) return;
      if (error !== undefined && error !== null) return done(false);
      socket.send(QUESTION, (failure) => {
        if (failure !== null && "code" in failure && ANSWERS.includes(String(failure.code))) done(true);
      });
    });
  });

export type Probe = { readonly name: string; readonly run: () => Promise<boolean> };

/** All probes of the targets, named `<target> <protocol> <address>`; each tells whether it was answered. */
export const outwardProbes = (targets: readonly Target[], echo: Echo, timeoutMs: number): Probe[] =>
  targets.flatMap((target) => {
    const icmp: Probe = {
      name: `${target.name} ICMP ${target.address}`,
      run: async () =>
        (await echo(parseAddress(target.address)?.bytes ?? [], target.scope, timeoutMs)) === "answered",
    };
    if (target.port === 0) return [icmp];
    return [
      { name: `${target.name} TCP ${target.address}:${target.port}`, run: () => tcp(target, timeoutMs) },
      { name: `${target.name} UDP ${target.address}:${target.port}`, run: () => udp(target, timeoutMs) },
      icmp,
    ];
  });

/** Whether the guardian answers HTTP on its agent port, with whatever status. */
export const guardianAnswers = (url: string, timeoutMs: number): Promise<boolean> =>
  new Promise((resolve) => {
    const request = get(
      url,
      { timeout: timeoutMs, agent: false, headers: { connection: "close" } },
      (response) => {
        response.resume();
        resolve(true);
      },
    );
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
