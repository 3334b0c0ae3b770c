// A disk in memory that keeps a tape of what was asked of it. From the tape's first k steps follows what a machine
// would hold had it stopped there: all of it when only the process was killed; after a loss of power what was synced,
// and of the rest whatever chance decides, sector by sector.
import type { Disk, OpenFile } from "../../sidecar/journal/journal.ts";

export type Step =
  /** An open of what is there: changes nothing, and can fail. */
  | { readonly op: "open"; readonly name: string }
  | { readonly op: "create"; readonly name: string; readonly file: number }
  | { readonly op: "write"; readonly file: number; readonly at: number; readonly bytes: Uint8Array }
  | { readonly op: "sync"; readonly file: number }
  | { readonly op: "rename"; readonly from: string; readonly to: string }
  | { readonly op: "remove"; readonly name: string }
  | { readonly op: "syncNames" }
  /** What the world outside saw at this point. */
  | { readonly op: "seen"; readonly what: string; readonly hash: string };

export type Files = ReadonlyMap<string, Uint8Array>;
export interface Tape {
  readonly disk: Disk;
  readonly steps: Step[];
}
export interface TapeOptions {
  readonly files?: Files;
  /** A disk that says it has synced and has not. */
  readonly lyingSync?: boolean;
  /** Asked before each step; what it throws is the step's failure. */
  readonly fault?: (step: Step, number: number) => void;
}

export function tape(options: TapeOptions = {}): Tape {
  const files = new Map<number, Buffer<ArrayBuffer>>();
  const names = new Map<string, number>();
  const steps: Step[] = [];
  let next = 0;
  let number = 0;
  for (const [name, bytes] of options.files ?? []) {
    files.set(next, Buffer.from(bytes));
    names.set(name, next++);
  }
  const take = (step: Step): void => {
    options.fault?.(step, number++);
    if (options.lyingSync === true && (step.op === "sync" || step.op === "syncNames")) return;
    steps.push(step);
  };
  const of = (name: string): number => {
    const file = names.get(name);
    if (file === undefined) throw Object.assign(new Error(`ENOENT: ${name}`), { code: "ENOENT" });
    return file;
  };
  const contentOf = (file: number): Buffer<ArrayBuffer> => files.get(file) ?? Buffer.alloc(0);
  const later = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  const openFile = (file: number): OpenFile => {
    const write = (bytes: Uint8Array, at: number): void => {
      take({ op: "write", file, at, bytes: Buffer.from(bytes) });
      files.set(file, written(contentOf(file), bytes, at));
    };
    return {
      async write(bytes, at) {
        write(bytes, at);
        await later();
      },
      writeNow: write,
      async sync() {
        await later();
        take({ op: "sync", file });
      },
      close: () => undefined,
    };
  };
  return {
    steps,
    disk: {
      list: () => [...names.keys()].sort(),
      read: (name) => {
        const file = names.get(name);
        return file === undefined ? undefined : Buffer.from(contentOf(file));
      },
      readAt: (name, from, length) => Buffer.from(contentOf(of(name)).subarray(from, from + length)),
      size: (name) => contentOf(of(name)).byteLength,
      open(name, how) {
        if (how === "existing") {
          const file = of(name);
          take({ op: "open", name });
          return openFile(file);
        }
        if (names.has(name)) throw Object.assign(new Error(`EEXIST: ${name}`), { code: "EEXIST" });
        const file = next++;
        take({ op: "create", name, file });
        names.set(name, file);
        files.set(file, Buffer.alloc(0));
        return openFile(file);
      },
      async rename(from, to) {
        take({ op: "rename", from, to });
        names.set(to, of(from));
        names.delete(from);
        await later();
      },
      async remove(name) {
        take({ op: "remove", name });
        names.delete(name);
        await later();
      },
      async syncNames() {
        await later();
        take({ op: "syncNames" });
      },
    },
  };
}

function written(old: Buffer<ArrayBuffer>, bytes: Uint8Array, at: number): Buffer<ArrayBuffer> {
  if (at + bytes.byteLength <= old.byteLength) {
    old.set(bytes, at);
    return old;
  }
  const wider = Buffer.alloc(at + bytes.byteLength);
  wider.set(old);
  wider.set(bytes, at);
  return wider;
}

/** Chance that comes out the same again. */
export function dice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const SECTOR = 512;
interface Inode {
  durable: Buffer<ArrayBuffer>;
  volatile: Buffer<ArrayBuffer>;
  unsynced: { readonly at: number; readonly bytes: Uint8Array }[];
}

/** Plays a tape step by step; at each point it can say what a stop would leave. */
export function player() {
  const inodes = new Map<number, Inode>();
  let names = new Map<string, number>();
  let durableNames = new Map<string, number>();
  let pending: Step[] = [];
  const seen: { readonly what: string; readonly hash: string }[] = [];
  const inode = (file: number): Inode => {
    let found = inodes.get(file);
    if (found === undefined)
      inodes.set(file, (found = { durable: Buffer.alloc(0), volatile: Buffer.alloc(0), unsynced: [] }));
    return found;
  };
  const named = (map: Map<string, number>, step: Step): void => {
    if (step.op === "create") map.set(step.name, step.file);
    else if (step.op === "remove") map.delete(step.name);
    else if (step.op === "rename") {
      const file = map.get(step.from);
      if (file !== undefined) map.set(step.to, file);
      map.delete(step.from);
    }
  };
  return {
    seen,
    play(step: Step): void {
      switch (step.op) {
        case "seen":
          seen.push(step);
          return;
        case "open":
          return;
        case "write": {
          const node = inode(step.file);
          node.volatile = written(node.volatile, step.bytes, step.at);
          node.unsynced.push(step);
          return;
        }
        case "sync": {
          const node = inode(step.file);
          node.durable = Buffer.from(node.volatile);
          node.unsynced = [];
          return;
        }
        case "syncNames":
          durableNames = new Map(names);
          pending = [];
          return;
        case "create":
          inode(step.file);
          named(names, step);
          pending.push(step);
          return;
        case "rename":
        case "remove":
          named(names, step);
          pending.push(step);
          return;
      }
    },
    killed(): Files {
      return new Map([...names].map(([name, file]) => [name, Buffer.from(inode(file).volatile)]));
    },
    powerLost(chance: () => number): Files {
      const survived = new Map(durableNames);
      // A journalling file system keeps the order of names.
      for (const step of pending) {
        if (chance() < 0.4) break;
        named(survived, step);
      }
      const mood = chance();
      const contentOf = (file: number): Buffer<ArrayBuffer> => {
        const node = inode(file);
        let content = Buffer.from(node.durable);
        for (const { at, bytes } of node.unsynced)
          for (let from = 0; from < bytes.byteLength; ) {
            const to = Math.min(bytes.byteLength, from + SECTOR - ((at + from) % SECTOR));
            if (chance() < mood) content = written(content, bytes.subarray(from, to), at + from);
            from = to;
          }
        return content;
      };
      return new Map([...survived].map(([name, file]) => [name, contentOf(file)]));
    },
  };
}
