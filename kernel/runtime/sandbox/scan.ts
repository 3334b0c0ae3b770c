// One pass over a function body: which instruction does what. It trusts nothing: an index beyond the original's own
// spaces is refused here as well as by the engine, because an appended global or local must never be within the
// guest's reach.

import type { Reader } from "./bytes.ts";
import { EVENT } from "./events.ts";
import { Flow } from "./flow.ts";
import { frameUnits, GAS } from "./gas.ts";
import { CORE, FORM, NAN, SHAPE, SIMD } from "./opcodes.ts";
import type { OpTable } from "./opcodes.ts";
import { refuse } from "./refusal.ts";
import { valueType } from "./value.ts";

export class FunctionScan extends Flow {
  units = 0;
  /** Functions that bodies take references of: the result must declare them. */
  readonly referenced = new Set<number>();
  #instructions = 0;

  /** Scans one body; `r` covers exactly its bytes behind the declaration of locals. */
  scan(r: Reader, type: number, locals: number, wide: boolean): void {
    const signature = this.shape.types[type];
    if (signature === undefined) return refuse("invalid");
    this.begin(r.pos, signature.results.length, locals, wide || signature.wide);
    this.#instructions = 0;
    this.#body(r);
    if (r.pos !== r.end) refuse("malformed");
    this.units = frameUnits(locals + this.deepest, this.wide, this.#instructions);
  }

  #body(r: Reader): void {
    for (;;) {
      const at = r.pos;
      const op = r.u8();
      this.#instructions++;
      const form = CORE.form[op] ?? 0;
      if (form === FORM.plain) this.#table(at, r, CORE, op);
      else if (form === FORM.memory) {
        this.#memory(r);
        this.#table(at, r, CORE, op);
      } else if (form === FORM.special) {
        if (this.#special(r, at, op)) return;
      } else this.#refuseOpcode(op);
    }
  }

  /** An instruction described by its table row. */
  #table(at: number, r: Reader, table: OpTable, op: number): void {
    this.charge(at, table.cost[op] ?? 1);
    this.pop(table.pops[op] ?? 0, table.reads[op] ?? 0);
    if (table.pushes[op] === 1) this.give(1);
    const nan = table.nan[op] ?? 0;
    if (nan !== NAN.none) this.mark(r.pos, nan);
  }

