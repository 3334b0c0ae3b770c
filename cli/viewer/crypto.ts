// Stands in the browser where kernel/crypto stands elsewhere: the second implementation, and nothing of the platform's.

import { sha256 as incremental } from "@noble/hashes/sha2.js";
import { hashOfBytes } from "../../kernel/crypto/noble.ts";
import type { Hash } from "../../kernel/contracts/contracts.ts";

export * from "../../kernel/crypto/noble.ts";

export function sha256Chunks(chunks: Iterable<Uint8Array>): Hash {
  const h = incremental.create();
  for (const chunk of chunks) h.update(chunk);
  return hashOfBytes(h.digest());
}
