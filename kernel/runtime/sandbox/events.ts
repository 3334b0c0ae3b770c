// The places in a function body where the rewrite adds something, in the order of the bytes.

/** What to add at an offset. Each event is three numbers: offset, kind with flags, value. */
export const EVENT = {
  enter: 1, // value: gas of the first block
  charge: 2, // value: gas of the block that starts here
  loop: 3, // the same, with a check
  preload: 4, // the loop that follows wants the gas in its local
  nan: 5, // value: which NaN to make canonical
  calling: 6, // the function called finds the stack counter where this one is
  grow: 7, // value: bytes of the instruction that is replaced
  bulkBytes: 8,
  bulkElements: 9,
  kind: 15,
  on: 16, // of preload and nan: it is needed after all
  global: 32, // of charges: the local does not hold the gas here
} as const;
export const STRIDE = 3;

export class Events {
  list = new Int32Array(STRIDE * 4096);
  count = 0;

  add(at: number, kind: number, value: number): number {
    const index = this.count * STRIDE;
    if (index + STRIDE > this.list.length) {
      const wider = new Int32Array(this.list.length * 2);
      wider.set(this.list);
      this.list = wider;
    }
    this.list[index] = at;
    this.list[index + 1] = kind;
    this.list[index + 2] = value;
    this.count++;
    return index;
  }

  flag(index: number, flag: number): void {
    this.list[index + 1] = (this.list[index + 1] ?? 0) | flag;
  }

  raise(index: number, by: number): void {
    this.list[index + 2] = (this.list[index + 2] ?? 0) + by;
  }

  valueOf(index: number): number {
    return this.list[index + 2] ?? 0;
  }
}
