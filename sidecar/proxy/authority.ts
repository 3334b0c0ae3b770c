// What a client of the forward proxy names: one host in the one form in which it is judged, resolved and compared.

import { absoluteName, parseAddress } from "../resolve/resolve.ts";

export interface Authority {
  /** Lower case, without a final dot and without brackets. */
  readonly host: string;
  readonly port: number;
  /** Whether the host is an address; then a TLS client has no name to send. */
  readonly literal: boolean;
}

const FORM = /^(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::([0-9]{1,5}))?$/;

/**
 * `host:port`, or undefined when it is neither name nor address. Spellings that only some parsers read as an address
 * (`0x7f.1`, `2130706433`, `127.1`) are neither.
 */
export function authorityOf(text: string, defaultPort?: number): Authority | undefined {
  const [, name = "", digits] = FORM.exec(text) ?? [];
  if (name === "") return undefined;
  const port = digits === undefined ? defaultPort : Number(digits);
  if (port === undefined || port < 1 || port > 65_535) return undefined;
  const bare = name.startsWith("[") ? name.slice(1, -1) : name;
  if (name.startsWith("[") !== bare.includes(":")) return undefined;
  if (parseAddress(bare) !== undefined) return { host: bare.toLowerCase(), port, literal: true };
  const host = absoluteName(bare);
  return host === undefined ? undefined : { host, port, literal: false };
}
