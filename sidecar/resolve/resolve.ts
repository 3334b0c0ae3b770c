// Names to addresses for the guardian: c-ares over TCP, never the platform's `lookup` (it hangs for minutes on a dead
// server and starves the thread pool). The lock has no UDP rule, so a resolver that forgot TCP resolves nothing.
import { promises as dns } from "node:dns";
import { judgeAddress, type Network, parseAddress } from "./addresses.ts";

export { judgeAddress, type Judgement, type Network, parseAddress, parseNetwork } from "./addresses.ts";

export type Resolution =
  /** Addresses that may be dialled, all of them judged; dial one of these and never the name. */
  | { readonly kind: "addresses"; readonly addresses: readonly string[] }
  /** The name, or one of its addresses, lies where nothing may be dialled. */
  | { readonly kind: "refused"; readonly address: string; readonly range: string }
  | { readonly kind: "failed"; readonly reason: "not found" | "no answer" | "not a name" };

export type Resolver = {
  /** `listed`: private networks that this destination may lie in. */
  readonly resolve: (name: string, listed?: readonly Network[]) => Promise<Resolution>;
  /** Ends what is in flight; the resolver answers `no answer` from then on. */
  readonly close: () => void;
};

export type ResolverOptions = {
  /** Ask over TCP alone. Needed in a governed pod; sets `RES_OPTIONS` of this process, where c-ares reads it. */
  readonly tcp: boolean;
  /** Servers instead of those of the system, as `address:port`. */
  readonly servers?: readonly string[];
  /** One attempt at one server, in milliseconds. */
  readonly timeoutMs?: number;
  readonly tries?: number;
  /** The whole resolution, in milliseconds. */
  readonly deadlineMs?: number;
  /** Somebody else who is asked, where this pod reaches no name server. */
  readonly ask?: (name: string) => Promise<Answers>;
};

export type Answers = {
  readonly found: readonly string[];
  /** Codes of what failed, as c-ares names them. */
  readonly codes: readonly string[];
};

const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * The name as it is asked: lower case, without the final dot, or undefined when it is no absolute host name. A name whose
 * last label is a number is none: some parsers would read an address in it.
 */
export const absoluteName = (text: string): string | undefined => {
  const name = text.toLowerCase().replace(/\.$/, "");
  const labels = name.split(".");
  if (name.length > 253 || !labels.every((label) => LABEL.test(label))) return undefined;
  return /^(0x[0-9a-f]*|[0-9]+)$/.test(labels.at(-1) ?? "") ? undefined : name;
};

const judged = (addresses: readonly string[], listed: readonly Network[]): Resolution => {
  for (const address of addresses) {
    const judgement = judgeAddress(address, listed);
    // One forbidden address condemns the name: an honest name has none, and a rebinding one mixes them.
    if (!judgement.allowed) return { kind: "refused", address, range: judgement.range };
  }
  return { kind: "addresses", addresses };
};

const codeOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "code" in error && typeof error.code === "string"
    ? error.code
    : "";

const withUseVc = (options: string | undefined): string => {
  const words = (options ?? "").split(/\s+/).filter((word) => word !== "");
  return words.includes("use-vc") ? words.join(" ") : [...words, "use-vc"].join(" ");
};

export const makeResolver = (options: ResolverOptions): Resolver => {
  if (options.tcp) process.env["RES_OPTIONS"] = withUseVc(process.env["RES_OPTIONS"]);
  const { timeoutMs = 1000, tries = 2, deadlineMs = 5000 } = options;
  // One per resolver and not per look-up: c-ares remembers which server is dead.
  const cares = new dns.Resolver({ timeout: timeoutMs, tries });
  if (options.servers !== undefined) cares.setServers([...options.servers]);
  let closed = false;

  const askServers = async (name: string): Promise<Answers> => {
    const answers = await Promise.allSettled([cares.resolve4(name), cares.resolve6(name)]);
    return {
      found: answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : [])),
      codes: answers.flatMap((answer) => (answer.status === "rejected" ? [codeOf(answer.reason)] : [])),
    };
  };

  const ask = options.ask ?? askServers;

  return {
    resolve: async (text, listed = []) => {
      if (parseAddress(text) !== undefined) return judged([text], listed);
      const name = absoluteName(text);
      if (name === undefined) return { kind: "failed", reason: "not a name" };
      if (closed) return { kind: "failed", reason: "no answer" };
      const late = Promise.withResolvers<undefined>();
      const timer = setTimeout(() => late.resolve(undefined), deadlineMs);
      const answer = await Promise.race([ask(name), late.promise]);
      clearTimeout(timer);
      if (answer === undefined) return { kind: "failed", reason: "no answer" };
      if (answer.found.length > 0) return judged(answer.found, listed);
      const absent = answer.codes.every((code) => code === "ENOTFOUND" || code === "ENODATA");
      return { kind: "failed", reason: absent ? "not found" : "no answer" };
    },
    close: () => {
      closed = true;
      cares.cancel();
    },
  };
};
