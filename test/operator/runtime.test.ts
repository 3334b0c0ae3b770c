// The controller runtime against a scripted API server: every fault that a real one will not produce when it is wanted.
import { PassThrough } from "node:stream";
import type { IncomingMessage } from "node:http";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { Json, JsonMap } from "../../operator/kinds/kinds.ts";
import { ApiError, elect, makeQueue, reflect } from "../../operator/runtime/runtime.ts";
import type { Client, Reflector } from "../../operator/runtime/runtime.ts";

/** What lies in the scripted server; each watch is a stream that the test writes to and breaks. */
class Script {
  objects = new Map<string, number>();
  version = 1;
  lists = 0;
  page = 2;
  /** What the list and the watch were asked to answer with. */
  readonly accepted: (string | undefined)[] = [];
  watches: { stream: PassThrough; from: string }[] = [];
  failLists: Error[] = [];
  failWatches: Error[] = [];
  readonly client: Client = {
    json: (path, options) => {
      this.lists++;
      this.accepted.push(options?.accept);
      const failure = this.failLists.shift();
      if (failure !== undefined) return Promise.reject(failure);
      const at = new URL(path, "https://x").searchParams;
      const all = [...this.objects];
      const limit = this.page;
      const from = Number(at.get("continue") ?? "0");
      const page = all.slice(from, from + limit);
      return Promise.resolve({
        metadata: {
          resourceVersion: String(this.version),
          ...(from + limit < all.length ? { continue: String(from + limit) } : {}),
        },
        items: page.map(([name, value]) => this.object(name, value)),
      });
    },
    stream: (path, { signal, accept }) => {
      this.accepted.push(accept);
      const failure = this.failWatches.shift();
      if (failure !== undefined) return Promise.reject(failure);
      const stream = new PassThrough();
      signal.addEventListener("abort", () => stream.destroy());
      this.watches.push({
        stream,
        from: new URL(path, "https://x").searchParams.get("resourceVersion") ?? "",
      });
      return Promise.resolve(stream as unknown as IncomingMessage);
    },
    close: () => undefined,
  };
  object(name: string, value: number): JsonMap {
    return { metadata: { name, resourceVersion: String(this.version) }, value };
  }
  get watch(): PassThrough {
    const last = this.watches.at(-1);
    if (last === undefined) throw new Error("nobody watches");
    return last.stream;
  }
  send(type: string, object: Json): void {
    this.watch.write(`${JSON.stringify({ type, object })}\n`);
  }
  set(name: string, value: number): void {
    const type = this.objects.has(name) ? "MODIFIED" : "ADDED";
    this.objects.set(name, value);
    this.version++;
    this.send(type, this.object(name, value));
  }
  remove(name: string): void {
    const value = this.objects.get(name) ?? 0;
    this.objects.delete(name);
    this.version++;
    this.send("DELETED", this.object(name, value));
  }
}

const open: Reflector<unknown>[] = [];
afterEach(() => {
  for (const r of open.splice(0)) r.stop();
});
function follow(
  script: Script,
  more: { silenceMs?: number; metadataOnly?: boolean; project?: (o: JsonMap) => number } = {},
) {
  const restarts: string[] = [];
  const changes: string[] = [];
  const reflector = reflect<number>({
    client: script.client,
    path: "/things",
    project: (o) => Number(o["value"]),
    onChange: (key, value) => void changes.push(`${key}=${value ?? "gone"}`),
    onRestart: (reason) => void restarts.push(reason),
    pause: () => new Promise((resolve) => setImmediate(resolve)),
    random: () => 0,
    ...more,
  });
  open.push(reflector);
  return { reflector, restarts, changes };
}
const settles = (what: () => unknown, want: unknown): Promise<void> =>
  vi.waitFor(() => expect(what()).toEqual(want), { timeout: 5000, interval: 2 });
const content = (r: Reflector<number>): Record<string, number> => Object.fromEntries(r.items);

