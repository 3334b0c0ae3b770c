// The difference between two JSON values as a JSON Patch (RFC 6902), small enough for a person to read.

import { isMap } from "../kinds/kinds.ts";
import type { Json, JsonMap } from "../kinds/kinds.ts";

export type Operation =
  | { readonly op: "add" | "replace"; readonly path: string; readonly value: Json }
  | { readonly op: "remove"; readonly path: string };

const escape = (key: string): string => key.replaceAll("~", "~0").replaceAll("/", "~1");

export function equal(a: Json | undefined, b: Json | undefined): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((v: Json, i) => equal(v, b[i] as Json | undefined));
  if (!isMap(a) || !isMap(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((k) => Object.hasOwn(b, k) && equal(a[k], b[k]));
}

export function difference(before: Json, after: Json, path = ""): Operation[] {
  if (equal(before, after)) return [];
  if (isMap(before) && isMap(after)) return mapDifference(before, after, path);
  if (Array.isArray(before) && Array.isArray(after)) return listDifference(before, after, path);
  return [{ op: "replace", path, value: after }];
}

function mapDifference(before: JsonMap, after: JsonMap, path: string): Operation[] {
  const operations: Operation[] = [];
  for (const key of Object.keys(before))
    if (!Object.hasOwn(after, key)) operations.push({ op: "remove", path: `${path}/${escape(key)}` });
  for (const [key, value] of Object.entries(after)) {
    if (value === undefined) continue;
    const at = `${path}/${escape(key)}`;
    const old = Object.hasOwn(before, key) ? before[key] : undefined;
    if (old === undefined) operations.push({ op: "add", path: at, value });
    else operations.push(...difference(old, value, at));
  }
  return operations;
}

const nameOf = (v: Json | undefined): Json | undefined => (isMap(v) ? v["name"] : undefined);

/** Elements are matched by `name` where they have one; what moved is removed and added. */
function listDifference(before: readonly Json[], after: readonly Json[], path: string): Operation[] {
  const same = (a: Json, b: Json): boolean =>
    equal(a, b) || (nameOf(a) !== undefined && equal(nameOf(a), nameOf(b)));
  const kept: (readonly [from: number, to: number])[] = [];
  let from = 0;
  for (let to = 0; to < after.length; to++) {
    const target = after[to] as Json;
    const found = before.findIndex((b, i) => i >= from && same(b, target));
    if (found === -1) continue;
    kept.push([found, to]);
    from = found + 1;
  }
  const removed = before.map((_, i) => i).filter((i) => !kept.some(([f]) => f === i));
  const operations: Operation[] = removed
    .reverse()
    .map((i): Operation => ({ op: "remove", path: `${path}/${i}` }));
  after.forEach((value, to) => {
    const pair = kept.find(([, t]) => t === to);
    if (pair === undefined) operations.push({ op: "add", path: `${path}/${to}`, value });
    else operations.push(...difference(before[pair[0]] as Json, value, `${path}/${to}`));
  });
  return operations;
}
