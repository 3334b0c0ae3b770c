// JSON Patch as the API server applies it, written apart from the code that makes patches.
import type { Operation } from "../../operator/inject/inject.ts";

type Any = Record<string, unknown> | unknown[];
export function applyPatch<T>(document: T, operations: readonly Operation[]): T {
  const copy = structuredClone(document);
  for (const operation of operations) {
    const parts = operation.path
      .split("/")
      .slice(1)
      .map((p) => p.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = parts.pop() ?? "";
    let at = copy as Any;
    for (const part of parts) {
      const next = Array.isArray(at) ? at[Number(part)] : Object.hasOwn(at, part) ? at[part] : undefined;
      if (typeof next !== "object" || next === null) throw new Error(`no parent for ${operation.path}`);
      at = next as Any;
    }
    if (Array.isArray(at)) {
      const index = Number(last);
      const limit = operation.op === "add" ? at.length : at.length - 1;
      if (!(index >= 0 && index <= limit)) throw new Error(`index out of range: ${operation.path}`);
      if (operation.op === "add") at.splice(index, 0, structuredClone(operation.value));
      else if (operation.op === "remove") at.splice(index, 1);
      else at[index] = structuredClone(operation.value);
    } else if (operation.op === "remove") {
      if (!Object.hasOwn(at, last)) throw new Error(`nothing to remove at ${operation.path}`);
      delete at[last];
    } else {
      if (operation.op === "replace" && !Object.hasOwn(at, last))
        throw new Error(`nothing to replace at ${operation.path}`);
      Object.defineProperty(at, last, {
        value: structuredClone(operation.value),
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
  }
  return copy;
}
