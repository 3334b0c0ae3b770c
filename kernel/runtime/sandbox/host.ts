// The host's half of WASI preview 1, for one invocation. Everything a guest can learn comes from the request: its
// input, its arguments, one moment of time, one seed. Nothing here touches a file, a socket or a clock.

import { sha256 } from "../../crypto/crypto.ts";
import { GAS } from "./gas.ts";
import { PREVIEW1 } from "./preview1.ts";
import { Sink } from "./sink.ts";

const ERRNO = {
  success: 0,
  badf: 8,
  fault: 21,
  inval: 28,
  nosys: 52,
  notsup: 58,
  spipe: 70,
  notcapable: 76,
} as const;

/** Thrown through the guest's frames to end it; guests have no way to catch it. */
export class Stop extends Error {
  readonly what: "exit" | "gas" | "output" | "fault";
  readonly status: number;
  constructor(what: "exit" | "gas" | "output" | "fault", status = 0) {
    super(what);
    this.what = what;
    this.status = status;
  }
}

export interface HostRequest {
  readonly stdin: Uint8Array;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly seed: string;
  /** Unix milliseconds; every clock stands there. */
  readonly clock: number;
  readonly outputBytes: number;
}

/** What of stderr is kept, for the person who runs a module by hand. */
const STDERR_BYTES = 4_096;

const NONE = new DataView(new ArrayBuffer(0));
type Call = (...args: readonly number[]) => number;

export class Host {
  readonly stdout = new Sink();
  readonly stderr = new Sink();
  readonly #request: HostRequest;
  readonly #args: readonly Uint8Array[];
  readonly #env: readonly Uint8Array[];
  #memory: WebAssembly.Memory | undefined;
  #gas: WebAssembly.Global | undefined;
  #view = NONE;
  #read = 0;
  #random = new Uint8Array(0);
  #randomAt = 0;
  #randomBlock = 0;
  readonly #closed = new Set<number>();

  constructor(request: HostRequest) {
    this.#request = request;
    const text = new TextEncoder();
    this.#args = request.args.map((arg) => text.encode(`${arg}\0`));
    this.#env = Object.entries(request.env).map(([name, value]) => text.encode(`${name}=${value}\0`));
  }

  /** The guest's memory and gas, known once it is instantiated and before it runs. */
  bind(memory: WebAssembly.Memory | undefined, gas: WebAssembly.Global): void {
    this.#memory = memory;
    this.#gas = gas;
  }

