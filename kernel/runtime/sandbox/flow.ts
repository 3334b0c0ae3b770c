// Control flow and the operand stack of one function body, as heights and marks, and the events found on the way.
// Types are the engine's business (it validates the original before and the result after); what must hold here is that
// no code which can run is taken for dead, and that every way to a loop head or a function passes its check.

import { EVENT, Events, STRIDE } from "./events.ts";
import { GAS } from "./gas.ts";
import type { ModuleLimits } from "./limits.ts";
import type { ModuleShape } from "./module.ts";
import { NAN, SHAPE } from "./opcodes.ts";
import { refuse } from "./refusal.ts";

const BODY = 0;
const BLOCK = 2;
const LOOP = 3;
const IF = 4;
const ELSE = 5;

interface Frame {
  kind: number;
  base: number;
  results: number;
  params: number;
  /** Where the frame begins can be reached; its label has been, by a branch. */
  live: boolean;
  targeted: boolean;
  /** The local holds the gas on every branch to the label so far; it did where the frame began. */
  fresh: boolean;
  freshAtEntry: boolean;
  /** The loop's own charge, or -1, and how many calls there were before it. */
  event: number;
  calls: number;
}

const frame = (kind: number, base: number, params: number, results: number): Frame => ({
  kind,
  base,
  results,
  params,
  live: true,
  targeted: false,
  fresh: true,
  freshAtEntry: false,
  event: -1,
  calls: 0,
});

export class Flow {
  readonly events = new Events();
  locals = 0;
  /** Operands may be vectors, so that a slot counts twice. */
  wide = false;
  /** The function reads the gas from its local somewhere. */
  usesLocal = false;
  /** Calls that may come back to the guest's own functions. */
  guestCalls = 0;
  /** Kinds of NaN that are made canonical, as bits `1 << kind`. */
  nans = 0;
  /** Control instructions, and the values that they carry. */
  turns = 0;
  protected deepest = 0;
  protected live = true;
  protected readonly shape: ModuleShape;
  protected readonly limits: ModuleLimits;
  readonly #tags: Int32Array;
  #tagged = 0;
  #height = 0;
  #frames: Frame[] = [];
  #top: Frame = frame(BODY, 0, 0, 0);
  #calls = 0;
  #fresh = false;
  #open = -1;

  constructor(shape: ModuleShape, limits: ModuleLimits) {
    this.shape = shape;
    this.limits = limits;
    this.#tags = new Int32Array(limits.operands + 1);
  }

