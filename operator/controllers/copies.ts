// Objects of ours in governed namespaces: the trust roots and each sidecar's policy, applied where they are missing or differ.

import { sha256 } from "../../kernel/crypto/crypto.ts";
import type { JsonMap } from "../kinds/kinds.ts";
import { applyObject } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import { MANAGER } from "./saying.ts";

export interface Copies {
  /** Applies a ConfigMap unless it stands as it was applied last; the problem, if there is one. */
  apply(object: JsonMap): Promise<string | undefined>;
  /** Somebody changed or removed it: true if we had applied it. */
  doubt(namespace: string, name: string): boolean;
}

export function makeCopies(client: Client): Copies {
  const applied = new Map<string, string>();
  const pathOf = (namespace: string, name: string): string =>
    `/api/v1/namespaces/${namespace}/configmaps/${name}`;
  return {
    async apply(object) {
      const meta = object["metadata"] as { name: string; namespace: string };
      const path = pathOf(meta.namespace, meta.name);
      const text = sha256(JSON.stringify(object));
      if (applied.get(path) === text) return undefined;
      try {
        await applyObject(client, path, object, MANAGER);
        applied.set(path, text);
        return undefined;
      } catch (error) {
        return `${path}: ${error instanceof Error ? error.message : String(error)}`;
      }
    },
    doubt: (namespace, name) => applied.delete(pathOf(namespace, name)),
  };
}
