// A local copy of one kind: paged list, then watch, for as long as the process lives, whatever the network does.

import type { IncomingMessage } from "node:http";
import { isMap } from "../kinds/kinds.ts";
import type { Json, JsonMap } from "../kinds/kinds.ts";
import { ApiError } from "./client.ts";
import type { Client } from "./client.ts";

export interface ReflectorOptions<T> {
  readonly client: Client;
  /** Collection path, such as `/api/v1/pods`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Objects in one answer of the list, which is parsed in one go: fewer where they may be large. */
  readonly page?: number;
  /** Asks for the objects' metadata alone. */
  readonly metadataOnly?: boolean;
  /** Makes the small thing that is kept out of the object that came; undefined keeps nothing. */
  readonly project: (object: JsonMap) => T | undefined;
  /** Called after the copy has changed; `undefined` = gone. */
  readonly onChange: (key: string, value: T | undefined) => void;
  readonly onRestart?: (reason: RestartReason, detail: string) => void;
  readonly random?: () => number;
  readonly pause?: (ms: number) => Promise<void>;
  /** Without any byte for so long, not even a bookmark, a watch is given up and begun anew. */
  readonly silenceMs?: number;
}
export type RestartReason = "ended" | "error" | "gone" | "silent" | "list";

export interface Reflector<T> {
  readonly items: ReadonlyMap<string, T>;
  /** Resolves after the first complete list. */
  readonly synced: Promise<void>;
  /** Milliseconds since the API server was last heard. */
  staleness(): number;
  stop(): void;
}

const PAGE = 100;
/** So long the objects of a page are taken up in one turn; then others have theirs. */
const TURN_MS = 10;
const partial = (kind: string): string => `application/json;as=${kind};g=meta.k8s.io;v=v1`;
/** So long a watch has to stand for earlier failures to be forgotten. */
const STOOD_MS = 5000;
const text = (v: Json | undefined): string => (typeof v === "string" ? v : "");
const LINE_LIMIT = 16 << 20;

export function keyOf(object: JsonMap): string {
  const meta = isMap(object["metadata"]) ? object["metadata"] : {};
  const name = typeof meta["name"] === "string" ? meta["name"] : "";
  return typeof meta["namespace"] === "string" ? `${meta["namespace"]}/${name}` : name;
}
const versionOf = (object: JsonMap): string => {
  const meta = isMap(object["metadata"]) ? object["metadata"] : {};
  return typeof meta["resourceVersion"] === "string" ? meta["resourceVersion"] : "";
};

