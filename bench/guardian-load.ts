// A client that costs little: requests over kept connections, each checked, latencies kept. Runs as a process of its own
// so that it can be pinned: node bench/guardian-load.ts JSON → one line of JSON; without JSON, a line of it for each line
// on standard input, so that a client is warm from its second line on.

import { createInterface } from "node:readline";
import { Pool } from "undici";

export interface Fire {
  readonly base: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
  readonly connections: number;
  readonly requests: number;
  /** Requests a second; without, as fast as the connections go. */
  readonly rate?: number;
  /** 0: any. */
  readonly status: number;
  /** Must be in every answer. */
  readonly holds: string;
  /** Milliseconds to the first body byte that holds `holds`, and not to the end. */
  readonly first?: boolean;
  /** A connection of its own for each request. */
  readonly fresh?: boolean;
}
export interface Fired {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly wrong: number;
  readonly example: string;
}

export async function fire(f: Fire): Promise<Fired> {
  const pool = new Pool(f.base, { connections: f.connections, pipelining: 1 });
  const times: number[] = [];
  let wrong = 0;
  let example = "";
  let n = 0;
  const one = async (): Promise<void> => {
    const body = f.body.replace("$N", String(++n));
    const begun = performance.now();
    const r = await pool.request({
      method: "POST",
      path: f.path,
      headers: { "content-type": "application/json", ...f.headers },
      body,
      reset: f.fresh === true,
    });
    let text = "";
    let seen = 0;
    for await (const part of r.body) {
      text += String(part);
      if (seen === 0 && text.includes(f.holds)) seen = performance.now() - begun;
    }
    times.push(f.first === true ? seen : performance.now() - begun);
    if ((f.status !== 0 && r.statusCode !== f.status) || !text.includes(f.holds)) {
      wrong++;
      example = `${r.statusCode} ${text.slice(0, 300)}`;
    }
  };
  const begun = performance.now();
  if (f.rate === undefined) {
    const worker = async (): Promise<void> => {
      while (n < f.requests) await one();
    };
    await Promise.all(Array.from({ length: f.connections }, worker));
  } else {
    const all: Promise<void>[] = [];
    for (let i = 0; i < f.requests; i++) {
      const due = begun + (i * 1000) / f.rate;
      const wait = due - performance.now();
      if (wait > 1) await new Promise((resolve) => setTimeout(resolve, wait));
      all.push(one());
    }
    await Promise.all(all);
  }
  const seconds = (performance.now() - begun) / 1000;
  await pool.destroy();
  times.sort((a, b) => a - b);
  const q = (p: number): number => times[Math.min(times.length - 1, Math.floor(times.length * p))] ?? 0;
  return { perSecond: times.length / seconds, p50: q(0.5), p99: q(0.99), wrong, example };
}

const [, , text] = process.argv;
if (import.meta.main && text === undefined)
  for await (const line of createInterface({ input: process.stdin }))
    console.log(JSON.stringify(await fire(JSON.parse(line) as Fire)));
if (import.meta.main && text !== undefined) {
  const f = JSON.parse(text) as Fire;
  await fire({ ...f, requests: Math.max(f.connections, Math.ceil(f.requests / 10)) });
  console.log(JSON.stringify(await fire(f)));
}
