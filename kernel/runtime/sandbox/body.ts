// One function body rewritten: the original's bytes with what the events ask for between them.

import type { Writer } from "./bytes.ts";
import { EVENT, STRIDE } from "./events.ts";
import { LEAF_UNITS } from "./gas.ts";
import type { Extent } from "./module.ts";
import { NAN } from "./opcodes.ts";
import type { FunctionScan } from "./scan.ts";

/** What the rewrite leaves out, for measurements; the executor leaves out nothing. */
export interface RewriteParts {
  readonly stack: boolean;
  readonly nan: boolean;
}
/** Indices of what is appended. */
export interface Added {
  readonly gas: number;
  readonly stack: number;
  readonly cap: number;
  readonly status: number;
  readonly type: number;
  readonly bulkBytes: number;
  readonly bulkElements: number;
  readonly grow: number;
}

export class BodyWriter {
  readonly #w: Writer;
  readonly #original: Uint8Array;
  readonly #scan: FunctionScan;
  readonly #added: Added;
  readonly #nan: boolean;
  readonly #stack: boolean;
  readonly #gasLocal: number;
  readonly #stackLocal: number;
  /** The local for each kind of NaN. */
  readonly #nanLocal: number[] = [];
  readonly #localTypes: number[] = [];

  constructor(w: Writer, original: Uint8Array, scan: FunctionScan, added: Added, parts: RewriteParts) {
    this.#w = w;
    this.#original = original;
    this.#scan = scan;
    this.#added = added;
    this.#nan = parts.nan;
    this.#stack = parts.stack && (scan.guestCalls > 0 || scan.units > LEAF_UNITS);
    const local = (type: number): number => scan.locals + this.#localTypes.push(type) - 1;
    this.#gasLocal = scan.usesLocal ? local(0x7e) : -1;
    this.#stackLocal = this.#stack ? local(0x7e) : -1;
    if (parts.nan && scan.nans !== 0)
      for (const [kind, type] of [
        [NAN.f32, 0x7d],
        [NAN.f64, 0x7c],
        [NAN.f32x4, 0x7b],
        [NAN.f64x2, 0x7b],
      ] as const)
        this.#nanLocal[kind] = (scan.nans & (1 << kind)) === 0 ? -1 : local(type);
  }

  write(groups: number, locals: Extent, end: number): void {
    const w = this.#w;
    const { list, count } = this.#scan.events;
    const start = w.open(3);
    w.u32(groups + this.#localTypes.length);
    w.copy(this.#original, locals.start, locals.end);
    for (const type of this.#localTypes) w.put(1, type);
    let from = locals.end;
    for (let i = 0; i < count * STRIDE; i += STRIDE) {
      const at = list[i] ?? 0;
      const kind = list[i + 1] ?? 0;
      const value = list[i + 2] ?? 0;
      if (at > from) w.copy(this.#original, from, at);
      from = at + this.#event(kind, value);
    }
    w.copy(this.#original, from, end);
    w.close(start, 3);
  }

  /** Writes what an event asks for; returns how many bytes of the original it replaces. */
  #event(kind: number, value: number): number {
    const w = this.#w;
    switch (kind & EVENT.kind) {
      case EVENT.enter:
        this.#charge(value, true);
        this.#enter();
        break;
      case EVENT.charge:
        this.#charge(value, (kind & EVENT.global) !== 0);
        break;
      case EVENT.loop:
        this.#charge(value, (kind & EVENT.global) !== 0);
        this.#gas();
        this.#trapIfNegative();
        break;
      case EVENT.preload:
        if ((kind & EVENT.on) === 0) break;
        w.u8(0x23);
        w.u32(this.#added.gas);
        w.u8(0x21);
        w.u32(this.#gasLocal);
        break;
      case EVENT.nan:
        if ((kind & EVENT.on) !== 0 && this.#nan) this.#canonical(value);
        break;
      case EVENT.calling:
        if (!this.#stack) break;
        w.u8(0x20);
        w.u32(this.#stackLocal);
        w.u8(0x24);
        w.u32(this.#added.stack);
        break;
      case EVENT.grow:
        w.u8(0x10);
        w.u32(this.#added.grow);
        return value;
      case EVENT.bulkBytes:
      case EVENT.bulkElements:
        w.u8(0x10);
        w.u32((kind & EVENT.kind) === EVENT.bulkBytes ? this.#added.bulkBytes : this.#added.bulkElements);
        break;
      default:
        throw new Error(`unknown event ${kind}`);
    }
    return 0;
  }

  #charge(cost: number, fromGlobal: boolean): void {
    const w = this.#w;
    w.u8(fromGlobal ? 0x23 : 0x20);
    w.u32(fromGlobal ? this.#added.gas : this.#gasLocal);
    w.u8(0x42);
    w.positive(cost);
    w.u8(0x7d);
    if (this.#gasLocal >= 0) {
      w.u8(0x22);
      w.u32(this.#gasLocal);
    }
    w.u8(0x24);
    w.u32(this.#added.gas);
  }

  /** The gas that is left, on the operand stack. */
  #gas(): void {
    this.#w.u8(this.#gasLocal >= 0 ? 0x20 : 0x23);
    this.#w.u32(this.#gasLocal >= 0 ? this.#gasLocal : this.#added.gas);
  }

  #trapIfNegative(): void {
    this.#w.put(0x42, 0, 0x53, 0x04, 0x40, 0x00, 0x0b);
  }

  /** A function that calls others checks its gas and its frame at once: either negative shows in the sign of the two.
   * Its frame stays in a local and becomes the counter just before each call, so that nothing is put back after one. */
  #enter(): void {
    const w = this.#w;
    if (this.#stack) {
      w.u8(0x23);
      w.u32(this.#added.stack);
      w.u8(0x42);
      w.positive(this.#scan.units);
      w.put(0x7d, 0x22);
      w.u32(this.#stackLocal);
      this.#gas();
      w.put(0x84, 0x42, 0, 0x53, 0x04, 0x40, 0x20);
      w.u32(this.#stackLocal);
      w.u8(0x24);
      w.u32(this.#added.stack);
      w.put(0x00, 0x0b);
    } else if (this.#scan.guestCalls > 0) {
      this.#gas();
      this.#trapIfNegative();
    }
  }

  /** x = (x = x) ? x : canonical NaN, lane by lane for vectors. */
  #canonical(kind: number): void {
    const w = this.#w;
    const local = this.#nanLocal[kind] ?? -1;
    const get = (): void => {
      w.u8(0x20);
      w.u32(local);
    };
    w.u8(0x22);
    w.u32(local);
    if (kind === NAN.f32) w.put(0x43, 0, 0, 0xc0, 0x7f);
    else if (kind === NAN.f64) w.put(0x44, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f);
    else {
      const lane = kind === NAN.f32x4 ? [0, 0, 0xc0, 0x7f] : [0, 0, 0, 0, 0, 0, 0xf8, 0x7f];
      w.put(0xfd, 12);
      for (let at = 0; at < 16; at += lane.length) w.put(...lane);
    }
    get();
    get();
    if (kind === NAN.f32) w.put(0x5b, 0x1b);
    else if (kind === NAN.f64) w.put(0x61, 0x1b);
    else w.put(0xfd, kind === NAN.f32x4 ? 65 : 71, 0xfd, 82);
  }
}
