// Load on a guardian with a memory: each call has a number of its own, and afterwards journal, upstream and answers are
// held against one another. Shared by the crash test and the soak.

import { Pool } from "undici";
import type { JsonObject, SealedNode } from "../../kernel/contracts/contracts.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { amountsOf } from "../../kernel/budget/budget.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import { parseReceipt } from "../../kernel/receipts/receipts.ts";
import { readJournal } from "../../sidecar/journal/journal.ts";
import type { Guardian, Place } from "./lab.ts";
import type { Upstream } from "./upstream.ts";

const tool = (name: string, more: JsonObject = {}): JsonObject => ({
  name: `tool:t/${name}`,
  effect: "E1",
  sideEffect: "read_only",
  sandbox: "isolated",
  trust: "trusted",
  input: {
    type: "object",
    required: ["n"],
    properties: { n: { type: "integer" }, repo: { type: "string", maxLength: 100 } },
  },
  cost: { microUsd: 7 },
  timeoutMs: 8_000,
  ...more,
});
export const CALLS_ALLOWED = 1_000_000_000;
export const loadPolicy = (up: Upstream): JsonObject => ({
  apiVersion: "atoll.dev/policy/v1",
  name: "load",
  layer: "P1",
  connectors: { t: { kind: "mcp", url: up.mcp }, m: { kind: "openai", url: up.v1 } },
  tools: [tool("do"), tool("denied"), tool("keyed", { idempotency: "key" }), tool("fails")],
  models: [
    { name: "model:m/small", price: { inputMicroUsdPerMTok: 250_000, outputMicroUsdPerMTok: 2_000_000 } },
  ],
  toolsets: { all: ["tool:t/do", "tool:t/denied", "tool:t/keyed", "tool:t/fails"] },
  profiles: [
    {
      match: { principal: "*" },
      toolsets: ["all"],
      models: ["model:m/small"],
      maxSideEffect: "full",
      budgets: { session: { calls: CALLS_ALLOWED, costMicroUsd: 1_000_000_000_000 } },
    },
  ],
  rules: [
    {
      id: "own",
      tools: ["tool:t/do", "tool:t/keyed", "tool:t/fails"],
      when: 'call.args.repo.startsWith("acme/")',
      then: "allow",
    },
    { id: "no", tools: ["tool:t/denied"], then: "deny" },
  ],
  perimeter: { requireTls: false },
  limits: { concurrentCalls: 200, requestsPerSecond: 100_000 },
});

export type Kind = "do" | "denied" | "keyed" | "fails" | "chat";
export interface Sent {
  readonly kind: Kind;
  /** 0 while nothing came back, and for ever when the connection broke. */
  status: number;
  reason: string;
  receipt: string;
  readonly at: number;
  ms: number;
}

export class Load {
  readonly sent = new Map<number, Sent>();
  #n = 0;
  #pool: Pool;
  #flying = 0;
  constructor(base: string) {
    this.#pool = new Pool(base, { connections: 128, pipelining: 1 });
  }
  /** The guardian is another process now, at another port. */
  moveTo(base: string): void {
    const old = this.#pool;
    this.#pool = new Pool(base, { connections: 128, pipelining: 1 });
    void old.destroy().catch(() => undefined);
  }
  get flying(): number {
    return this.#flying;
  }

