// The guardian's own dial of a canary. It passes the lock, so the network alone stops it.
import { connect, isIP } from "node:net";

export type Canary = { readonly host: string; readonly port: number };

/** `address:port`, IPv6 in brackets, comma-separated; `none` or "" is none. Throws on what cannot be read. */
export const canaryList = (text: string): Canary[] =>
  text === "" || text === "none"
    ? []
    : text.split(",").map((one) => {
        const [, six, four, port = ""] = /^(?:\[([^\]]+)\]|([0-9.]+)):([0-9]{1,5})$/.exec(one.trim()) ?? [];
        const host = six ?? four ?? "";
        if (isIP(host) === 0 || Number(port) < 1 || Number(port) > 65_535)
          throw new Error(`canary \`${one}\` is not address:port`);
        return { host, port: Number(port) };
      });

/**
 * The probe's name when the connection came about, else undefined. A refusal is no answer here: it may come from this
 * very node, which refuses for a Service without endpoints before it asks any policy, and a dead canary is the operator's
 * to see.
 */
export const dialCanary = ({ host, port }: Canary, timeoutMs: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const socket = connect({ host, port });
    const done = (reached: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reached ? `canary TCP ${host.includes(":") ? `[${host}]` : host}:${port}` : undefined);
    };
    const timer = setTimeout(() => done(false), timeoutMs);
    socket.on("connect", () => done(true));
    socket.on("error", () => done(false));
  });
