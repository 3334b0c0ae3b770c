// From a permitted name to an open connection: resolved only now, every address judged, one of them dialled.

import { connect } from "node:net";
import type { Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { parseAddress, parseNetwork } from "../resolve/resolve.ts";
import type { Network, Resolver } from "../resolve/resolve.ts";
import type { Authority } from "./authority.ts";

/** A socket that connects, or a promise of one that is connected. */
export type Dial = (address: string, port: number) => Socket | Promise<Socket>;
export const dialAddress = (address: string, port: number): Socket =>
  connect({ host: address, port, allowHalfOpen: true, noDelay: true, autoSelectFamily: false });

export type Dialled =
  | { readonly state: "open"; readonly socket: Socket; readonly address: string }
  | { readonly state: "refused"; readonly why: string }
  | { readonly state: "failed"; readonly why: string; readonly late: boolean };

const TRIED = 3;
const WAIT_MS = 5_000;

export async function openTo(
  to: Authority,
  privateAddresses: readonly string[],
  resolver: Resolver,
  dial: Dial,
  signal: AbortSignal,
): Promise<Dialled> {
  const listed = privateAddresses.map(parseNetwork).filter((n): n is Network => n !== undefined);
  const found = await resolver.resolve(to.host, listed);
  if (found.kind === "refused")
    return { state: "refused", why: `\`${to.host}\` leads to ${found.address} (${found.range})` };
  if (found.kind === "failed")
    return { state: "failed", why: `\`${to.host}\`: ${found.reason}`, late: found.reason === "no answer" };
  const own = ownAddresses();
  const mine = found.addresses.find((a) => own.has(comparable(a)));
  // The guardian's own ports are closed to the agent, and stay so by way of the guardian.
  if (mine !== undefined) return { state: "refused", why: `\`${to.host}\` leads to ${mine} (this machine)` };
  let why = "no address";
  let late = false;
  for (const address of found.addresses.slice(0, TRIED)) {
    if (signal.aborted) break;
    const opened = await opening(dial(address, to.port), signal);
    if (typeof opened !== "string") return { state: "open", socket: opened, address };
    why = opened;
    late = opened === "time-out";
  }
  return { state: "failed", why: `\`${to.host}:${to.port}\`: ${why}`, late };
}

const comparable = (text: string): string => parseAddress(text)?.bytes.join(".") ?? text;
const ownAddresses = (): ReadonlySet<string> =>
  new Set(
    Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .map((i) => comparable(i.address)),
  );

async function opening(dialled: Socket | Promise<Socket>, signal: AbortSignal): Promise<Socket | string> {
  if (!(dialled instanceof Promise)) return connecting(dialled, signal);
  // Whoever gives up first, a socket that comes later is nobody's.
  const late = AbortSignal.any([signal, AbortSignal.timeout(WAIT_MS)]);
  const gone = new Promise<string>((resolve) =>
    late.addEventListener("abort", () => resolve(signal.aborted ? "aborted" : "time-out"), { once: true }),
  );
  const socket = dialled.then(
    (opened) => {
      if (late.aborted) opened.destroy();
      else opened.on("error", () => {});
      return opened;
    },
    (error: unknown) => codeOf(error),
  );
  return Promise.race([socket, gone]);
}
const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "error";

function connecting(socket: Socket, signal: AbortSignal): Promise<Socket | string> {
  return new Promise((resolve) => {
    const end = (result: Socket | string): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
      socket.off("connect", connected);
      if (typeof result === "string") socket.destroy();
      else socket.off("error", failed);
      resolve(result);
    };
    const connected = (): void => end(socket);
    const failed = (error: Error): void => end(codeOf(error));
    const aborted = (): void => end("aborted");
    const timer = setTimeout(() => end("time-out"), WAIT_MS);
    socket.once("connect", connected);
    // Stays for what a destroyed socket may still report.
    socket.on("error", () => {});
    socket.once("error", failed);
    signal.addEventListener("abort", aborted, { once: true });
  });
}
