// The hashes of all nodes of a log, in little memory: 32 bytes each and an index beside them, where a set of strings
// takes seven times as much. A log of a million nodes is read on a small machine.

import { present } from "../contracts/contracts.ts";
import type { Hash } from "../contracts/contracts.ts";
import { bytesOfHash } from "../crypto/crypto.ts";

export interface HashSet {
  add(hash: Hash): void;
  has(hash: Hash): boolean;
}

const WORDS = 8;
const CHUNK = 1024;

export function createHashSet(): HashSet {
  const chunks: Uint32Array[] = [];
  // For each place the number of a hash, counted from 1. A hash stands at its first free place after its first word's.
  let index = new Uint32Array(2 * CHUNK);
  let size = 0;
  const words = new Uint32Array(WORDS);
  const bytes = new Uint8Array(words.buffer);

  const wordsOf = (n: number): Uint32Array =>
    present(chunks[Math.floor(n / CHUNK)]).subarray((n % CHUNK) * WORDS, ((n % CHUNK) + 1) * WORDS);
  /** Where these words are in the index, or the free place where they would be. */
  function place(sought: Uint32Array): number {
    for (let at = present(sought[0]) % index.length; ; at = (at + 1) % index.length) {
      const n = present(index[at]);
      if (n === 0) return at;
      const found = wordsOf(n - 1);
      if (sought.every((word, i) => word === found[i])) return at;
    }
  }
  return {
    add(hash) {
      bytes.set(bytesOfHash(hash));
      const at = place(words);
      if (index[at] !== 0) return;
      if (size % CHUNK === 0) chunks.push(new Uint32Array(CHUNK * WORDS));
      wordsOf(size).set(words);
      index[at] = ++size;
      if (size * 2 <= index.length) return;
      index = new Uint32Array(index.length * 2);
      for (let n = 0; n < size; n++) index[place(wordsOf(n))] = n + 1;
    },
    has(hash) {
      bytes.set(bytesOfHash(hash));
      return index[place(words)] !== 0;
    },
  };
}
