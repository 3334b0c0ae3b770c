// The functions that the rewrite appends to a module: charges of bulk instructions, and growing the memory.

import type { Added } from "./body.ts";
import type { Writer } from "./bytes.ts";
import { GAS } from "./gas.ts";
import type { Sizes } from "./module.ts";

/** Value of the exported global `status`, when a trap was not the guest's own. */
export const STATUS = { none: 0, memory: 1, host: 2 } as const;

/** The appended functions, all i32 → i32. */
export function writeAppended(w: Writer, added: Added, memory: Sizes | undefined): void {
  const charge = (weight: () => void): void => {
    w.u8(0x23);
    w.u32(added.gas);
    w.put(0x20, 0, 0xad); // local 0, unsigned
    weight();
    w.put(0x7d, 0x24);
    w.u32(added.gas);
    w.u8(0x23);
    w.u32(added.gas);
    w.put(0x42, 0, 0x53, 0x04, 0x40, 0x00, 0x0b); // negative: unreachable
  };
  const body = (fill: () => void): void => {
    const start = w.open(3);
    w.u8(0);
    fill();
    w.put(0x20, 0, 0x0b);
    w.close(start, 3);
  };
  body(() => charge(() => w.put(0x42, GAS.bytesShift, 0x88)));
  body(() => charge(() => undefined));
  if (memory === undefined) return;
  const trap = (status: number): void => {
    w.put(0x41, status, 0x24);
    w.u32(added.status);
    w.put(0x00, 0x0b);
  };
  body(() => {
    // Beyond the guest's own maximum the answer is -1, as the standard says.
    w.put(0x20, 0, 0x41);
    w.positive(memory.maximum ?? 65_536);
    w.put(0x3f, 0, 0x6b, 0x4b, 0x04, 0x40, 0x41, 0x7f, 0x0f, 0x0b);
    w.put(0x20, 0, 0x23);
    w.u32(added.cap);
    w.put(0x3f, 0, 0x6b, 0x4b, 0x04, 0x40);
    trap(STATUS.memory);
    charge(() => {
      w.u8(0x42);
      w.positive(GAS.page);
      w.u8(0x7e);
    });
    w.put(0x20, 0, 0x40, 0, 0x22, 0, 0x41, 0x7f, 0x46, 0x04, 0x40);
    trap(STATUS.host);
  });
}
