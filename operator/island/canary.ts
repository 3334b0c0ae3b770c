// The canary: a thing that answers everybody, so that silence means that a pod is shut. And its positive control: silence
// means nothing when the canary is dead, so the operator asks it itself, all the time.

import { createSocket } from "node:dgram";
import { connect, createServer, isIP } from "node:net";
import type { Socket } from "node:net";

const WORD = "atoll-canary\n";

export interface Served {
  readonly port: number;
  stop(): Promise<void>;
}
/** Answers TCP and UDP on a port, on all addresses. */
export async function serveCanary(port: number): Promise<Served> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    // Whoever holds it open is not waited for.
    socket.setTimeout(2000, () => socket.destroy());
    socket.end(WORD);
  });
  server.maxConnections = 4096;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "::", resolve);
  });
  const address = server.address();
  const bound = typeof address === "object" && address !== null ? address.port : port;
  const datagrams = createSocket({ type: "udp6" });
  datagrams.on("error", () => undefined);
  datagrams.on("message", (_, from) => datagrams.send(WORD, from.port, from.address));
  await new Promise<void>((resolve, reject) => {
    datagrams.once("error", reject);
    datagrams.bind(bound, "::", () => resolve());
  });
  return {
    port: bound,
    stop: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        datagrams.close();
        server.close(() => resolve());
      }),
  };
}

/** `address:port`, IPv6 in brackets, comma-separated; `none` is none. Throws on what cannot be read. */
export function canaryAddresses(list: string): { readonly host: string; readonly port: number }[] {
  if (list === "none" || list === "") return [];
  return list.split(",").map((one) => {
    const [, six, four, port = ""] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(one.trim()) ?? [];
    const host = six ?? four ?? "";
    if (isIP(host) === 0 || Number(port) < 1 || Number(port) > 65_535)
      throw new Error(`canary \`${one}\` is not address:port`);
    return { host, port: Number(port) };
  });
}
export const canaryText = (hosts: readonly string[], port: number): string =>
  hosts.length === 0
    ? "none"
    : hosts.map((h) => (h.includes(":") ? `[${h}]:${port}` : `${h}:${port}`)).join(",");

const answers = (host: string, port: number, timeoutMs: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host, port });
    let said = "";
    const done = (alive: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(alive);
    };
    const timer = setTimeout(() => done(false), timeoutMs);
    socket.on("error", () => done(false));
    socket.on("data", (chunk: Buffer) => {
      said += chunk.toString("latin1");
      // Its own word, so that nobody who happens to listen there passes for it.
      if (said.length >= WORD.length) done(said === WORD);
    });
    socket.on("end", () => done(said === WORD));
  });

export interface CanaryWatch {
  /** Which canaries are dead, or undefined while nothing is known lately. */
  dead(): readonly string[] | undefined;
  stop(): void;
}
/** The positive control. */
export function watchCanary(options: {
  readonly addresses: string;
  readonly everyMs?: number;
  readonly timeoutMs?: number;
  readonly now?: () => number;
  /** Called when the answer is another than before. */
  readonly onChange?: () => void;
}): CanaryWatch {
  const { everyMs = 5000, timeoutMs = 2000, now = () => performance.now() } = options;
  const addresses = canaryAddresses(options.addresses);
  let last: { readonly at: number; readonly dead: readonly string[] } | undefined;
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  const look = async (): Promise<void> => {
    const alive = await Promise.all(addresses.map(({ host, port }) => answers(host, port, timeoutMs)));
    const dead = addresses
      .filter((_, n) => alive[n] !== true)
      .map(({ host, port }) => canaryText([host], port));
    const changed = last === undefined || last.dead.join() !== dead.join();
    last = { at: now(), dead };
    if (stopped) return;
    if (changed) options.onChange?.();
    timer = setTimeout(() => void look(), everyMs);
    timer.unref();
  };
  void look();
  return {
    dead: () => (last === undefined || now() - last.at > 3 * everyMs + timeoutMs ? undefined : last.dead),
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
