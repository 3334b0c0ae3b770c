// The one tar that a pack may be: ustar, plain files, sorted paths, nothing that differs between two machines.
// The reader knows no tar format: it takes a header only if it is, byte for byte, the one that the writer makes.

import { PackInvalid } from "./finding.ts";

export const BLOCK = 512;

/** Bytes that can be read at any place: a file on disk, or memory. */
export interface Source {
  readonly size: number;
  read(at: number, length: number): Uint8Array;
}
/** One file of a pack. */
export interface PackFile {
  readonly path: string;
  readonly size: number;
  /** Its bytes, all of them or those from a place on. */
  chunks(from?: number): Iterable<Uint8Array>;
}

const PATHS = [
  /^manifest\.(json|sig)$/,
  /^checkpoints\.jsonl$/,
  /^nodes\/ses_[0-9a-f]{32}\.jsonl$/,
  /^proofs\/[0-9a-f]{64}\.json$/,
  /^trust\/(events\.jsonl|snapshot\.json)$/,
  /^(policies|schemas|bundles)\/[0-9a-f]{64}\.json$/,
  /^replay\/(inputs\.jsonl|run\.sh)$/,
];
export const isPackPath = (path: string): boolean => PATHS.some((form) => form.test(path));

export const MAX_FILE = 0o77777777777;

export function tarHeader(path: string, size: number): Uint8Array {
  if (!isPackPath(path)) throw new RangeError(`\`${path}\` has no place in a pack`);
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_FILE)
    throw new RangeError(`\`${path}\` is too large for a pack`);
  const header = new Uint8Array(BLOCK);
  const put = (at: number, text: string): void => {
    for (let i = 0; i < text.length; i++) header[at + i] = text.charCodeAt(i);
  };
  put(0, path);
  put(100, "0000644\0");
  put(108, "0000000\0");
  put(116, "0000000\0");
  put(124, `${size.toString(8).padStart(11, "0")}\0`);
  put(136, "00000000000\0");
  put(148, "        ");
  put(156, "0");
  put(257, "ustar\x0000");
  put(329, "0000000\0");
  put(337, "0000000\0");
  let sum = 0;
  for (const byte of header) sum += byte;
  put(148, `${sum.toString(8).padStart(6, "0")}\0 `);
  return header;
}

/** Zero bytes between the end of a file of `size` and the next header. */
export const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;
export const TAR_END = new Uint8Array(2 * BLOCK);

const CHUNK = 64 << 10;

export function readTar(source: Source): readonly PackFile[] {
  const files: PackFile[] = [];
  let at = 0;
  let last = "";
  const refuse = (reason: string, file = last): PackInvalid =>
    new PackInvalid({
      file: file === "" ? "(tar)" : file,
      line: 0,
      code: "CHAIN_BROKEN",
      reason: `${reason} (byte ${at} of the tar)`,
    });
  for (;;) {
    const header = source.read(at, BLOCK);
    if (header.byteLength < BLOCK) throw refuse("the tar ends without two zero blocks");
    if (isZero(header)) break;
    const path = textOf(header, 0, 100);
    if (!isPackPath(path)) throw refuse(`\`${path.slice(0, 100)}\` has no place in a pack`, path);
    const octal = textOf(header, 124, 12);
    const size = /^[0-7]{11}$/.test(octal) ? Number.parseInt(octal, 8) : -1;
    if (size < 0 || !same(header, tarHeader(path, size)))
      throw refuse(`the header of \`${path}\` is not the one that a pack has`, path);
    if (path <= last) throw refuse(`\`${path}\` is out of order or there twice`, path);
    last = path;
    const begin = at + BLOCK;
    const end = begin + size;
    if (end + padding(size) > source.size) throw refuse(`\`${path}\` is longer than the tar`, path);
    if (!isZero(source.read(end, padding(size)))) throw refuse(`bytes follow the end of \`${path}\``, path);
    files.push({ path, size, chunks: (from = 0) => chunksOf(source, begin + from, end) });
    at = end + padding(size);
  }
  if (!isZero(source.read(at, 2 * BLOCK)) || source.size !== at + 2 * BLOCK)
    throw refuse("a pack ends with two zero blocks and nothing else");
  return files;
}

function* chunksOf(source: Source, begin: number, end: number): Generator<Uint8Array> {
  for (let at = begin; at < end; at += CHUNK) yield source.read(at, Math.min(CHUNK, end - at));
}

function textOf(header: Uint8Array, at: number, length: number): string {
  let text = "";
  for (let i = at; i < at + length && header[i] !== 0; i++) text += String.fromCharCode(header[i] ?? 0);
  return text;
}
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
const same = (a: Uint8Array, b: Uint8Array): boolean =>
  a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i]);
