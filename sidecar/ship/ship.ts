// Ships the journal to the ledger: in order, from where the ledger says that it stands, until nothing is left. What the
// ledger holds and this journal does not is a journal that was set back: then nothing is taken any more.

import { setTimeout as pause } from "node:timers/promises";
import type {
  Input,
  Journal,
  JsonObject,
  JsonValue,
  NodeDraft,
  SealedNode,
} from "../../kernel/contracts/contracts.ts";
import type { Cursor, OpenJournal } from "../journal/journal.ts";

export type LedgerRequest =
  | { readonly method: "GET" }
  | { readonly method: "POST"; readonly from: number; readonly body: string };
/** One request to the ledger, with this guardian's token. Rejects when there was no answer. */
export type LedgerLink = (
  request: LedgerRequest,
) => Promise<{ readonly status: number; readonly body: JsonObject }>;

export { answerOf, httpsLink } from "./https.ts";
export type Durability = "local" | "ledger";
export interface ShipOptions {
  readonly journal: Pick<OpenJournal, "records" | "tail" | "cursor">;
  readonly link: LedgerLink;
  readonly log: (line: string) => void;
  /** Records that the ledger has not acknowledged. */
  readonly lag: (records: number) => void;
  readonly retryMs?: number;
}
export interface Shipper {
  /** Records that the ledger has acknowledged, as far as is known. */
  readonly acknowledged: number;
  /** Why nothing may be taken any more; "" while that is not so. */
  readonly refused: string;
  /** Whether the last request was answered. */
  readonly up: boolean;
  /** Something was added. */
  poke(): void;
  /** Resolves when the ledger has record `end` - 1; rejects when it has not within `ms`. */
  reached(end: number, ms: number): Promise<void>;
  /** Ships what is left; false when it could not within `ms`. */
  drain(ms: number): Promise<boolean>;
  stop(): void;
}

/** Bytes of a request: from the most down to the least when requests go unanswered, and up again. */
const MOST = 1 << 20;
const LEAST = 64 << 10;
const words = (v: JsonValue | undefined): string => (typeof v === "string" ? v : JSON.stringify(v ?? null));

