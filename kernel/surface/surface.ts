// Name patterns and destinations: what can be reached at all.

import { domainToASCII } from "node:url";
import { ContractError } from "../contracts/contracts.ts";

/** `*` stands for any run of characters, in a name of the contract. */
export function namePattern(pattern: string): (name: string) => boolean {
  if (!pattern.includes("*")) return (name) => name === pattern;
  const parts = pattern.split("*");
  const first = parts[0] ?? "";
  const last = parts.at(-1) ?? "";
  const middle = parts.slice(1, -1);
  return (name) => {
    if (!name.startsWith(first)) return false;
    let at = first.length;
    for (const part of middle) {
      const found = name.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return name.length - last.length >= at && name.endsWith(last);
  };
}
const PATTERN = /^[a-z*]+:[A-Za-z0-9._/%*-]{1,255}(:[0-9*]{1,5})?$/;
export const isNamePattern = (text: string): boolean => PATTERN.test(text) || text === "*";

/** One destination of a list: `host:port`, `*.host:port`, `*.host:*`. A star is whole labels, never the apex. */
interface Destination {
  readonly host: string;
  readonly wild: boolean;
  readonly port: number | "*";
}

/** The one form in which hosts are compared: lower case, IDNA, no final dot, no brackets. */
export function hostForm(host: string): string {
  const known = FORMS.get(host);
  if (known !== undefined) return known;
  const form = formOf(host);
  if (FORMS.size < 1000 && host.length < 256) FORMS.set(host, form);
  return form;
}
const FORMS = new Map<string, string>();
function formOf(host: string): string {
  const bare = host.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  if (bare.includes(":")) return bare.toLowerCase();
  return domainToASCII(bare).toLowerCase();
}

export function parseDestination(text: string, path: string): Destination {
  const m = /^(\*\.|\*(?=:))?(\[[0-9A-Fa-f:.]+\]|[^\s/:@*[\]]*):(\*|[0-9]{1,5})$/.exec(text);
  const [, star = "", name = "", portText = ""] = m ?? [];
  const expected = "`host:port`, `*.host:port` or `*.host:*`";
  if (m === null || (name === "" && star !== "*"))
    throw new ContractError(path, `expected ${expected}, found \`${text}\``);
  const port = portText === "*" ? "*" : Number(portText);
  if (port !== "*" && !(port >= 1 && port <= 65_535)) throw new ContractError(path, `port ${portText}`);
  const host = name === "" ? "" : hostForm(name);
  if (name !== "" && host === "") throw new ContractError(path, `\`${name}\` is no host name`);
  return { host, wild: star !== "", port };
}

/** Whether a host and port are in the list; compiled so that a long list costs one look-up a label. */
export function destinations(list: readonly string[], path: string): (host: string, port: number) => boolean {
  const exact = new Map<string, Set<number | "*">>();
  const wild = new Map<string, Set<number | "*">>();
  for (const [i, text] of list.entries()) {
    const d = parseDestination(text, `${path}[${i}]`);
    const map = d.wild ? wild : exact;
    map.set(d.host, (map.get(d.host) ?? new Set()).add(d.port));
  }
  const has = (ports: Set<number | "*"> | undefined, port: number): boolean =>
    ports !== undefined && (ports.has("*") || ports.has(port));
  return (host, port) => {
    const form = hostForm(host);
    if (form === "") return false;
    if (has(exact.get(form), port) || has(wild.get(""), port)) return true;
    for (let dot = form.indexOf("."); dot >= 0; dot = form.indexOf(".", dot + 1))
      if (has(wild.get(form.slice(dot + 1)), port)) return true;
    return false;
  };
}
