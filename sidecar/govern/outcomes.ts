// Calls that the agent itself carries out: open from their release until the agent tells what came of them.

import { LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import type { Told } from "./govern.ts";

interface OpenCall {
  readonly target: string;
  readonly trusted: boolean;
  readonly structured: boolean;
  tell: (outcome: Outcome) => void;
  readonly told: Promise<Told>;
  bound: string;
  /** What an earlier call of the same id was told: a history may still hold it. */
  readonly before: string;
}

export type Bound =
  | { readonly state: "unknown" }
  | { readonly state: "again" }
  | { readonly state: "other" }
  | { readonly state: "bound"; readonly told: Told; readonly target: string; readonly trusted: boolean };

const KEPT = 10_000;

export class Outcomes {
  readonly #calls = new Map<string, OpenCall>();

  isOpen(session: string, id: string): boolean {
    return this.#calls.get(`${session} ${id}`)?.bound === "";
  }

  /** Names an open call by what the agent will call it; `told` is what the executor will say of its outcome. */
  open(session: string, id: string, call: Omit<OpenCall, "bound" | "before">): void {
    const key = `${session} ${id}`;
    const entry: OpenCall = { ...call, bound: "", before: this.#calls.get(key)?.bound ?? "" };
    this.#calls.delete(key);
    this.#calls.set(key, entry);
    for (const [k, c] of this.#calls) {
      if (this.#calls.size <= KEPT) break;
      if (c.bound !== "") this.#calls.delete(k);
    }
    // What has timed out is closed: a later result for it is content like any other.
    void call.told.then(() => {
      if (entry.bound === "") entry.bound = "closed";
    });
  }

  /** Binds what the agent says of a call, once. */
  async bind(session: string, id: string, content: JsonValue, failed = false): Promise<Bound> {
    const call = this.#calls.get(`${session} ${id}`);
    if (call === undefined) return { state: "unknown" };
    const hash = hashJson(content);
    if (call.bound !== "") return { state: call.bound === hash ? "again" : "other" };
    if (hash === call.before) return { state: "again" };
    call.bound = hash;
    call.tell(
      failed
        ? {
            status: "failed",
            code: "ERR_CONNECTOR_FAILED",
            detail: "the agent's tool reported an error",
            usage: { calls: 1 },
          }
        : {
            status: "succeeded",
            output: content,
            checked: call.structured ? valueOf(content) : content,
          },
    );
    return { state: "bound", told: await call.told, target: call.target, trusted: call.trusted };
  }
}

/** A content that is the text of a JSON object or list, as a value: that is what an output schema describes. */
export function valueOf(content: JsonValue): JsonValue {
  let text = "";
  if (typeof content === "string") text = content;
  else if (Array.isArray(content)) {
    for (const part of content) {
      if (!isObject(part) || typeof part["text"] !== "string") return content;
      text += part["text"];
    }
  } else return content;
  try {
    return parseJson(new TextEncoder().encode(text), LIMITS.args);
  } catch {
    return content;
  }
}