  #plain(at: number, pops: number, pushes: number): void {
    this.charge(at, GAS.plain);
    this.pop(pops, SHAPE.bits);
    this.give(pushes);
  }

  #index(index: number, count: number): void {
    if (index >= count) refuse("invalid");
  }

  #memoryIndex(r: Reader): void {
    if (r.u32() !== 0) refuse("multi-memory");
    if (this.shape.memory === undefined) refuse("invalid");
  }

  /** Alignment and offset; an alignment with bit 6 names another memory. */
  #memory(r: Reader): void {
    if (r.u32() > 31) refuse("multi-memory");
    r.u32();
    if (this.shape.memory === undefined) refuse("invalid");
  }

  /** Everything else; true at the body's last `end`. */
  #special(r: Reader, at: number, op: number): boolean {
    const shape = this.shape;
    switch (op) {
      case 0x00: // unreachable
        this.charge(at, GAS.plain);
        this.leave();
        break;
      case 0x01:
        break;
      case 0x02:
      case 0x03:
      case 0x04:
        this.#nested(r, at, op);
        break;
      case 0x05:
        this.otherwise();
        break;
      case 0x0b:
        return this.end();
      case 0x0c:
        this.charge(at, GAS.plain);
        this.branch(r.u32());
        this.leave();
        break;
      case 0x0d:
        this.charge(at, GAS.plain);
        this.pop(1, SHAPE.bits);
        this.branch(r.u32());
        this.part();
        break;
      case 0x0e: {
        this.charge(at, GAS.branchTable);
        this.pop(1, SHAPE.bits);
        const targets = r.u32();
        if (targets > this.limits.brTable) refuse("limit-br-table");
        for (let i = 0; i <= targets; i++) this.branch(r.u32());
        this.leave();
        break;
      }
      case 0x0f:
        this.charge(at, GAS.plain);
        this.turn(1);
        this.settle();
        this.leave();
        break;
      case 0x10: {
        const index = r.u32();
        if (index >= shape.functions.length) refuse("invalid");
        this.charge(at, GAS.call);
        this.call(shape.functions[index] ?? 0, at, index >= shape.imports.length);
        break;
      }
      case 0x11: {
        const type = r.u32();
        if (type >= shape.types.length || r.u32() >= shape.tables.length) refuse("invalid");
        this.charge(at, GAS.callIndirect);
        this.pop(1, SHAPE.bits);
        this.call(type, at, true);
        break;
      }
      case 0x1a:
        this.charge(at, GAS.plain);
        this.pop(1, SHAPE.any);
        break;
      case 0x1c:
        if (r.u32() !== 1) refuse("invalid");
        valueType(r.u8());
        this.#plain(at, 3, 1);
        break;
      case 0x1b:
        this.#plain(at, 3, 1);
        break;
      case 0x20:
        this.#index(r.u32(), this.locals);
        this.#plain(at, 0, 1);
        break;
      case 0x21:
      case 0x22:
        this.#index(r.u32(), this.locals);
        this.#plain(at, 1, op === 0x22 ? 1 : 0);
        break;
      case 0x23:
      case 0x24:
        this.#index(r.u32(), shape.globals);
        this.#plain(at, op === 0x24 ? 1 : 0, op === 0x23 ? 1 : 0);
        break;
      case 0x25:
      case 0x26:
        this.#index(r.u32(), shape.tables.length);
        this.#plain(at, op === 0x26 ? 2 : 1, op === 0x25 ? 1 : 0);
        break;
      case 0x3f:
        this.#memoryIndex(r);
        this.#plain(at, 0, 1);
        break;
      case 0x40:
        this.#memoryIndex(r);
        this.charge(at, GAS.grow);
        this.outside(at, EVENT.grow, r.pos - at);
        this.pop(1, SHAPE.bits);
        this.give(1);
        break;
      case 0x41:
      case 0x42:
        r.skipSigned(op === 0x41 ? 5 : 10);
        this.#plain(at, 0, 1);
        break;
      case 0x43:
      case 0x44:
        r.skip(op === 0x43 ? 4 : 8);
        this.#plain(at, 0, 1);
        break;
      case 0xd0:
        valueType(r.u8());
        this.#plain(at, 0, 1);
        break;
      case 0xd1:
        this.#plain(at, 1, 1);
        break;
      case 0xd2: {
        const index = r.u32();
        this.#index(index, shape.functions.length);
        this.referenced.add(index);
        this.#plain(at, 0, 1);
        break;
      }
      case 0xfc:
        this.#bulk(r, at);
        break;
      case 0xfd:
        this.#simd(r, at);
        break;
      default:
        refuse("opcode");
    }
    return false;
  }

  #nested(r: Reader, at: number, op: number): void {
    const { params, results } = this.#blockType(r);
    this.enter(at, op, params, results, r.pos);
  }

  /** The parameters and results of a block, from its type. */
  #blockType(r: Reader): { params: number; results: number } {
    const byte = r.u8();
    if (byte === 0x40) return { params: 0, results: 0 };
    if (byte >= 0x40 && byte < 0x80) {
      valueType(byte);
      if (byte === 0x7b) this.wide = true;
      return { params: 0, results: 1 };
    }
    r.pos--;
    const type = this.shape.types[r.u32()];
    if (type === undefined || (r.bytes[r.pos - 1] ?? 0) > 0x3f) return refuse("invalid");
    if (type.wide) this.wide = true;
    return { params: type.params.length, results: type.results.length };
  }

  #simd(r: Reader, at: number): void {
    const op = r.u32();
    if (op > 255) refuse(op < 512 ? "relaxed-simd" : "opcode");
    this.wide = true;
    const form = SIMD.form[op] ?? 0;
    if (form === FORM.refused) refuse("opcode");
    if (form === FORM.memory || form === FORM.memoryLane) this.#memory(r);
    if (form === FORM.lane || form === FORM.memoryLane) r.u8();
    if (form === FORM.bytes16) r.skip(16);
    this.#table(at, r, SIMD, op);
  }

  #bulk(r: Reader, at: number): void {
    const op = r.u32();
    const shape = this.shape;
    if (op < 8) {
      this.charge(at, GAS.plain);
      this.pop(1, SHAPE.scalar);
      this.give(1);
      return;
    }
    this.charge(at, op === 16 || op === 9 || op === 13 ? GAS.plain : GAS.bulk);
    let pops = 3;
    let pushes = 0;
    if (op === 8) {
      this.#index(r.u32(), shape.datas);
      this.#memoryIndex(r);
    } else if (op === 9) {
      this.#index(r.u32(), shape.datas);
      pops = 0;
    } else if (op === 10) {
      this.#memoryIndex(r);
      this.#memoryIndex(r);
    } else if (op === 11) this.#memoryIndex(r);
    else if (op === 12) {
      this.#index(r.u32(), shape.elements);
      this.#index(r.u32(), shape.tables.length);
    } else if (op === 13) {
      this.#index(r.u32(), shape.elements);
      pops = 0;
    } else if (op === 14) {
      this.#index(r.u32(), shape.tables.length);
      this.#index(r.u32(), shape.tables.length);
    } else if (op >= 15 && op <= 17) {
      this.#index(r.u32(), shape.tables.length);
      pops = op === 15 ? 2 : op === 16 ? 0 : 3;
      pushes = op === 17 ? 0 : 1;
    } else refuse("opcode");
    if (pops > 0)
      this.outside(at, op === 8 || op === 10 || op === 11 ? EVENT.bulkBytes : EVENT.bulkElements, 0);
    this.pop(pops, SHAPE.bits);
    this.give(pushes);
  }

  #refuseOpcode(op: number): never {
    if (op === 0xfe) refuse("threads");
    if (op === 0xfb || op === 0xd3 || op === 0xd4 || op === 0xd5 || op === 0xd6) refuse("gc");
    if (op === 0x12 || op === 0x13 || op === 0x15) refuse("tail-call");
    if (op === 0x14) refuse("gc");
    if ((op >= 0x06 && op <= 0x0a) || op === 0x18 || op === 0x19 || op === 0x1f) refuse("exceptions");
    return refuse("opcode");
  }
}
