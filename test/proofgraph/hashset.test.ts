import * as fc from "fast-check";
import { expect, test } from "vitest";
import { hashOfBytes, sha256 } from "../../kernel/crypto/crypto.ts";
import { createHashSet } from "../../kernel/proofgraph/hashset.ts";

test("the set of hashes says what a set says, also of hashes that differ in one byte and begin alike", () => {
  // Few values a byte and the same first word: they meet in the index and must be told apart by all of their bytes.
  const near = fc
    .array(fc.constantFrom(0, 1, 255), { minLength: 32, maxLength: 32 })
    .map((bytes) => hashOfBytes(Uint8Array.from(bytes.map((b, i) => (i < 4 ? 255 : i < 28 ? 0 : b)))));
  fc.assert(
    fc.property(fc.array(near, { maxLength: 200 }), fc.array(near), (added, asked) => {
      const [ours, plain] = [createHashSet(), new Set(added)];
      for (const hash of added) ours.add(hash);
      for (const hash of [...added, ...asked]) expect(ours.has(hash)).toBe(plain.has(hash));
    }),
    { numRuns: 200 },
  );
});

test("through its growths every hash added is in it, and no other", () => {
  const set = createHashSet();
  for (let n = 0; n < 20_000; n++) {
    expect(set.has(sha256(`${n}`))).toBe(false);
    set.add(sha256(`${n}`));
    set.add(sha256(`${n >> 1}`));
  }
  for (let n = 0; n < 20_000; n++) if (!set.has(sha256(`${n}`))) expect(n).toBe("in the set");
  for (let n = 20_000; n < 40_000; n++) if (set.has(sha256(`${n}`))) expect(n).toBe("not in the set");
  for (let byte = 0; byte < 32; byte++) {
    const bytes = Buffer.from(sha256("7").slice(7), "hex");
    bytes[byte] = (bytes[byte] ?? 0) ^ 1;
    expect(set.has(hashOfBytes(bytes))).toBe(false);
  }
});
