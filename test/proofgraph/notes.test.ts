// Checkpoints as bodies and as signed notes: what is read, and every way in which it is refused.

import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { checkpointBody, parseCheckpoint, readNote, writeNote } from "../../kernel/proofgraph/proofgraph.ts";

const [root, other] = [hashJson("root"), hashJson("other")];
const good: JsonObject = checkpointBody({
  tree_size: 7,
  root_hash: root,
  prev_checkpoint: other,
  trust_head: { height: 3, hash: other },
});

describe("a checkpoint's body", () => {
  test("is read back as it was written", () => {
    expect(parseCheckpoint(good)).toEqual({
      type: "atoll.dev/checkpoint/v1",
      tree_size: 7,
      root_hash: root,
      prev_checkpoint: other,
      trust_head: { height: 3, hash: other },
    });
    expect(good).toEqual(parseCheckpoint(good));
    const first = { ...good, prev_checkpoint: "genesis", trust_head: { height: 0, hash: "genesis" } };
    expect(parseCheckpoint(first)).toEqual(first);
  });
  test.each<[string, JsonValue, string]>([
    ["type", "atoll.dev/checkpoint/v2", "type: expected one of"],
    ["tree_size", -1, "tree_size: expected an integer"],
    ["root_hash", "genesis", "root_hash: expected `sha256:`"],
    ["prev_checkpoint", "none", "prev_checkpoint: expected `sha256:`"],
    ["trust_head", null, "trust_head: expected an object"],
    ["trust_head", { height: 1, hash: "genesis" }, "trust_head.hash: `genesis` belongs to height 0"],
    ["trust_head", { height: 0, hash: other }, "trust_head.hash: `genesis` belongs to height 0"],
    ["trust_head", { height: 0.5, hash: "genesis" }, "trust_head.height: expected an integer"],
    ["trust_head", { height: 1 }, "trust_head.hash: is missing"],
    ["trust_head", { height: 1, hash: other, more: 1 }, "trust_head.more: is not a known member"],
    ["more", 1, "more: is not a known member"],
  ])("with %s %j is refused", (name, value, reason) => {
    expect(() => parseCheckpoint({ ...good, [name]: value })).toThrow(reason);
  });
});

const newSigner = () =>
  signerFromPem(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
const signer = newSigner();
const verifier = verifierFromRaw(signer.publicKey);
const origin = "atoll.dev/pod-1";
const note = writeNote({ origin, size: 7, root }, signer);
const line = note.trimEnd().split("\n").at(-1) ?? "";
const signed = (text: string, name = origin): string => {
  // The same key over another text: what the note's own writer would never say.
  const written = writeNote({ origin: name, size: 1, root }, signer);
  const own = written.split("\n\n")[1] ?? "";
  const id = Buffer.from(own.trim().split(" ")[2] ?? "", "base64").subarray(0, 4);
  const sig = Buffer.from(signer.sign(text), "hex");
  return `${text}\n— ${name} ${Buffer.concat([id, sig]).toString("base64")}\n`;
};
const base64 = Buffer.from(root.slice(7), "hex").toString("base64");

describe("a note", () => {
  test("is read back as it was written, with lines of others beside its own", () => {
    const body = { origin, size: 7, root };
    expect(note).toBe(`${origin}\n7\n${base64}\n\n${line}\n`);
    expect(readNote(note, origin, verifier)).toEqual(body);
    const stranger = writeNote(body, newSigner()).trimEnd().split("\n").at(-1) ?? "";
    const witness =
      writeNote({ ...body, origin: "witness" }, signer)
        .trimEnd()
        .split("\n")
        .at(-1) ?? "";
    expect(
      readNote(`${origin}\n7\n${base64}\n\n${stranger}\n${line}\n${witness}\n`, origin, verifier),
    ).toEqual(body);
    expect(() => readNote(`${origin}\n7\n${base64}\n\n${stranger}\n${witness}\n`, origin, verifier)).toThrow(
      "note: is not signed by the key",
    );
    const more = `${origin}\n0\n${base64}\nan extension\n`;
    expect(readNote(signed(more), origin, verifier)).toEqual({ ...body, size: 0 });
  });
  test.each<[string, string, string]>([
    ["another text", note.replace("\n7\n", "\n8\n"), "signature: does not verify"],
    [
      "a second line of the key",
      `${note}${line}\n`,
      "note: the key's signature line is malformed or doubled",
    ],
    ["a line that is no signature", `${note}x\n`, "note: a signature line is malformed"],
    [
      "a shortened signature",
      note.replace(
        line,
        `— ${origin} ${Buffer.from(line.split(" ")[2] ?? "", "base64")
          .subarray(0, 67)
          .toString("base64")}`,
      ),
      "note: the key's signature line is malformed or doubled",
    ],
    ["base64 that is not canonical", note.replace(/=\n$/, "\n"), "signature: is not canonical base64"],
    ["no signatures", `${origin}\n7\n${base64}\n`, "note: has no block of signatures"],
    ["no last line break", note.slice(0, -1), "note: has no block of signatures"],
    ["too much", note + " ".repeat(1_000_000), "note: longer than 1000000 characters"],
    [
      "another origin",
      note.replace(`${origin}\n7`, `${origin}x\n7`),
      "origin: expected `atoll.dev/pod-1`, found `atoll.dev/pod-1x`",
    ],
    ["a size with a zero before it", signed(`${origin}\n07\n${base64}\n`), "size: is not a decimal number"],
    ["a size that is no number", signed(`${origin}\n-1\n${base64}\n`), "size: is not a decimal number"],
    ["a size beyond 2^53", signed(`${origin}\n9999999999999999\n${base64}\n`), "size: expected an integer"],
    ["no size", signed(`${origin}\n`), "size: is not a decimal number"],
    ["no root", signed(`${origin}\n7\n`), "root: is not 32 bytes"],
    [
      "a root of 31 bytes",
      signed(`${origin}\n7\n${Buffer.alloc(31).toString("base64")}\n`),
      "root: is not 32 bytes",
    ],
    ["a root that is no base64", signed(`${origin}\n7\n*\n`), "root: is not canonical base64"],
  ])("with %s is refused", (_what, text, reason) => {
    expect(() => readNote(text, origin, verifier)).toThrow(reason);
  });
  test("is not written under a name that no note can have", () => {
    for (const name of ["", "a b", "a+b", "a\nb", "x".repeat(256)])
      expect(() => writeNote({ origin: name, size: 1, root }, signer)).toThrow("origin: has a space");
    expect(writeNote({ origin: "x".repeat(255), size: 1, root }, signer)).toContain("\n1\n");
  });
});
