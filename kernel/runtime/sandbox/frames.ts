// What passes between the guardian and the executor: frames of a fixed header, a JSON object and raw bytes. The
// guardian reads the executor's frames as hostile: a guest that broke out of its engine could write anything.
//
//   u32 length of what follows | u32 call | u8 kind | u32 length of the JSON | JSON | bytes

export const KIND = { run: 1, load: 2, inspect: 3, ready: 16, need: 17, done: 18, inspected: 19 } as const;

export interface Frame {
  readonly call: number;
  readonly kind: number;
  readonly meta: { readonly [key: string]: unknown };
  readonly payload: Uint8Array;
}

const HEADER = 9;
const PREFIX = 4;

export function encodeFrame(call: number, kind: number, meta: object, ...parts: Uint8Array[]): Buffer {
  const json = Buffer.from(JSON.stringify(meta), "utf8");
  const head = Buffer.allocUnsafe(PREFIX + HEADER);
  const length = HEADER + json.length + parts.reduce((sum, part) => sum + part.length, 0);
  head.writeUInt32LE(length, 0);
  head.writeUInt32LE(call, 4);
  head.writeUInt8(kind, 8);
  head.writeUInt32LE(json.length, 9);
  return Buffer.concat([head, json, ...parts], PREFIX + length);
}

/** Cuts a stream of bytes into frames; throws where the bytes are none, or one is longer than `most`. */
export class FrameReader {
  readonly #most: number;
  readonly #onFrame: (frame: Frame) => void;
  #chunks: Buffer[] = [];
  #held = 0;
  #wanted = PREFIX;

  constructor(most: number, onFrame: (frame: Frame) => void) {
    this.#most = most;
    this.#onFrame = onFrame;
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    if (this.#held < this.#wanted) return;
    const all = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks, this.#held);
    let at = 0;
    this.#wanted = PREFIX;
    while (all.length - at >= PREFIX) {
      const length = all.readUInt32LE(at);
      if (length < HEADER || length > this.#most) throw new Error("a frame has an impossible length");
      if (all.length - at < PREFIX + length) {
        this.#wanted = PREFIX + length;
        break;
      }
      this.#onFrame(parseFrame(all.subarray(at + PREFIX, at + PREFIX + length)));
      at += PREFIX + length;
    }
    const rest = all.subarray(at);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#held = rest.length;
  }
}

function parseFrame(frame: Buffer): Frame {
  const jsonLength = frame.readUInt32LE(5);
  if (HEADER + jsonLength > frame.length) throw new Error("a frame is cut off");
  const meta: unknown = JSON.parse(frame.toString("utf8", HEADER, HEADER + jsonLength));
  if (typeof meta !== "object" || meta === null || Array.isArray(meta))
    throw new Error("a frame carries no object");
  return {
    call: frame.readUInt32LE(0),
    kind: frame.readUInt8(4),
    meta: { ...meta },
    payload: frame.subarray(HEADER + jsonLength),
  };
}

export function natural(frame: Frame, key: string): number {
  const value = frame.meta[key];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
    throw new Error(`a frame's ${key} is no count`);
  return value;
}

export function text(frame: Frame, key: string): string {
  const value = frame.meta[key];
  if (typeof value !== "string") throw new Error(`a frame's ${key} is no text`);
  return value;
}
