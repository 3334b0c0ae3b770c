// The ShapeIndex: what the API server compares new pods with. A sidecar whose shape the installer's policy refuses keeps the
// entry that it had, and does not hold up the others.

import { sha256 } from "../../kernel/crypto/crypto.ts";
import { SHAPE_NAMESPACE, isMap } from "../kinds/kinds.ts";
import type { GuardianSidecar, IndexEntry, IndexSpec, JsonMap, Shape } from "../kinds/kinds.ts";
import { ApiError, applyObject } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import { buildShapes, canonicalShape, shapePod } from "../shape/shape.ts";
import type { ShapeSettings } from "../shape/shape.ts";
import { indexEntry, indexObject } from "../sidecar/sidecar.ts";

const PATH = "/apis/atoll.dev/v1alpha1/shapeindexes/cluster";

export interface ShapesOptions {
  readonly client: Client;
  readonly manager: string;
  readonly settings: () => ShapeSettings;
  readonly sidecars: ReadonlyMap<string, GuardianSidecar>;
  /** The index as it is stored. */
  readonly stored: () => IndexSpec | undefined;
}
export interface Shapes {
  index(): IndexSpec;
  /** The shapes of a sidecar, put into the index; or why they are not. */
  take(sidecar: GuardianSidecar): Promise<readonly Shape[] | { readonly problem: string }>;
  drop(name: string): Promise<void>;
  /** Writes the index where it is not what it should be. */
  write(): Promise<void>;
  /** Somebody changed the stored index, or what the installer admits. */
  doubt(): void;
}

export function keepShapes(options: ShapesOptions): Shapes {
  const { client, sidecars } = options;
  const entries = new Map<string, IndexEntry>();
  const cache = new Map<string, Shape>();
  const admitted = new Map<string, string>();
  let written = "";

  const index = (): IndexSpec => ({
    sidecars: [...entries.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  });
  const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

  async function shapesOf(sidecar: GuardianSidecar): Promise<readonly Shape[] | { problem: string }> {
    const shapes: Shape[] = [];
    for (const raw of buildShapes(sidecar.metadata.name, sidecar.spec, options.settings())) {
      const key = sha256(JSON.stringify(raw));
      let shape = cache.get(key);
      if (shape === undefined)
        try {
          const answer = await client.json(
            `/api/v1/namespaces/${SHAPE_NAMESPACE}/pods?dryRun=All&fieldValidation=Strict`,
            { method: "POST", body: shapePod(sidecar.metadata.name, raw) },
          );
          shape = canonicalShape(raw, answer);
          cache.set(key, shape);
        } catch (error) {
          return { problem: `size class ${raw.class}: ${message(error)}` };
        }
      shapes.push(shape);
    }
    return shapes;
  }
  /** Asks the API server whether an index with this entry alone would be taken. */
  async function admits(entry: IndexEntry): Promise<string | undefined> {
    const text = JSON.stringify(entry);
    if (admitted.get(entry.name) === text) return undefined;
    try {
      await client.json(`${PATH}?fieldManager=${options.manager}&force=true&dryRun=All`, {
        method: "PATCH",
        body: indexObject({ sidecars: [entry] }),
        contentType: "application/apply-patch+yaml",
      });
    } catch (error) {
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) return message(error);
      throw error;
    }
    admitted.set(entry.name, text);
    return undefined;
  }
  async function enter(sidecar: GuardianSidecar): Promise<readonly Shape[] | { problem: string }> {
    const { name } = sidecar.metadata;
    const shapes = await shapesOf(sidecar);
    const entry = "problem" in shapes ? undefined : indexEntry(sidecar, shapes);
    const problem = "problem" in shapes ? shapes.problem : entry === undefined ? "" : await admits(entry);
    if (entry !== undefined && problem === undefined) {
      entries.set(name, entry);
      return shapes;
    }
    const before = options.stored()?.sidecars.find((s) => s.name === name);
    if (!entries.has(name) && before !== undefined) entries.set(name, before);
    return { problem: problem ?? "" };
  }
  async function write(): Promise<void> {
    for (const name of entries.keys()) if (!sidecars.has(name)) entries.delete(name);
    // Before every sidecar has had its turn, an index would lack some, and their pods would be refused.
    for (const [name, sidecar] of sidecars) if (!entries.has(name)) await enter(sidecar);
    const object = indexObject(index());
    const text = JSON.stringify(object);
    if (text === written) return;
    await applyObject(client, PATH, object, options.manager);
    written = text;
  }
  return {
    index,
    write,
    async take(sidecar) {
      const shapes = await enter(sidecar);
      await write();
      return shapes;
    },
    async drop(name) {
      entries.delete(name);
      await write();
    },
    doubt() {
      written = "";
      admitted.clear();
    },
  };
}

/** The stored index of a list's item, for the copy that is kept of it. */
export const projectIndex = (o: JsonMap): IndexSpec | undefined =>
  isMap(o["spec"]) ? (o["spec"] as unknown as IndexSpec) : undefined;