  #charge(units: number): void {
    const gas = this.#gas;
    if (gas === undefined) throw new Stop("fault");
    const left = BigInt(gas.value) - BigInt(units);
    gas.value = left;
    if (left < 0n) throw new Stop("gas");
  }

  /** The bytes from `at` on, or undefined where the guest's pointer is wrong. */
  #bytes(at: number, length: number): Uint8Array | undefined {
    const view = this.#data();
    return at + length <= view.byteLength ? new Uint8Array(view.buffer, at, length) : undefined;
  }

  /** A view of the memory as it is now: growing detaches the one before. */
  #data(): DataView {
    const buffer = this.#memory?.buffer;
    if (buffer !== undefined && this.#view.buffer !== buffer) this.#view = new DataView(buffer);
    return this.#view;
  }

  #set32(at: number, value: number): boolean {
    const view = this.#data();
    if (at + 4 > view.byteLength) return false;
    view.setUint32(at, value, true);
    return true;
  }

  #set64(at: number, value: bigint): number {
    const view = this.#data();
    if (at + 8 > view.byteLength) return ERRNO.fault;
    view.setBigUint64(at, value, true);
    return ERRNO.success;
  }

  /** The guest's buffers behind a list of pointers and lengths; charged before they are walked. */
  #vectors(at: number, count: number): Uint8Array[] | undefined {
    const view = this.#data();
    if (at + count * 8 > view.byteLength) return undefined;
    this.#charge(count);
    const parts: Uint8Array[] = [];
    for (let i = 0; i < count; i++) {
      const part = this.#bytes(view.getUint32(at + i * 8, true), view.getUint32(at + i * 8 + 4, true));
      if (part === undefined) return undefined;
      if (part.length > 0) parts.push(part);
    }
    return parts;
  }

  #isOpen(fd: number): boolean {
    return fd <= 2 && !this.#closed.has(fd);
  }

  #write(fd: number, vectors: number, count: number, written: number): number {
    if (!this.#isOpen(fd) || fd === 0) return ERRNO.badf;
    const parts = this.#vectors(vectors, count);
    if (parts === undefined) return ERRNO.fault;
    let total = 0;
    for (const part of parts) {
      this.#charge(Math.ceil(part.length / 2 ** GAS.bytesShift));
      total += part.length;
      if (fd === 2) this.stderr.add(part.subarray(0, Math.max(0, STDERR_BYTES - this.stderr.length)));
      else if (this.stdout.length + part.length > this.#request.outputBytes) throw new Stop("output");
      else this.stdout.add(part);
    }
    return this.#set32(written, total >>> 0) ? ERRNO.success : ERRNO.fault;
  }

  #readInput(fd: number, vectors: number, count: number, read: number): number {
    if (!this.#isOpen(fd) || fd !== 0) return ERRNO.badf;
    const parts = this.#vectors(vectors, count);
    if (parts === undefined) return ERRNO.fault;
    let total = 0;
    for (const part of parts) {
      const piece = this.#request.stdin.subarray(this.#read, this.#read + part.length);
      this.#charge(Math.ceil(piece.length / 2 ** GAS.bytesShift));
      part.set(piece);
      this.#read += piece.length;
      total += piece.length;
      if (piece.length < part.length) break;
    }
    return this.#set32(read, total) ? ERRNO.success : ERRNO.fault;
  }

  #strings(list: readonly Uint8Array[], pointers: number, buffer: number): number {
    let at = buffer;
    for (const [i, bytes] of list.entries()) {
      this.#charge(1 + Math.ceil(bytes.length / 2 ** GAS.bytesShift));
      const target = this.#bytes(at, bytes.length);
      if (target === undefined || !this.#set32(pointers + i * 4, at)) return ERRNO.fault;
      target.set(bytes);
      at += bytes.length;
    }
    return ERRNO.success;
  }

  #stringSizes(list: readonly Uint8Array[], count: number, size: number): number {
    const total = list.reduce((sum, bytes) => sum + bytes.length, 0);
    return this.#set32(count, list.length) && this.#set32(size, total) ? ERRNO.success : ERRNO.fault;
  }

  /** SHA-256 over the seed and a counter, block by block. */
  #fillRandom(at: number, length: number): number {
    const target = this.#bytes(at, length);
    if (target === undefined) return ERRNO.fault;
    this.#charge(length);
    for (let i = 0; i < length; i++) {
      if (this.#randomAt === this.#random.length) {
        const digest = sha256(`${this.#request.seed}\n${this.#randomBlock++}`).slice("sha256:".length);
        this.#random = Uint8Array.from(Buffer.from(digest, "hex"));
        this.#randomAt = 0;
      }
      target[i] = this.#random[this.#randomAt++] ?? 0;
    }
    return ERRNO.success;
  }

  #status(fd: number, at: number): number {
    if (!this.#isOpen(fd)) return ERRNO.badf;
    const target = this.#bytes(at, 24);
    if (target === undefined) return ERRNO.fault;
    target.fill(0);
    this.#data().setUint32(at + 8, fd === 0 ? 2 : 64, true); // the right to read, or to write
    return ERRNO.success;
  }

  #fileStatus(fd: number, at: number): number {
    if (!this.#isOpen(fd)) return ERRNO.badf;
    const target = this.#bytes(at, 64);
    if (target === undefined) return ERRNO.fault;
    target.fill(0);
    return ERRNO.success;
  }

  #close(fd: number): number {
    if (!this.#isOpen(fd)) return ERRNO.badf;
    this.#closed.add(fd);
    return ERRNO.success;
  }

  /** Time stands still and input is all there: every subscription is ready at once. */
  #poll(subscriptions: number, events: number, count: number, ready: number): number {
    if (count === 0) return ERRNO.inval;
    const view = this.#data();
    if (subscriptions + count * 48 > view.byteLength || events + count * 32 > view.byteLength)
      return ERRNO.fault;
    this.#charge(count);
    for (let i = 0; i < count; i++) {
      const userdata = view.getBigUint64(subscriptions + i * 48, true);
      const type = view.getUint8(subscriptions + i * 48 + 8);
      const event = events + i * 32;
      new Uint8Array(view.buffer, event, 32).fill(0);
      view.setBigUint64(event, userdata, true);
      view.setUint8(event + 10, type);
      if (type > 2) view.setUint16(event + 8, ERRNO.inval, true);
    }
    return this.#set32(ready, count) ? ERRNO.success : ERRNO.fault;
  }

  /** Every name of preview 1, so that a C library links; what is not listed is refused with an errno. */
  imports(): WebAssembly.ModuleImports {
    const onStream =
      (errno: number): Call =>
      (fd = 0) =>
        this.#isOpen(fd) ? errno : ERRNO.badf;
    const calls = new Map<string, Call>([
      ["args_get", (p = 0, b = 0) => this.#strings(this.#args, p, b)],
      ["args_sizes_get", (c = 0, s = 0) => this.#stringSizes(this.#args, c, s)],
      ["environ_get", (p = 0, b = 0) => this.#strings(this.#env, p, b)],
      ["environ_sizes_get", (c = 0, s = 0) => this.#stringSizes(this.#env, c, s)],
      ["clock_res_get", (clock = 0, at = 0) => (clock > 3 ? ERRNO.inval : this.#set64(at, 1_000_000n))],
      ["fd_close", (fd = 0) => this.#close(fd)],
      ["fd_fdstat_get", (fd = 0, at = 0) => this.#status(fd, at)],
      ["fd_filestat_get", (fd = 0, at = 0) => this.#fileStatus(fd, at)],
      ["fd_prestat_get", () => ERRNO.badf],
      ["fd_prestat_dir_name", () => ERRNO.badf],
      ["fd_read", (fd = 0, v = 0, n = 0, r = 0) => this.#readInput(fd, v, n, r)],
      ["fd_write", (fd = 0, v = 0, n = 0, w = 0) => this.#write(fd, v, n, w)],
      ["fd_datasync", onStream(ERRNO.success)],
      ["fd_sync", onStream(ERRNO.success)],
      ["fd_tell", onStream(ERRNO.spipe)],
      ["fd_pread", onStream(ERRNO.spipe)],
      ["fd_pwrite", onStream(ERRNO.spipe)],
      ["poll_oneoff", (s = 0, e = 0, n = 0, r = 0) => this.#poll(s, e, n, r)],
      ["proc_raise", () => ERRNO.nosys],
      ["random_get", (at = 0, length = 0) => this.#fillRandom(at, length)],
      ["sched_yield", () => ERRNO.success],
    ]);
    const imports: Record<string, WebAssembly.HostFunction> = {};
    for (const name of PREVIEW1.keys()) {
      const call = calls.get(name);
      const otherwise =
        name.startsWith("path_") || name.startsWith("sock_") ? ERRNO.notcapable : ERRNO.notsup;
      imports[name] = (...args: (number | bigint)[]): number => {
        this.#charge(GAS.host);
        return call === undefined
          ? otherwise
          : call(...args.map((arg) => (typeof arg === "number" ? arg >>> 0 : 0)));
      };
    }
    imports["clock_time_get"] = (clock: number, _precision: bigint, at: number): number => {
      this.#charge(GAS.host);
      return clock >>> 0 > 3 ? ERRNO.inval : this.#set64(at >>> 0, BigInt(this.#request.clock) * 1_000_000n);
    };
    imports["fd_seek"] = (fd: number): number => {
      this.#charge(GAS.host);
      return this.#isOpen(fd >>> 0) ? ERRNO.spipe : ERRNO.badf;
    };
    imports["proc_exit"] = (status: number): void => {
      this.#charge(GAS.host);
      throw new Stop("exit", status >>> 0);
    };
    return imports;
  }
}
