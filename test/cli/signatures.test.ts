// The library that checks for the command line is held to what holds the platform's and the portable one.
import { createPublicKey, verify as platformVerify } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Point, etc, hashes, verify as nobleVerify } from "@noble/ed25519";
import { sha512 } from "@noble/hashes/sha2.js";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Command } from "../../cli/io.ts";
import { replayPack } from "../../cli/replay.ts";
import { PLATFORM, agrees, signatures } from "../../cli/signatures/signatures.ts";
import { judge, verify } from "../../cli/verify.ts";
import { isSignature } from "../../kernel/contracts/contracts.ts";
import { isSoundPoint, signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";
import { newSigner } from "../journal/scene.ts";
import { journalOf, packOf, rootsFile } from "../evidence/packs.ts";
import { cook } from "../evidence/recipes.ts";
import type { Recipe } from "../evidence/recipes.ts";
import { expectVectors } from "../crypto/vectors.ts";

hashes.sha512 = sha512;
const RUNS = Number(process.env["ATOLL_SIGNATURE_RUNS"] ?? 500);
const both = [PLATFORM, signatures()];
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const verdicts = (raw: Uint8Array, message: string, sig: string): boolean[] =>
  both.map(({ of }) => {
    if (!isSignature(sig)) return false;
    try {
      return of(verifierFromRaw(raw)).verify(message, sig);
    } catch {
      return false;
    }
  });
const flipped = (text: string, bit: number): string => {
  const bytes = Buffer.from(text, "hex");
  bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return bytes.toString("hex");
};

test("libsodium is there, keeps the key's name, and makes one verifier of a key", () => {
  const [, ours] = both;
  expect(both.map(({ by }) => by)).toEqual(["platform", "libsodium"]);
  const key = verifierFromRaw(newSigner().publicKey);
  expect(ours?.of(key)).toMatchObject({ keyId: key.keyId, publicKey: key.publicKey });
  expect(ours?.of(key)).toBe(ours?.of(key));
  expect(ours?.of(key)).not.toBe(key);
});

test("the Ed25519 vectors: 151 of 151 by libsodium", () => {
  const { crypto_sign_verify_detached: check } = createRequire(import.meta.url)("sodium-native");
  expectVectors({
    ofText: verdicts,
    // By the library itself, after the same look at the point.
    ofBytes: (raw, bytes, sig) => [
      isSignature(sig) &&
        isSoundPoint(Buffer.from(sig, "hex").subarray(0, 32)) &&
        check(Buffer.from(sig, "hex"), bytes, raw),
    ],
  });
});

describe("platform and libsodium have one verdict", () => {
  test("on any key and text, and on any bit of them that is another", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.string({ unit: "binary" }),
        fc.nat(511),
        fc.nat(255),
        (seed, text, inSig, inKey) => {
          const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
          const signer = signerFromPem(
            `-----BEGIN PRIVATE KEY-----\n${der.toString("base64")}\n-----END PRIVATE KEY-----\n`,
          );
          const sig = signer.sign(text);
          expect(verdicts(signer.publicKey, text, sig)).toEqual([true, true]);
          expect(verdicts(signer.publicKey, text, flipped(sig, inSig))).toEqual([false, false]);
          expect(verdicts(signer.publicKey, `${text} `, sig)).toEqual([false, false]);
          const other = Buffer.from(flipped(hex(signer.publicKey), inKey), "hex");
          expect(verdicts(other, text, sig)).toEqual([false, false]);
        },
      ),
      { numRuns: RUNS },
    );
  });

  test("on each bit of one signature, and on signatures of another length", () => {
    const signer = newSigner();
    const sig = signer.sign("x");
    for (let bit = 0; bit < 512; bit++)
      expect(verdicts(signer.publicKey, "x", flipped(sig, bit))).toEqual([false, false]);
    const key = verifierFromRaw(signer.publicKey);
    // What no type lets through, the library's own assertion would not either.
    for (const other of ["", sig.slice(2), `${sig}00`, `${sig}${sig}`])
      for (const { of } of both) {
        const verifier = of(key);
        expect(
          Reflect.apply((...args: [string, never]) => verifier.verify(...args), undefined, ["x", other]),
        ).toBe(false);
      }
  });

  const order = Point.CURVE().n;
  const P = 2n ** 255n - 19n;
  const encode = (y: bigint, sign = 0): Uint8Array => {
    const bytes = Buffer.from(y.toString(16).padStart(64, "0"), "hex").reverse();
    bytes[31] = (bytes[31] ?? 0) | (sign << 7);
    return bytes;
  };
  const eighth = Point.fromHex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
  const lowOrder = Array.from({ length: 8 }, (_, i) =>
    i === 0 ? Point.ZERO : eighth.multiply(BigInt(i), false),
  );

  test("on keys and nonces with each part of low order, on S and S + order", () => {
    const seen = new Map<string, number>();
    for (let n = 0; n < 512; n++) {
      const a = BigInt(n + 1) * 7919n;
      const r = BigInt(n + 1) * 104729n;
      const inKey = lowOrder[n % 8] ?? Point.ZERO;
      const inNonce = lowOrder[(n >> 3) % 8] ?? Point.ZERO;
      const key = Point.BASE.multiply(a).add(inKey).toBytes();
      const nonce = Point.BASE.multiply(r).add(inNonce).toBytes();
      const message = `message ${n}`;
      const digest = sha512(etc.concatBytes(nonce, key, new TextEncoder().encode(message)));
      const k = BigInt(`0x${hex(Uint8Array.from(digest).reverse())}`) % order;
      const s = (r + k * a) % order;
      const [one, two] = verdicts(key, message, hex(nonce) + hex(encode(s)));
      expect([n, two]).toEqual([n, one]);
      const kind = inNonce === Point.ZERO ? (inKey === Point.ZERO ? "none" : "key") : "nonce";
      seen.set(`${kind} ${one}`, (seen.get(`${kind} ${one}`) ?? 0) + 1);
      for (let more = s + order; more < 2n ** 256n; more += order)
        expect(verdicts(key, message, hex(nonce) + hex(encode(more)))).toEqual([false, false]);
    }
    // Each of them happened: also the mixed ones that the bytes of R let through.
    expect([...seen.keys()].sort()).toEqual(
      expect.arrayContaining(["key false", "key true", "none true", "nonce false"]),
    );
  }, 60_000);

  test("on points of low order, in no canonical form and on no curve, as key and as R", () => {
    const signer = newSigner();
    const sig = signer.sign("x");
    const points = [
      ...lowOrder.flatMap((point) => {
        const { y } = point.toAffine();
        return [y, y + P].filter((n) => n < 2n ** 255n).flatMap((n) => [encode(n), encode(n, 1)]);
      }),
      ...Array.from({ length: 19 }, (_, i) => [encode(P + BigInt(i)), encode(P + BigInt(i), 1)]).flat(),
      // Half of all small y are on no curve.
      ...Array.from({ length: 64 }, (_, i) => encode(BigInt(i + 2))),
    ];
    for (const point of points)
      for (const s of [
        encode(0n),
        encode(1n),
        encode(order - 1n),
        encode(order),
        Buffer.from(sig.slice(64), "hex"),
      ]) {
        expect(verdicts(signer.publicKey, "x", hex(point) + hex(s))).toEqual([false, false]);
        expect(verdicts(point, "x", sig.slice(0, 64) + hex(s))).toEqual([false, false]);
        expect(verdicts(point, "x", hex(point) + hex(s))).toEqual([false, false]);
      }
  });
});