async function begun() {
  const script = new Script();
  for (const [i, name] of ["a", "b", "c", "d", "e"].entries()) script.objects.set(name, i);
  const it = follow(script);
  await it.reflector.synced;
  await settles(() => script.watches.length, 1);
  return { script, ...it };
}

describe("a local copy", () => {
  test("is listed page by page and then follows", async () => {
    const { script, reflector } = await begun();
    expect(content(reflector)).toEqual({ a: 0, b: 1, c: 2, d: 3, e: 4 });
    expect(script.lists).toBe(3);
    script.set("f", 5);
    script.remove("a");
    await settles(() => content(reflector), { b: 1, c: 2, d: 3, e: 4, f: 5 });
  });
  test("of a page that takes long leaves turns to others in between", async () => {
    const script = new Script();
    script.page = 100;
    for (let i = 0; i < 100; i++) script.objects.set(`n${i}`, i);
    let turns = 0;
    let counting = true;
    const count = (): void => {
      turns++;
      if (counting) setImmediate(count);
    };
    setImmediate(count);
    const project = (o: JsonMap): number => {
      for (const end = performance.now() + 1; performance.now() < end; );
      return Number(o["value"]);
    };
    const { reflector } = follow(script, { project });
    await reflector.synced;
    counting = false;
    expect(reflector.items.size).toBe(100);
    expect(script.lists).toBe(1);
    expect(turns).toBeGreaterThan(5);
  });
  test("asks for metadata alone where that is enough, and only there", async () => {
    for (const [metadataOnly, want] of [
      [true, [/as=PartialObjectMetadataList;/, /as=PartialObjectMetadata;/]],
      [false, [/^$/, /^$/]],
    ] as const) {
      const script = new Script();
      const { reflector } = follow(script, { metadataOnly });
      await reflector.synced;
      await settles(() => script.watches.length, 1);
      for (const [i, pattern] of want.entries()) expect(script.accepted[i] ?? "").toMatch(pattern);
    }
  });
  const faults: readonly (readonly [
    what: string,
    break_: (s: Script) => void,
    reason: string,
    lists: boolean,
  ])[] = [
    ["a reset socket", (s) => s.watch.destroy(new Error("ECONNRESET")), "error", false],
    ["a stream that ends", (s) => s.watch.end(), "ended", false],
    ["a line that is cut", (s) => s.watch.end('{"type":"ADDED","obj'), "error", false],
    ["an event that is no JSON", (s) => void s.watch.write("nonsense\n"), "error", false],
    ["an event without an object", (s) => void s.watch.write('{"type":"ADDED"}\n'), "error", false],
    [
      "410 in the stream",
      (s) => s.send("ERROR", { code: 410, reason: "Expired", message: "too old" }),
      "gone",
      true,
    ],
    [
      "an ERROR event of another kind",
      (s) => s.send("ERROR", { code: 400, reason: "BadRequest", message: "x" }),
      "error",
      true,
    ],
    [
      "a server's error in the stream",
      (s) => s.send("ERROR", { code: 500, reason: "InternalError", message: "x" }),
      "error",
      false,
    ],
  ];
  for (const [what, breaks, reason, lists] of faults)
    test(`is right again after ${what}`, async () => {
      const { script, reflector, restarts } = await begun();
      const before = script.lists;
      // What happens while nobody watches is seen by the next watch only where the server still knows it.
      breaks(script);
      await settles(() => script.watches.length, 2);
      expect(restarts).toEqual([reason]);
      expect(script.lists > before).toBe(lists);
      script.set("z", 26);
      script.remove("b");
      await settles(() => content(reflector), { a: 0, c: 2, d: 3, e: 4, z: 26 });
    });
  test("is right after a list that failed first, a 429 with its pause, and a 410 in the header of a watch", async () => {
    const script = new Script();
    script.objects.set("a", 1);
    script.failLists = [
      new Error("refused"),
      new ApiError(500, "", "x"),
      new ApiError(429, "TooManyRequests", "slow", 1),
    ];
    script.failWatches = [
      new ApiError(429, "TooManyRequests", "slow", 1),
      new ApiError(410, "Expired", "old"),
    ];
    const { reflector, restarts } = follow(script);
    await reflector.synced;
    await settles(() => script.watches.length, 1);
    expect(restarts).toEqual(["list", "list", "list", "error", "gone"]);
    expect(content(reflector)).toEqual({ a: 1 });
  });
  test("forgets what was deleted while nobody watched", async () => {
    const { script, reflector, changes } = await begun();
    script.objects.delete("c");
    script.send("ERROR", { code: 410, reason: "Expired", message: "x" });
    await settles(() => content(reflector), { a: 0, b: 1, d: 3, e: 4 });
    expect(changes).toContain("c=gone");
  });
  test("begins anew after silence, and bookmarks are no silence", async () => {
    const script = new Script();
    script.objects.set("a", 1);
    const { reflector, restarts } = follow(script, { silenceMs: 60 });
    await reflector.synced;
    await settles(() => script.watches.length, 1);
    for (let i = 0; i < 6; i++) {
      script.version = 100 + i;
      script.send("BOOKMARK", { metadata: { resourceVersion: String(script.version) } });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(restarts).toEqual([]);
    await settles(() => restarts, ["silent"]);
    await settles(() => script.watches.at(-1)?.from, "105");
  });
  test("takes events twice and in a wrong order without losing the end", async () => {
    const { script, reflector } = await begun();
    for (let i = 0; i < 3; i++) script.send("ADDED", script.object("a", 7));
    script.send("DELETED", script.object("nobody", 0));
    script.send("MODIFIED", script.object("new", 1));
    await settles(() => reflector.items.get("new"), 1);
    expect(reflector.items.get("a")).toBe(7);
  });
  test("under a thousand random faults it ends as what the server has, and leaves one watch", async () => {
    const { script, reflector } = await begun();
    let seed = 1;
    const random = (n: number): number => (seed = (seed * 48_271) % 2_147_483_647) % n;
    for (let i = 0; i < 1000; i++) {
      const dead = script.watch.destroyed || script.watch.writableEnded;
      if (dead) {
        // What changes now is only to be had from a list.
        script.objects.set(`k${random(20)}`, i);
        script.failWatches.push(new ApiError(410, "Expired", "old"));
        const before = script.watches.length;
        await settles(() => script.watches.length > before, true);
      }
      const pick = random(12);
      if (pick === 0) script.watch.destroy(new Error("reset"));
      else if (pick === 1) script.send("ERROR", { code: 410, reason: "Expired", message: "x" });
      else if (pick === 2) script.watch.end("{");
      else if (random(3) === 0) script.remove(`k${random(20)}`);
      else script.set(`k${random(20)}`, i);
      if (pick <= 2) {
        const before = script.watches.length;
        script.failWatches.push(new ApiError(410, "Expired", "old"));
        await settles(() => script.watches.length > before, true);
      }
    }
    script.set("last", 1);
    await settles(() => content(reflector), Object.fromEntries(script.objects));
    expect(script.watches.filter((w) => !w.stream.destroyed && !w.stream.writableEnded).length).toBe(1);
  });
});

describe("the queue", () => {
  test("works a key once for many adds, and again for one that came meanwhile, never twice at a time", async () => {
    let flying = 0;
    let most = 0;
    const worked: string[] = [];
    const queue = makeQueue({
      work: async (key) => {
        most = Math.max(most, ++flying);
        worked.push(key);
        if (worked.length === 1) queue.add(key);
        await new Promise((resolve) => setImmediate(resolve));
        flying--;
      },
      concurrency: 1,
    });
    for (let i = 0; i < 10; i++) queue.add("x");
    await queue.idle();
    expect([worked, most]).toEqual([["x", "x"], 1]);
  });
  test("waits longer after each failure, up to sixteen minutes, and begins anew after a success", async () => {
    const waits: number[] = [];
    const due: (() => void)[] = [];
    let fail = 20;
    const queue = makeQueue({
      work: () => (fail-- > 0 ? Promise.reject(new Error("x")) : Promise.resolve()),
      later: (f, ms) => {
        waits.push(ms);
        due.push(f);
        return () => undefined;
      },
      now: () => 0,
    });
    queue.add("x");
    for (let i = 0; i < 20; i++) {
      await settles(() => due.length > 0, true);
      due.shift()?.();
    }
    await queue.idle();
    expect(waits[0]).toBe(5);
    expect(waits[1]).toBeGreaterThan(5);
    expect(Math.max(...waits)).toBe(16 * 60_000);
    fail = 1;
    queue.add("x");
    await settles(() => waits.length, 21);
    expect(waits.at(-1)).toBe(5);
  });
});

describe("the lease", () => {
  function server() {
    let lease: JsonMap | undefined;
    let version = 0;
    let down = false;
    const client: Client = {
      json: (_path, options = {}) => {
        if (down) return Promise.reject(new Error("unreachable"));
        const body = options.body as JsonMap | undefined;
        if (options.method === "POST" || options.method === "PUT") {
          const meta = (body?.["metadata"] ?? {}) as JsonMap;
          const stale =
            options.method === "PUT" ? meta["resourceVersion"] !== String(version) : lease !== undefined;
          if (stale) return Promise.reject(new ApiError(409, "Conflict", "stale"));
          version++;
          lease = { ...body, metadata: { ...meta, resourceVersion: String(version) } };
          return Promise.resolve(lease);
        }
        return lease === undefined
          ? Promise.reject(new ApiError(404, "NotFound", "none"))
          : Promise.resolve(structuredClone(lease));
      },
      stream: () => Promise.reject(new Error("no stream")),
      close: () => undefined,
    };
    return {
      client,
      fail: (v: boolean) => (down = v),
      holder: () => ((lease?.["spec"] ?? {}) as JsonMap)["holderIdentity"],
    };
  }
  const candidate = (client: Client, identity: string, clock: { now: number }) => {
    const state = { held: false, lost: "" };
    const lease = elect({
      client,
      namespace: "n",
      name: "l",
      identity,
      retryMs: 2,
      now: () => clock.now,
      onLost: (why) => (state.lost = why),
    });
    void lease.held.then(() => (state.held = true));
    return { state, lease };
  };
  test("has one holder of two, and a third gets it when it is given back", async () => {
    const { client, holder } = server();
    const clock = { now: 0 };
    const [a, b] = [candidate(client, "a", clock), candidate(client, "b", clock)];
    await settles(() => [a.state.held, b.state.held].filter(Boolean).length, 1);
    const [first, second] = a.state.held ? [a, b] : [b, a];
    await first.lease.release();
    await settles(() => second.state.held, true);
    expect([holder(), first.state.lost, second.state.lost]).toEqual([second === a ? "a" : "b", "", ""]);
    await second.lease.release();
  });
  test("is lost when it cannot be renewed in time, and taken by the other only after its whole duration", async () => {
    const one = server();
    const clock = { now: 0 };
    const a = candidate(one.client, "a", clock);
    await settles(() => a.state.held, true);
    const b = candidate(one.client, "b", clock);
    one.fail(true);
    clock.now = 10_001;
    await settles(() => a.state.lost !== "", true);
    one.fail(false);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(b.state.held).toBe(false);
    clock.now += 15_001;
    await settles(() => b.state.held, true);
    await b.lease.release();
  });
  test("does not move when the wall clock jumps", async () => {
    const { client } = server();
    const clock = { now: 0 };
    const a = candidate(client, "a", clock);
    await settles(() => a.state.held, true);
    const b = candidate(client, "b", clock);
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 10 * 365 * 86_400_000 });
    await new Promise((resolve) => setTimeout(resolve, 30));
    vi.useRealTimers();
    expect([a.state.lost, b.state.held]).toEqual(["", false]);
    await a.lease.release();
    await b.lease.release();
  });
});
