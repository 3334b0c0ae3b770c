// Reading and writing the binary format: bounded, and nothing but bytes.

import { refuse } from "./refusal.ts";

export class Reader {
  readonly bytes: Uint8Array;
  pos: number;
  readonly end: number;

  constructor(bytes: Uint8Array, pos = 0, end: number = bytes.length) {
    this.bytes = bytes;
    this.pos = pos;
    this.end = end;
  }

  u8(): number {
    if (this.pos >= this.end) refuse("malformed");
    return this.bytes[this.pos++] ?? 0;
  }

  u32(): number {
    let byte = this.u8();
    if (byte < 128) return byte;
    let value = byte & 127;
    for (let shift = 7; shift < 35; shift += 7) {
      byte = this.u8();
      if (shift === 28 && byte > 15) refuse("malformed");
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    return refuse("malformed");
  }

  /** Skips a signed number of at most `most` bytes. */
  skipSigned(most: number): void {
    for (let i = 0; i < most; i++) if (this.u8() < 128) return;
    refuse("malformed");
  }

  skip(length: number): void {
    if (length > this.end - this.pos) refuse("malformed");
    this.pos += length;
  }

  /** A range of its own inside this one; this reader goes on behind it. */
  within(length: number): Reader {
    const from = this.pos;
    this.skip(length);
    return new Reader(this.bytes, from, from + length);
  }

  text(): string {
    const inner = this.within(this.u32());
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(this.bytes.subarray(inner.pos, inner.end));
    } catch {
      return refuse("malformed");
    }
  }
}

export class Writer {
  bytes: Uint8Array;
  pos = 0;

  constructor(capacity: number) {
    this.bytes = new Uint8Array(capacity);
  }

  reserve(more: number): void {
    if (this.pos + more <= this.bytes.length) return;
    const wider = new Uint8Array(Math.max(this.pos + more, this.bytes.length * 2));
    wider.set(this.bytes.subarray(0, this.pos));
    this.bytes = wider;
  }

  u8(byte: number): void {
    if (this.pos >= this.bytes.length) this.reserve(1);
    this.bytes[this.pos++] = byte;
  }

  put(...bytes: readonly number[]): void {
    for (const byte of bytes) this.u8(byte);
  }

  u32(value: number): void {
    let rest = value;
    while (rest > 127) {
      this.u8((rest & 127) | 128);
      rest >>>= 7;
    }
    this.u8(rest);
  }

  /** A non-negative constant in the signed encoding. */
  positive(value: number): void {
    let rest = value;
    while (rest > 63) {
      this.u8((rest & 127) | 128);
      rest = Math.floor(rest / 128);
    }
    this.u8(rest);
  }

  /** Copies a range; short ranges by hand, since a view costs more than its bytes. */
  copy(from: Uint8Array, start: number, end: number): void {
    const length = end - start;
    this.reserve(length);
    if (length > 48) this.bytes.set(from.subarray(start, end), this.pos);
    else for (let i = 0; i < length; i++) this.bytes[this.pos + i] = from[start + i] ?? 0;
    this.pos += length;
  }

  text(value: string): void {
    const encoded = new TextEncoder().encode(value);
    this.u32(encoded.length);
    this.copy(encoded, 0, encoded.length);
  }

  /** Leaves `width` bytes for a length that is written by `close`, as a padded number. */
  open(width: number): number {
    this.reserve(width);
    this.pos += width;
    return this.pos;
  }

  close(start: number, width: number): void {
    let rest = this.pos - start;
    if (rest >= 2 ** (7 * width)) refuse("limit-body");
    for (let i = 0; i < width; i++) {
      this.bytes[start - width + i] = (rest & 127) | (i === width - 1 ? 0 : 128);
      rest >>>= 7;
    }
  }

  /** A whole section from what `fill` writes. */
  section(id: number, fill: () => void): void {
    this.u8(id);
    const start = this.open(5);
    fill();
    this.close(start, 5);
  }

  done(): Uint8Array {
    return this.bytes.subarray(0, this.pos);
  }
}