export function reflect<T>(options: ReflectorOptions<T>): Reflector<T> {
  const items = new Map<string, T>();
  const random = options.random ?? Math.random;
  const pause = options.pause ?? ((ms) => new Promise<void>((resolve) => setTimeout(resolve, ms).unref()));
  const silenceMs = options.silenceMs ?? 90_000;
  const stopping = new AbortController();
  let heard = performance.now();
  let failures = 0;
  let markSynced: () => void = () => {};
  const synced = new Promise<void>((resolve) => (markSynced = resolve));

  const store = (object: JsonMap): string => {
    const key = keyOf(object);
    const value = options.project(object);
    if (value !== undefined) {
      items.set(key, value);
      options.onChange(key, value);
    } else if (items.delete(key)) options.onChange(key, undefined);
    return key;
  };
  const drop = (key: string): void => {
    if (items.delete(key)) options.onChange(key, undefined);
  };
  const url = (more: Readonly<Record<string, string>>): string =>
    `${options.path}?${new URLSearchParams({ ...options.query, ...more }).toString()}`;

  const list = async (): Promise<string> => {
    const seen = new Set<string>();
    let next = "";
    let version = "";
    do {
      const page = await options.client.json(
        url({ limit: String(options.page ?? PAGE), ...(next === "" ? {} : { continue: next }) }),
        options.metadataOnly === true ? { accept: partial("PartialObjectMetadataList") } : {},
      );
      heard = performance.now();
      let began = heard;
      for (const object of Array.isArray(page["items"]) ? page["items"].filter(isMap) : []) {
        seen.add(store(object));
        if (performance.now() - began < TURN_MS) continue;
        await new Promise((resolve) => setImmediate(resolve));
        began = performance.now();
      }
      const meta: JsonMap = isMap(page["metadata"]) ? page["metadata"] : {};
      next = typeof meta["continue"] === "string" ? meta["continue"] : "";
      version = typeof meta["resourceVersion"] === "string" ? meta["resourceVersion"] : "";
    } while (next !== "");
    // Only after the whole list: what it lacks was deleted while we were not watching.
    for (const key of items.keys()) if (!seen.has(key)) drop(key);
    markSynced();
    return version;
  };

  /** Watches from `version` until the stream ends; the version from which to go on, or undefined to list again. */
  const watch = async (version: string): Promise<string | undefined> => {
    const seconds = 300 + Math.floor(random() * 300);
    const ending = new AbortController();
    const onStop = (): void => ending.abort();
    stopping.signal.addEventListener("abort", onStop, { once: true });
    let current = version;
    let silent = false;
    let timer: NodeJS.Timeout | undefined;
    let opened: number | undefined;
    // A watch that stood has shown that all is well, also when nothing happened in it.
    const forgive = (): void => {
      if (opened !== undefined && performance.now() - opened >= STOOD_MS) failures = 0;
    };
    const listen = (): void => {
      heard = performance.now();
      clearTimeout(timer);
      timer = setTimeout(() => {
        silent = true;
        ending.abort();
      }, silenceMs);
      timer.unref();
    };
    try {
      listen();
      const body = await options.client.stream(
        url({
          watch: "true",
          allowWatchBookmarks: "true",
          resourceVersion: version,
          timeoutSeconds: String(seconds),
        }),
        {
          signal: ending.signal,
          timeoutMs: silenceMs,
          ...(options.metadataOnly === true ? { accept: partial("PartialObjectMetadata") } : {}),
        },
      );
      opened = performance.now();
      for await (const event of lines(body, listen)) {
        const object = event["object"];
        if (!isMap(object)) throw new Error("an event without an object");
        if (event["type"] === "ERROR")
          throw new ApiError(Number(object["code"] ?? 500), text(object["reason"]), text(object["message"]));
        if (event["type"] === "DELETED") drop(keyOf(object));
        else if (event["type"] !== "BOOKMARK") store(object);
        current = versionOf(object) || current;
        failures = 0;
      }
      forgive();
      options.onRestart?.("ended", "");
      return current;
    } catch (error) {
      if (stopping.signal.aborted) return current;
      const message = error instanceof Error ? error.message : String(error);
      const gone = error instanceof ApiError && (error.status === 410 || error.reason === "Expired");
      options.onRestart?.(silent ? "silent" : gone ? "gone" : "error", message);
      // Any other ERROR event or refusal may mean that our version is of no use: begin from the list.
      if (error instanceof ApiError && error.status !== 429 && error.status < 500) return undefined;
      forgive();
      failures++;
      await pause(error instanceof ApiError && error.retryAfterMs > 0 ? error.retryAfterMs : backoff());
      return current;
    } finally {
      clearTimeout(timer);
      stopping.signal.removeEventListener("abort", onStop);
      ending.abort();
    }
  };
  const backoff = (): number => Math.min(30_000, 100 * 2 ** Math.min(failures, 9)) * (0.5 + random());

  const run = async (): Promise<void> => {
    let version: string | undefined;
    while (!stopping.signal.aborted) {
      if (version === undefined)
        try {
          version = await list();
          failures = 0;
        } catch (error) {
          if (stopping.signal.aborted) return;
          failures++;
          options.onRestart?.("list", error instanceof Error ? error.message : String(error));
          await pause(error instanceof ApiError && error.retryAfterMs > 0 ? error.retryAfterMs : backoff());
          continue;
        }
      version = await watch(version);
      // A server that ends every watch at once must not make us spin.
      if (!stopping.signal.aborted) await pause(10 + random() * 40);
    }
  };
  void run();
  return {
    items,
    synced,
    staleness: () => performance.now() - heard,
    stop: () => stopping.abort(),
  };
}

async function* lines(body: IncomingMessage, onData: () => void): AsyncGenerator<JsonMap> {
  let rest: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    onData();
    let from = 0;
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      const text = Buffer.concat([...rest, chunk.subarray(from, at)]).toString("utf8");
      rest = [];
      size = 0;
      from = at + 1;
      if (text !== "") yield parseEvent(text);
    }
    if (from < chunk.length) {
      rest.push(chunk.subarray(from));
      size += chunk.length - from;
      if (size > LINE_LIMIT) throw new Error("an event is too long");
    }
  }
  // A line without its end was cut: it is not an event, and the stream is not whole.
  if (size > 0) throw new Error("the stream ended in the middle of an event");
}

function parseEvent(text: string): JsonMap {
  const value = JSON.parse(text) as Json;
  if (!isMap(value)) throw new Error("an event that is no object");
  return value;
}