  async fire(kind: Kind): Promise<Sent> {
    const n = ++this.#n;
    const record: Sent = { kind, status: 0, reason: "", receipt: "", at: performance.now(), ms: 0 };
    this.sent.set(n, record);
    this.#flying++;
    const [path, body] =
      kind === "chat"
        ? [
            "/v1/chat/completions",
            { model: "m/small", max_tokens: 100, messages: [{ role: "user", content: `n ${n}` }] },
          ]
        : [
            "/mcp/v1/execute",
            {
              tool: `tool:t/${kind}`,
              arguments: { n, repo: "acme/web" },
              ...(kind === "keyed" ? { idempotency_key: `k${n}` } : {}),
            },
          ];
    try {
      const r = await this.#pool.request({
        method: "POST",
        path,
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        headersTimeout: 20_000,
        bodyTimeout: 20_000,
      });
      await r.body.dump();
      const header = (name: string): string => {
        const v = r.headers[name];
        return typeof v === "string" ? v : "";
      };
      record.status = r.statusCode;
      record.reason = header("x-atoll-reason");
      record.receipt = header("x-atoll-receipt");
    } catch {
      // Killed, stopping or overloaded: the record says status 0.
    } finally {
      record.ms = performance.now() - record.at;
      this.#flying--;
    }
    return record;
  }

  /** Fires at a steady rate whatever comes back, until the signal. */
  async run(perSecond: number, signal: AbortSignal, mix: (n: number) => Kind): Promise<void> {
    const begun = performance.now();
    let fired = 0;
    while (!signal.aborted) {
      const due = Math.floor(((performance.now() - begun) / 1000) * perSecond);
      // What could not be fired in time is not made up for: a stalled machine is no burst of load.
      if (due - fired > perSecond) fired = due - perSecond;
      for (; fired < due && this.#flying < 2_000; fired++) void this.fire(mix(fired));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  async settled(ms: number): Promise<void> {
    const until = performance.now() + ms;
    while (this.#flying > 0 && performance.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 20));
  }
  async close(): Promise<void> {
    await this.#pool.destroy().catch(() => undefined);
  }
}

/** A mix that has everything in it. */
export const everything = (n: number): Kind =>
  n % 10 === 3 ? "denied" : n % 20 === 7 ? "chat" : n % 20 === 11 ? "keyed" : n % 25 === 13 ? "fails" : "do";

export interface Account {
  readonly nodes: number;
  readonly sessions: number;
  /** What the journal says that the session has used. */
  readonly calls: number;
  readonly costMicroUsd: number;
  readonly open: number;
  readonly unknown: number;
  readonly broken: readonly string[];
}

/** Holds journal, upstream and answers against one another. Everything that does not fit is named. */
export function account(place: Place, up: Upstream, sent: ReadonlyMap<number, Sent>): Account {
  const broken: string[] = [];
  const say = (what: string): void => {
    if (broken.length < 50) broken.push(what);
  };
  const done = new Map<number, number>();
  for (const [name, list] of up.done)
    for (const args of list) {
      const n = Number(args["n"]);
      done.set(n, (done.get(n) ?? 0) + 1);
      if (name === "denied") say(`${n}: a denied call was carried out`);
    }
  const open = new Map<string, { readonly args: string; readonly usage: ReturnType<typeof amountsOf> }>();
  const intents = new Map<string, number>();
  const outcomes = new Map<string, string>();
  const lamports = new Map<string, number>();
  const receipts = new Set<string>();
  const principals = new Map<string, Set<string>>();
  let nodes = 0;
  let calls = 0;
  let costMicroUsd = 0;
  let unknown = 0;
  for (const { node } of journalOf(place)) {
    nodes++;
    const before = lamports.get(node.session_id) ?? 0;
    if (node.lamport !== before + 1) say(`${node.session_id}: lamport ${node.lamport} after ${before}`);
    lamports.set(node.session_id, node.lamport);
    if (node.body["type"] !== "atoll.dev/receipt/v1") continue;
    const r = parseReceipt(node.body);
    receipts.add(r.receipt_id);
    if (r.principal !== "")
      principals.set(r.principal, (principals.get(r.principal) ?? new Set()).add(node.session_id));
    if (node.kind === "INTENT") {
      open.set(r.effect_id, { args: r.args_hash, usage: amountsOf(r.usage) });
      intents.set(r.args_hash, (intents.get(r.args_hash) ?? 0) + 1);
    }
    if (node.kind !== "EFFECT") continue;
    const intent = open.get(r.effect_id);
    if (intent === undefined) {
      say(`${r.effect_id}: an outcome without its intent, or twice`);
      continue;
    }
    open.delete(r.effect_id);
    outcomes.set(intent.args, r.status);
    // An unknown outcome keeps its reservation; a failure in which nothing happened gives it back.
    const used = r.status === "UNKNOWN" ? intent.usage : amountsOf(r.usage);
    if (r.status === "UNKNOWN") unknown++;
    if (r.status === "FAILED" && r.usage.calls === 0) continue;
    calls += used.calls;
    costMicroUsd += used.costMicroUsd;
  }
  for (const { usage } of open.values()) {
    calls += usage.calls;
    costMicroUsd += usage.costMicroUsd;
  }
  for (const [principal, ids] of principals) if (ids.size !== 1) say(`${principal} has ${ids.size} sessions`);
  for (const [n, s] of sent) {
    if (s.kind === "chat") continue;
    const times = done.get(n) ?? 0;
    const args = sha256(canonicalize({ n, repo: "acme/web" }));
    if (times > 1) say(`${n}: carried out ${times} times`);
    if (times > 0 && intents.get(args) !== 1) say(`${n}: carried out with ${intents.get(args) ?? 0} intents`);
    if (s.status === 200 && times !== 1) say(`${n}: answered 200 and carried out ${times} times`);
    if (s.status === 200 && outcomes.get(args) !== "SUCCEEDED")
      say(`${n}: answered 200, recorded ${outcomes.get(args) ?? "nothing"}`);
    if (s.status === 200 && s.kind === "denied") say(`${n}: denied by the policy and answered 200`);
    if (s.receipt !== "" && !receipts.has(s.receipt)) say(`${n}: receipt ${s.receipt} is not in the journal`);
  }
  return { nodes, sessions: principals.size, calls, costMicroUsd, open: open.size, unknown, broken };
}
function* journalOf(place: Place): Generator<SealedNode> {
  for (const record of readJournal(place.journal).records()) {
    const entry = readEntry(record.line);
    if (entry.kind === "node") yield entry.sealed;
  }
}

export interface SessionView {
  readonly id: string;
  readonly callsUsed: number;
  readonly costLeft: number;
}
export async function sessionOf(g: Guardian): Promise<SessionView> {
  const body = (await (await fetch(`${g.base}/atoll/v1/session`)).json()) as {
    id: string;
    budget_left: { session: { calls: number; costMicroUsd: number } };
  };
  return {
    id: body.id,
    callsUsed: CALLS_ALLOWED - body.budget_left.session.calls,
    costLeft: body.budget_left.session.costMicroUsd,
  };
}
