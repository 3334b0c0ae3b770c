// Inputs by their hash, read along with the nodes that name them: they lie in the same order, so that a pack larger
// than memory is read once. What was put away too early is looked for again from the beginning.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import type { Hash, Input } from "../contracts/contracts.ts";

export interface Shelf {
  take(hash: Hash | ""): Input | undefined;
}

const MOST = 128 << 20;

export function inputShelf(read: () => Generator<Input>): Shelf {
  const held = new Map<Hash, { readonly input: Input; readonly size: number }>();
  let reader = read();
  let ended = false;
  let evicted = false;
  let size = 0;

  const put = (input: Input): void => {
    if (held.has(input.hash)) return;
    const bytes = canonicalize(input.value).length;
    held.set(input.hash, { input, size: bytes });
    size += bytes;
    for (const [hash, old] of held) {
      if (size <= MOST || held.size === 1) break;
      held.delete(hash);
      size -= old.size;
      evicted = true;
    }
  };
  const readOn = (wanted: Hash): Input | undefined => {
    for (;;) {
      const step = reader.next();
      if (step.done === true) {
        ended = true;
        return undefined;
      }
      put(step.value);
      if (step.value.hash === wanted) return step.value;
    }
  };

  return {
    take(hash) {
      if (hash === "") return undefined;
      const known = held.get(hash);
      if (known !== undefined) return known.input;
      const found = ended ? undefined : readOn(hash);
      if (found !== undefined || !evicted) return found;
      reader = read();
      ended = false;
      return readOn(hash);
    },
  };
}
