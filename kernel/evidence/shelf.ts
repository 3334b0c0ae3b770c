// Inputs by their hash, read along with the nodes that name them: they lie in the same order, so that a pack larger
// than memory is read once. What was put away too early is looked for again from the beginning.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import type { Hash, Input } from "../contracts/contracts.ts";
import type { NumberedInput, PackContents } from "./contents.ts";
import { broken } from "./finding.ts";
import { REDACTED, faultOf, wholeValue } from "./messages.ts";
import { INPUTS } from "./places.ts";

export interface Shelf {
  /** The input with its messages in it; one of which a message is redacted is redacted itself. */
  take(hash: Hash | ""): Input | undefined;
}

const MOST = 128 << 20;

export function inputShelf(pack: Pick<PackContents, "inputs" | "document">): Shelf {
  const held = new Map<Hash, { readonly entry: NumberedInput; readonly size: number }>();
  let reader = pack.inputs();
  let ended = false;
  let evicted = false;
  let size = 0;

  const put = (entry: NumberedInput): void => {
    const { hash } = entry.input;
    if (held.has(hash)) return;
    const bytes = entry.text.length;
    held.set(hash, { entry, size: bytes });
    size += bytes;
    if (size <= MOST) return;
    for (const [oldest, old] of held) {
      if (size <= MOST * 0.75 || held.size === 1) break;
      held.delete(oldest);
      size -= old.size;
      evicted = true;
    }
  };
  const readOn = (wanted: Hash): NumberedInput | undefined => {
    for (;;) {
      const step = reader.next();
      if (step.done === true) {
        ended = true;
        return undefined;
      }
      put(step.value);
      if (step.value.input.hash === wanted) return step.value;
    }
  };
  const recorded = (hash: Hash): NumberedInput | undefined => {
    const known = held.get(hash);
    if (known !== undefined) {
      // What a conversation names again stays.
      held.delete(hash);
      held.set(hash, known);
      return known.entry;
    }
    const found = ended ? undefined : readOn(hash);
    if (found !== undefined || !evicted) return found;
    reader = pack.inputs();
    ended = false;
    return readOn(hash);
  };
  const together = ({ input, refers, line }: NumberedInput): Input => {
    if (input.redacted || refers.length === 0) return input;
    const messages = new Map<Hash, Input>();
    for (const hash of refers) {
      const found = recorded(hash);
      if (found !== undefined) messages.set(hash, found.input);
    }
    const fault = faultOf(input, refers, (hash) => {
      const message = messages.get(hash);
      return message === undefined || !message.redacted ? message && canonicalize(message.value) : REDACTED;
    });
    if (fault !== "") throw broken(INPUTS, line, fault);
    return {
      hash: input.hash,
      redacted: [...messages.values()].some((message) => message.redacted),
      value: wholeValue(
        input.value,
        refers.map((hash) => messages.get(hash)?.value ?? null),
      ),
    };
  };

  return {
    take(hash) {
      if (hash === "") return undefined;
      const found = recorded(hash);
      if (found !== undefined) return together(found);
      // Arguments that look like a document were put where documents are.
      const value = pack.document(hash);
      return value === undefined ? undefined : { hash, redacted: false, value };
    },
  };
}
