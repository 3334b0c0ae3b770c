// Which encodings of a point are refused before any verifier is asked. Verifiers differ on low-order and on
// non-canonical points, between Node versions as well; without such points a signature has one verdict everywhere.

import { present } from "../contracts/contracts.ts";

// The y-coordinates of the eight points whose order divides 8, little-endian, sign bit cleared.
const LOW_ORDER = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
].map((hex) => Uint8Array.from({ length: 32 }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16)));

/** Whether 32 bytes are a canonical encoding of a point that is not of low order. Says nothing of the curve. */
export function isSoundPoint(bytes: Uint8Array): boolean {
  if (bytes.length !== 32) return false;
  const last = present(bytes[31]) & 0x7f;
  if (last === 0x7f && present(bytes[0]) >= 0xed && bytes.subarray(1, 31).every((b) => b === 0xff))
    return false;
  return !LOW_ORDER.some((low) => low.every((b, i) => b === (i === 31 ? last : bytes[i])));
}
