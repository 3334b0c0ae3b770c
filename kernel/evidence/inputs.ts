// The inputs of a pack, each checked against its hash: a conversation's arguments with the messages that they name, which
// stand before them and once.

import type { Hash } from "../contracts/contracts.ts";
import { broken, placed } from "./finding.ts";
import { linesOfFile } from "./lines.ts";
import { REDACTED, createTexts, faultOf } from "./messages.ts";
import type { MessageText } from "./messages.ts";
import { readInput, valueTextOf } from "./record.ts";
import type { InputEntry } from "./record.ts";
import type { PackFile } from "./tar.ts";

export const textOf = (entry: InputEntry): MessageText =>
  entry.input.redacted ? REDACTED : valueTextOf(entry);

/** `modelCalls`: hashes of the arguments that the pack's nodes name for models. */
export function verifyInputs(
  file: PackFile,
  modelCalls: ReadonlySet<Hash>,
): { readonly inputs: number; readonly redacted: number } {
  const wanted = messagesIn(file, modelCalls);
  const texts = createTexts();
  let inputs = 0;
  let redacted = 0;
  let at = 0;

  function find(message: Hash): MessageText | undefined {
    const held = texts.take(message);
    const place = wanted.get(message);
    if (held !== undefined || place === undefined) return held;
    // Read long ago: it is still where it was.
    const { value } = linesOfFile(file, place).next();
    const entry = value === undefined ? undefined : readInput(value.bytes);
    if (entry?.input.hash !== message) throw broken(file.path, 0, "changes while it is read");
    const text = textOf(entry);
    texts.put(message, text);
    return text;
  }

  for (const { number, bytes } of linesOfFile(file)) {
    const entry = placed(file.path, number, () => readInput(bytes));
    const { hash } = entry.input;
    inputs++;
    if (entry.input.redacted) redacted++;
    if (wanted.has(hash)) {
      if (wanted.get(hash) !== undefined)
        throw broken(file.path, number, `the message ${hash} is there twice`);
      wanted.set(hash, at);
      texts.put(hash, textOf(entry));
    }
    const fault = faultIn(entry, modelCalls, find);
    if (fault !== "") throw broken(file.path, number, fault);
    texts.settle();
    at += bytes.byteLength + 1;
  }
  return { inputs, redacted };
}

/** Of a redacted record only what it names can be checked, and only where a node says that it is a model call's. */
export function faultIn(
  entry: InputEntry,
  modelCalls: Pick<ReadonlySet<Hash>, "has">,
  find: (message: Hash) => MessageText | undefined,
): string {
  const { input, refers } = entry;
  if (refers.length === 0 || (input.redacted && !modelCalls.has(input.hash))) return "";
  return faultOf(input, refers, input.redacted ? (hash) => find(hash) && REDACTED : find);
}

const MARK = '{"$input":"sha256:';

/** What the file's records name, to be given its place when it is met. */
function messagesIn(file: PackFile, modelCalls: ReadonlySet<Hash>): Map<Hash, number | undefined> {
  const wanted = new Map<Hash, number | undefined>();
  const decoder = new TextDecoder();
  for (const { number, bytes } of linesOfFile(file)) {
    if (!decoder.decode(bytes).includes(MARK)) continue;
    const { input, refers } = placed(file.path, number, () => readInput(bytes));
    if (!input.redacted || modelCalls.has(input.hash))
      for (const message of refers) wanted.set(message, undefined);
  }
  return wanted;
}
