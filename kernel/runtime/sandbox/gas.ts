// The gas schedule. A change of any number here is a new version: receipts of the old one replay only against it.

export const GAS_SCHEDULE = 1;

export const GAS = {
  plain: 1,
  divide: 8,
  call: 4,
  callIndirect: 8,
  branchTable: 2,
  bulk: 8,
  grow: 64,
  /** Charged for each page of the initial memory and each page grown. */
  page: 1_024,
  /** Entering a function, on top of the caller's `call`. */
  enter: 2,
  /** Turning round at a loop's head. */
  loop: 1,
  host: 64,
  /** Hosts and bulk instructions charge one unit for each eight bytes. */
  bytesShift: 3,
} as const;

/** The logical frame of a function: what the stack counter takes when it is entered.
 * Slots are locals and the deepest operand stack; an optimising compiler may keep any instruction's value alive in a
 * spill slot of 16 bytes at most, hence the share of the body: a real frame is at most 16 times its logical one. */
export const frameUnits = (slots: number, wide: boolean, instructions: number): number =>
  64 + slots * (wide ? 16 : 8) + instructions;

/** A function that calls no other and whose frame is this small at most is not counted: its caller's margin covers it. */
export const LEAF_UNITS = 1_024;
