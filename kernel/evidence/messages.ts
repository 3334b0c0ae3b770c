// The conversation in a model call's arguments is written down message by message, each once, and in its place in the
// arguments stands `{"$input": hash}` for each of them. The record keeps the hash of the whole arguments, so what is
// judged, dispatched and signed does not change. That one list of a model call is the only place where anything
// refers, one level deep: a message or a tool's arguments with a member `$input` are plain data.

import { canonicalize } from "../canonicalize/canonicalize.ts";
import { isHash, isObject } from "../contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue } from "../contracts/contracts.ts";
import { sha256 } from "../crypto/crypto.ts";

/** The chat format's and Anthropic's list, and the responses format's. */
const LISTS = ["messages", "input"] as const;

interface Conversation {
  readonly name: (typeof LISTS)[number];
  readonly items: readonly JsonObject[];
}

/** The list whose items are written apart. A list of texts or tokens, as embeddings have, is none. */
function conversationIn(args: JsonValue): Conversation | undefined {
  if (!isObject(args)) return undefined;
  for (const name of LISTS) {
    const list = args[name];
    if (!Array.isArray(list) || list.length === 0) continue;
    const items: readonly JsonValue[] = list;
    if (items.every((item) => isObject(item))) return { name, items };
  }
  return undefined;
}

export const isModelCall = (target: JsonValue | undefined): boolean =>
  typeof target === "string" && target.startsWith("model:");

/** Of arguments whose canonical form was asked for: that of each message, so that none is written out twice. */
const TEXTS = new WeakMap<JsonObject, readonly string[]>();

/** The canonical form of a call's arguments. */
export function argsTextOf(target: string, args: JsonObject): string {
  const found = isModelCall(target) ? conversationIn(args) : undefined;
  if (found === undefined) return canonicalize(args);
  const texts = found.items.map(canonicalize);
  TEXTS.set(args, texts);
  return textWith(args, found.name, texts);
}

export interface Apart {
  readonly list: Conversation["name"];
  readonly messages: readonly { readonly hash: Hash; readonly value: JsonObject; readonly text: string }[];
  readonly references: JsonValue;
  /** The canonical form of the arguments, or of what is left of them, with the references in place. */
  textOf(args: JsonObject): string;
}

/** A model call's arguments apart; undefined when there is no message in them. Every message is replaced, whatever it looks like. */
export function apart(args: JsonObject): Apart | undefined {
  const found = conversationIn(args);
  if (found === undefined) return undefined;
  const texts = TEXTS.get(args);
  const messages = found.items.map((value, i) => {
    const text = texts?.[i] ?? canonicalize(value);
    return { hash: sha256(text), value, text };
  });
  return {
    list: found.name,
    messages,
    references: messages.map(({ hash }) => ({ $input: hash })),
    textOf: (kept) =>
      textWith(
        kept,
        found.name,
        messages.map(({ hash }) => `{"$input":"${hash}"}`),
      ),
  };
}

function textWith(value: JsonObject, list: string, texts: readonly string[]): string {
  let text = "";
  for (const key of Object.keys(value).sort()) {
    const member = key === list ? `[${texts.join(",")}]` : canonicalize(value[key] ?? null);
    text += `${text === "" ? "" : ","}${canonicalize(key)}:${member}`;
  }
  return `{${text}}`;
}

/**
 * The messages that a record's value names, in their order; none when it is whole. Of a value that is no recorded
 * arguments of a model call this says nothing: ask only where the hash or the call has shown that it is.
 */
export function messagesNamed(value: JsonValue): readonly Hash[] {
  const found = conversationIn(value);
  const hashes: Hash[] = [];
  for (const item of found?.items ?? []) {
    const { $input: hash } = item;
    if (!isHash(hash) || Object.keys(item).length !== 1) return [];
    hashes.push(hash);
  }
  return hashes;
}

/** The canonical form of the whole arguments, of which `value` names the messages: the texts are theirs, in their order. */
export function wholeText(value: JsonValue, texts: readonly string[]): string {
  const list = conversationIn(value)?.name;
  return isObject(value) && list !== undefined ? textWith(value, list, texts) : canonicalize(value);
}

/** The whole arguments. */
export function wholeValue(value: JsonValue, messages: readonly JsonValue[]): JsonValue {
  const list = conversationIn(value)?.name;
  return isObject(value) && list !== undefined ? { ...value, [list]: messages } : value;
}

/**
 * How far back in a journal a message that is named was written at most: by number of inputs and by their characters.
 * The writer writes it again beyond that, so that whoever reads a journal from its beginning needs no more memory.
 */
export const WINDOW = { inputs: 4_096, characters: 8 << 20 };

export const REDACTED = Symbol("redacted");
export type MessageText = string | typeof REDACTED;

/**
 * The texts of inputs that were read last. What was asked for counts as read again, so that all of the writer's window is in
 * twice of it. Nothing is let go before `settle`: the messages of one call can be as many as they like.
 */
export function createTexts(most = { inputs: 2 * WINDOW.inputs, characters: 2 * WINDOW.characters }) {
  const held = new Map<Hash, MessageText>();
  let characters = 0;
  const lengthOf = (text: MessageText): number => (text === REDACTED ? 0 : text.length);
  const drop = (hash: JsonValue | undefined): MessageText | undefined => {
    const text = isHash(hash) ? held.get(hash) : undefined;
    if (text === undefined || !isHash(hash)) return undefined;
    held.delete(hash);
    characters -= lengthOf(text);
    return text;
  };
  const put = (hash: Hash, text: MessageText): void => {
    drop(hash);
    held.set(hash, text);
    characters += lengthOf(text);
  };
  return {
    put,
    drop,
    take(hash: Hash): MessageText | undefined {
      const text = drop(hash);
      if (text !== undefined) put(hash, text);
      return text;
    },
    settle(): void {
      // Many at once: to find the oldest is slow where the ones before it have gone.
      if (held.size <= most.inputs * 1.25 && characters <= most.characters * 1.25) return;
      for (const hash of held.keys()) {
        if (held.size <= most.inputs && characters <= most.characters) return;
        drop(hash);
      }
    },
  };
}

/** Why a record's value is not what its hash says; "" when it is, or when a message of it was redacted. */
export function faultOf(
  record: { readonly hash: Hash; readonly value: JsonValue },
  refers: readonly Hash[],
  textOf: (message: Hash) => MessageText | undefined,
): string {
  const texts: string[] = [];
  let redacted = false;
  for (const message of refers) {
    const text = textOf(message);
    if (text === undefined) return `names the message ${message}, which is not before it`;
    if (text === REDACTED) redacted = true;
    else texts.push(text);
  }
  return redacted || sha256(wholeText(record.value, texts)) === record.hash
    ? ""
    : "hash: is not the hash of the value with its messages";
}