describe("a library is not used that", () => {
  const spki = (raw: Uint8Array) =>
    createPublicKey({
      key: Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]),
      format: "der",
      type: "spki",
    });
  type Check = Parameters<typeof agrees>[0];
  const good: Check = (sig, message, raw) => platformVerify(null, message, spki(raw), sig);
  test("multiplies the cofactor away, takes an S not below the order, any R, any text, or nothing", () => {
    expect(agrees(good)).toBe(true);
    expect(agrees((sig, message, raw) => nobleVerify(sig, message, raw, { zip215: true }))).toBe(false);
    const reduced: Check = (sig, message, raw) => {
      const order = Point.CURVE().n;
      const s = BigInt(`0x${hex(Uint8Array.from(sig.subarray(32)).reverse())}`) % order;
      const less = Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse();
      return good(Buffer.concat([sig.subarray(0, 32), less]), message, raw);
    };
    expect(agrees(reduced)).toBe(false);
    expect(agrees(() => true)).toBe(false);
    expect(agrees(() => false)).toBe(false);
    expect(agrees((sig, _, raw) => good(sig, Buffer.from("atoll"), raw))).toBe(false);
  });
  test("is absent, throws on loading, or has no such function; the platform checks then and says so", () => {
    const missing = (): unknown => {
      throw new Error("Cannot find module");
    };
    for (const load of [
      missing,
      () => undefined,
      () => null,
      () => ({}),
      () => ({ crypto_sign_verify_detached: 1 }),
    ])
      expect(signatures(load)).toBe(PLATFORM);
    expect(signatures(() => ({ crypto_sign_verify_detached: () => true }))).toBe(PLATFORM);
    expect(signatures(() => ({ crypto_sign_verify_detached: good })).by).toBe("libsodium");
  });
});

describe("the command", () => {
  const run = async (command: Command, ...argv: string[]) => {
    let text = "";
    const io = {
      stdin: process.stdin,
      stdout: { write: (more: string) => (text += more) !== "" },
      stderr: process.stderr,
      env: {},
    };
    const code = await command(argv, io);
    return { code, text };
  };

  test("says who checked, and a wrong signature in a pack is found by either at the same place", async () => {
    const scene = await journalOf(20);
    const roots = rootsFile(scene.signer);
    const pack = await packOf(scene);
    expect(await run(verify, pack, "--trust", roots, "--json")).toMatchObject({
      code: 0,
      text: expect.stringContaining('"signatures_by":"libsodium"'),
    });
    expect((await run(verify, scene.dir, "--trust", roots)).text).toContain("checked by libsodium");
    expect((await run(replayPack, pack, "--trust", roots, "--json")).text).toContain('"signatures_by"');
    const wrong = join(scene.dir, "wrong.tar");
    const other = (line: string): string =>
      line.replace(/"sig":"(.)/, (_, c: string) => `"sig":"${c === "0" ? "1" : "0"}`);
    const recipe: Recipe = {
      name: "another signature",
      pack: "whole",
      file: /./,
      reseal: true,
      files(files) {
        const path = [...files.keys()].find((name) => name.startsWith("nodes/")) ?? "";
        const lines = String(files.get(path)).split("\n");
        lines[0] = other(lines[0] ?? "");
        files.set(path, Buffer.from(lines.join("\n")));
      },
    };
    const tools = { exporter: scene.signer, stranger: newSigner() };
    writeFileSync(wrong, cook(recipe, readFileSync(pack), tools));
    const found = both.map((by) => judge(wrong, parseTrustRoots(readFileSync(roots, "utf8")), undefined, by));
    expect(found[0]).toMatchObject({ finding: { code: "SIGNATURE_INVALID", line: 1 } });
    expect(found[1]).toEqual(found[0]);
  });
});