  protected begin(at: number, results: number, locals: number, wide: boolean): void {
    this.events.count = 0;
    this.locals = locals;
    this.wide = wide;
    this.usesLocal = false;
    this.guestCalls = 0;
    this.nans = 0;
    this.turns = 0;
    this.deepest = 0;
    this.live = true;
    if (this.#tagged > 0) this.settle();
    this.#height = 0;
    this.#calls = 0;
    this.#top = frame(BODY, 0, 0, results);
    this.#frames = [this.#top];
    this.#open = this.events.add(at, EVENT.enter | EVENT.global, GAS.enter);
    this.#fresh = true;
  }

  /** Adds to the block's gas; the block's charge stands before its first instruction that costs anything. */
  protected charge(at: number, cost: number): void {
    if (!this.live) return;
    if (this.#open < 0) {
      if (this.#fresh) this.usesLocal = true;
      this.#open = this.events.add(at, this.#fresh ? EVENT.charge : EVENT.charge | EVENT.global, 0);
      this.#fresh = true;
    }
    this.events.raise(this.#open, cost);
  }

  protected pop(count: number, reads: number): void {
    const floor = this.#top.base;
    if (this.#height - count < floor) {
      if (this.live) refuse("invalid");
      this.#height = floor;
      return;
    }
    if (this.#tagged > 0) {
      for (let slot = this.#height - count; slot < this.#height; slot++) {
        const tag = this.#tags[slot] ?? 0;
        if (tag === 0) continue;
        this.#tags[slot] = 0;
        this.#tagged--;
        const nan = this.events.valueOf(tag - 1);
        const blind =
          reads === SHAPE.any ||
          (reads === SHAPE.scalar && nan <= NAN.f64) ||
          (reads === SHAPE.f32x4 && nan === NAN.f32x4) ||
          (reads === SHAPE.f64x2 && nan === NAN.f64x2);
        if (!blind) this.#canonical(tag - 1, nan);
      }
    }
    this.#height -= count;
  }

  #canonical(event: number, nan: number): void {
    this.events.flag(event, EVENT.on);
    this.nans |= 1 << nan;
  }

  protected give(count: number): void {
    this.#height += count;
    if (this.#height > this.deepest) {
      if (this.#height > this.limits.operands) refuse("limit-operands");
      this.deepest = this.#height;
    }
  }

  /** The value just given may be a NaN of the machine's choice; whether that matters, its reader will say. */
  protected mark(at: number, nan: number): void {
    if (!this.live) return;
    this.#tags[this.#height - 1] = this.events.add(at, EVENT.nan, nan) + 1;
    this.#tagged++;
  }

  /** Where control flow meets or parts, every marked value is made canonical. */
  protected settle(): void {
    for (let slot = this.#height - 1; this.#tagged > 0 && slot >= 0; slot--) {
      const tag = this.#tags[slot] ?? 0;
      if (tag === 0) continue;
      this.#tags[slot] = 0;
      this.#tagged--;
      this.#canonical(tag - 1, this.events.valueOf(tag - 1));
    }
  }

  protected leave(): void {
    this.settle();
    this.live = false;
    this.#open = -1;
    this.#height = this.#top.base;
  }

  protected part(): void {
    this.#open = -1;
  }

  /** Counted against the limit at once: what is too much must not be read to its end. */
  protected turn(count: number): void {
    this.turns += count;
    if (this.turns * Math.max(1, this.locals) > this.limits.flow) refuse("limit-flow");
  }

  protected branch(label: number): void {
    const target = this.#frames[this.#frames.length - 1 - label];
    if (target === undefined) return refuse("invalid");
    this.turn(1 + (target.kind === LOOP ? target.params : target.results));
    if (!this.live) return;
    this.settle();
    if (target.kind === LOOP) return;
    target.targeted = true;
    target.fresh &&= this.#fresh;
  }

  protected enter(at: number, kind: number, params: number, results: number, after: number): void {
    this.turn(1 + params + results);
    if (kind === IF) {
      this.charge(at, GAS.plain);
      this.pop(1, SHAPE.bits);
    }
    this.settle();
    this.pop(params, SHAPE.bits);
    const next = frame(kind, this.#height, params, results);
    next.live = this.live;
    next.freshAtEntry = this.#fresh;
    next.calls = this.#calls;
    if (kind !== BLOCK) this.#open = -1;
    if (kind === LOOP && this.live) {
      this.events.add(at, EVENT.preload, 0);
      next.event = this.events.add(after, EVENT.loop, GAS.loop);
      this.#open = next.event;
      this.#fresh = true;
    }
    this.#frames.push(next);
    if (this.#frames.length > this.limits.nesting + 1) refuse("limit-nesting");
    this.#top = next;
    this.give(params);
  }

  protected otherwise(): void {
    this.turn(1);
    const top = this.#top;
    if (top.kind !== IF) refuse("invalid");
    this.settle();
    if (this.live) {
      top.targeted = true;
      top.fresh &&= this.#fresh;
    }
    top.kind = ELSE;
    this.live = top.live;
    this.#fresh = top.freshAtEntry;
    this.#open = -1;
    this.#height = top.base;
    this.give(top.params);
  }

  /** True when this was the body's own `end`. */
  protected end(): boolean {
    this.turn(1);
    this.settle();
    const top = this.#top;
    const below = this.#frames[this.#frames.length - 2];
    if (below === undefined) return true;
    if (top.kind === LOOP) this.#closeLoop(top);
    else {
      let fresh = top.targeted ? top.fresh : true;
      if (this.live) fresh &&= this.#fresh;
      let live = this.live || top.targeted;
      if (top.kind === IF && top.live) {
        live = true; // by the way around the missing `else`
        fresh &&= top.freshAtEntry;
      }
      this.live = live;
      this.#fresh = fresh;
      if (top.kind !== BLOCK || top.targeted) this.#open = -1;
    }
    this.#frames.pop();
    this.#top = below;
    this.#height = top.base;
    this.give(top.results);
    return false;
  }

  /** Only at its end is it known whether a loop calls out; if not, the gas stays in the local all the way round. */
  #closeLoop(loop: Frame): void {
    if (loop.event < 0) return;
    if (this.#calls !== loop.calls) return this.events.flag(loop.event, EVENT.global);
    this.usesLocal = true;
    if (!loop.freshAtEntry) this.events.flag(loop.event - STRIDE, EVENT.on);
  }

  /** From here the local no longer holds the gas: something else charged. */
  protected outside(at: number, event: number, value: number): void {
    if (this.live) this.events.add(at, event, value);
    this.#calls++;
    this.#fresh = false;
  }

  protected call(type: number, at: number, guest: boolean): void {
    const signature = this.shape.types[type];
    if (signature === undefined) return refuse("invalid");
    this.pop(signature.params.length, SHAPE.bits);
    this.give(signature.results.length);
    if (signature.wide) this.wide = true;
    if (guest) {
      this.guestCalls++;
      return this.outside(at, EVENT.calling, 0);
    }
    this.#calls++;
    this.#fresh = false;
  }
}