export function createShipper(options: ShipOptions): Shipper {
  const { journal, link } = options;
  const stop = new AbortController();
  const waiting = new Set<{
    readonly end: number;
    readonly resolve: () => void;
    readonly reject: (e: Error) => void;
  }>();
  let acknowledged = 0;
  let refused = "";
  let up = false;
  let batch = MOST;
  const goesOn = (): boolean => !stop.signal.aborted && refused === "";
  let poked = Promise.withResolvers<void>();

  const acknowledge = (count: number): void => {
    acknowledged = count;
    options.lag(Math.max(0, journal.records - acknowledged));
    for (const one of waiting)
      if (one.end <= acknowledged) {
        waiting.delete(one);
        one.resolve();
      }
  };
  const refuse = (why: string): void => {
    refused = why;
    up = false;
    options.log(JSON.stringify({ level: "error", event: "ledger_refused", message: why }));
    for (const one of waiting) one.reject(new Error(why));
    waiting.clear();
  };
  const countIn = (body: JsonObject): number => {
    const { count } = body;
    if (typeof count !== "number" || !Number.isSafeInteger(count) || count < 0)
      throw new Error("the ledger's answer has no count");
    return count;
  };

  /** Asks where the ledger stands and goes on from there, until it fails or there is no more to do. */
  async function session(): Promise<void> {
    const { status, body } = await link({ method: "GET" });
    if (status !== 200) throw new Error(`the ledger answers ${status}`);
    const count = countIn(body);
    if (count > journal.records)
      return refuse(
        `the ledger holds ${count} records of this journal, which has ${journal.records}: it was set back`,
      );
    // The last record goes again: another one in its place is a fork, and is told as one.
    let cursor: Cursor = journal.cursor(Math.max(0, count - 1));
    let first = true;
    while (goesOn()) {
      const tail = journal.tail(cursor, batch);
      if (tail.lines.length === 0 && !first) {
        up = true;
        options.lag(Math.max(0, journal.records - acknowledged));
        await poked.promise;
        poked = Promise.withResolvers();
        continue;
      }
      first = false;
      if (tail.lines.length === 0) {
        acknowledge(count);
        continue;
      }
      const body = `${tail.lines.join("\n")}\n`;
      // What a busy ledger cannot verify in the time of a request, it may in several.
      const answer = await link({ method: "POST", from: cursor.record, body }).catch((error: unknown) => {
        batch = Math.max(LEAST, batch / 4);
        throw error;
      });
      if (answer.status === 200) {
        up = true;
        batch = Math.min(MOST, batch * 2);
        cursor = tail.cursor;
        acknowledge(countIn(answer.body));
        continue;
      }
      const { problem, record, here, there, code, reason } = answer.body;
      if (answer.status === 409 && problem === "fork")
        return refuse(
          `fork at record ${words(record)}: the ledger has ${words(here)}, this journal ${words(there)}`,
        );
      // A key that is not published yet will be; what else is refused stays refused.
      if (answer.status === 422 && code !== "TRUST_KEY_UNKNOWN")
        return refuse(`the ledger refuses record ${words(record)}: ${words(code)}: ${words(reason)}`);
      throw new Error(`the ledger answers ${answer.status} ${typeof code === "string" ? code : ""}`);
    }
  }

  async function keep(): Promise<void> {
    const least = options.retryMs ?? 200;
    let told = false;
    for (let wait = least; goesOn(); ) {
      const before = acknowledged;
      await session().catch((error: unknown) => {
        // Once for each time that it goes away.
        if (up || !told)
          options.log(
            JSON.stringify({
              event: "ledger",
              message: error instanceof Error ? error.message : String(error),
            }),
          );
        told = true;
        up = false;
      });
      wait = acknowledged > before ? least : Math.min(wait * 2, 5000);
      await pause(wait / 2 + Math.random() * (wait / 2), undefined, { signal: stop.signal }).catch(
        () => undefined,
      );
    }
  }
  void keep();

  const reached = (end: number, ms: number): Promise<void> => {
    if (refused !== "") return Promise.reject(new Error(refused));
    if (end <= acknowledged) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => one.reject(new Error("the ledger has not acknowledged it in time")), ms);
      const one = {
        end,
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
        reject: (error: Error) => {
          clearTimeout(timer);
          waiting.delete(one);
          reject(error);
        },
      };
      waiting.add(one);
    });
  };
  return {
    get acknowledged() {
      return acknowledged;
    },
    get refused() {
      return refused;
    },
    get up() {
      return up;
    },
    poke: () => poked.resolve(),
    reached,
    drain: (ms) =>
      reached(journal.records, ms).then(
        () => true,
        () => false,
      ),
    stop() {
      stop.abort();
      poked.resolve();
      for (const one of waiting) one.reject(new Error("the guardian stops"));
    },
  };
}

export interface ShippedJournal extends Journal {
  /** From now on an append waits for the ledger too, where durability asks for it. */
  engage(): void;
}

const WAIT_MS = 10_000;

/** A journal whose records count as durable when the ledger has them too, or (local) as soon as the disk has. */
export function shippedJournal(
  journal: OpenJournal,
  shipper: Shipper,
  durability: Durability,
): ShippedJournal {
  let engaged = false;
  const refuse = (why: string): { readonly nodes: SealedNode[]; readonly durable: Promise<void> } => {
    const durable = Promise.reject(new Error(why));
    durable.catch(() => undefined);
    return { nodes: [], durable };
  };
  return {
    engage: () => {
      engaged = true;
    },
    append(drafts: readonly NodeDraft[], inputs: readonly Input[]) {
      if (shipper.refused !== "") return refuse(shipper.refused);
      const waits = engaged && durability === "ledger";
      // What has happened has to be recorded whatever the ledger says; nothing new begins without it.
      if (waits && !shipper.up && drafts.every((d) => d.kind !== "EFFECT"))
        return refuse("the ledger does not answer");
      const { nodes, durable, end } = journal.append(drafts, inputs);
      if (!waits) return { nodes, durable };
      const both = durable.then(() => shipper.reached(end, WAIT_MS));
      both.catch(() => undefined);
      return { nodes, durable: both };
    },
  };
}
