// A record of a journal: a sealed node, or an input that a node names by hash.

import { startsWith, utf8 } from "./bytes.ts";
import { canonicalize } from "../canonicalize/canonicalize.ts";
import { ContractError, booleanFrom, closed, hashFrom, oneOf, parseText } from "../contracts/contracts.ts";
import type { Hash, Input, SealedNode } from "../contracts/contracts.ts";
import { sha256 } from "../crypto/crypto.ts";
import { readNode } from "../receipts/receipts.ts";
import { messagesNamed } from "./messages.ts";

export type Entry =
  | { readonly kind: "node"; readonly sealed: SealedNode }
  | {
      readonly kind: "input";
      readonly input: Input;
      readonly text: string;
      /**
       * The messages that it names in their place, where it is not whole: that it is whole shows by its hash. A redacted one
       * names them only if it is a model call's arguments, which the node says.
       */
      readonly refers: readonly Hash[];
    };
export type InputEntry = Entry & { readonly kind: "input" };

export const inputText = (input: Input): string =>
  // In canonical order; the value was often written out already, to be hashed.
  `{"hash":"${input.hash}","redacted":${input.redacted},"type":"atoll.dev/input/v1","value":${input.text ?? canonicalize(input.value)}}`;

const INPUT_LIMITS = { bytes: 64 << 20, keys: 1_000_000, depth: 70 };
// In canonical form an input begins with its hash, and no node does.
const INPUT_START = utf8('{"hash":"sha256:');

/** The canonical form of an input's value, out of its line. */
export const valueTextOf = ({ text, input }: InputEntry): string =>
  text.slice(inputText({ ...input, text: "" }).length - 1, -1);

/**
 * A recorded line. A node is well-formed, its signature and place not yet judged; an input fits its hash, or names
 * messages without which that cannot be said.
 */
export function readEntry(line: Uint8Array): Entry {
  if (!startsWith(line, INPUT_START)) return { kind: "node", sealed: readNode(line) };
  return readInput(line);
}

export function readInput(line: Uint8Array): InputEntry {
  const { value, text: written } = parseText(line, INPUT_LIMITS);
  const o = closed(value, "input", ["type", "hash", "redacted", "value"]);
  oneOf(o["type"], "type", ["atoll.dev/input/v1"]);
  const input = {
    hash: hashFrom(o["hash"], "hash"),
    redacted: booleanFrom(o["redacted"], "redacted"),
    value: o["value"] ?? null,
  };
  const valueText = canonicalize(input.value);
  const text = inputText({ ...input, text: valueText });
  if (text !== written) throw new ContractError("input", "is not in canonical form");
  const whole = !input.redacted && sha256(valueText) === input.hash;
  const refers = whole ? [] : messagesNamed(input.value);
  if (!input.redacted && !whole && refers.length === 0)
    throw new ContractError("hash", "is not the hash of the value");
  return { kind: "input", input, text, refers };
}
