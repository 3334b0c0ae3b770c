// Whatever is done to a chain of nodes is found, and named at the node where it was done.

import * as fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, SealedNode } from "../../kernel/contracts/contracts.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { createGraphCheck } from "../../kernel/proofgraph/proofgraph.ts";
import type { Break } from "../../kernel/proofgraph/proofgraph.ts";
import {
  createChains,
  nodeHash,
  nodeText,
  parseNode,
  readNode,
  verifyNode,
  verifySealed,
} from "../../kernel/receipts/receipts.ts";
import { quickKey } from "../quick-key.ts";

/** The same in every run; with ATOLL_RUNS above ten thousand a longer look, at other worlds each time. */
const NUMBER = Number(process.env["ATOLL_RUNS"] ?? 10_000);
const RUNS = NUMBER > 10_000 ? { numRuns: NUMBER } : { numRuns: NUMBER, seed: 26 };

const own = quickKey("own");
const foreign = quickKey("foreign");
const sessions = [1, 2, 3].map((n) => makeId("ses", new Uint8Array(16).fill(n)));
const body = (name: string): JsonObject => ({ type: "atoll.dev/probe/v1", name, target: "t", result: "r" });

/** Which session each node belongs to, and whether it names the node before as its parent. */
const script = fc.array(fc.tuple(fc.nat({ max: 2 }), fc.boolean(), fc.string({ maxLength: 6 })), {
  minLength: 2,
  maxLength: 9,
});
type Script = readonly (readonly [number, boolean, string])[];

function journal(steps: Script, by: Signer = own): SealedNode[] {
  const chains = createChains(by);
  const nodes: SealedNode[] = [];
  for (const [which, linked, name] of steps) {
    const before = nodes.at(-1);
    nodes.push(
      chains.seal({
        kind: "ATTESTATION",
        session_id: sessions[which] ?? makeId("ses", new Uint8Array(16)),
        parents: linked && before !== undefined ? [before.hash] : [],
        issued_at: timestampOf(1_700_000_000_000 + nodes.length),
        body: body(name.toWellFormed()),
      }),
    );
  }
  return nodes;
}
function verify(nodes: readonly SealedNode[]): Break | null {
  const graph = createGraphCheck({
    order: "journal",
    keyOf: (id) => (id === own.keyId ? own : id === foreign.keyId ? foreign : "TRUST_KEY_UNKNOWN"),
  });
  for (const n of nodes) {
    const found = graph.next(n);
    if (found !== null) return found;
  }
  return null;
}

test("what is sealed verifies, and is read back as it was", () => {
  fc.assert(
    fc.property(script, fc.nat(), (steps, pick) => {
      const nodes = journal(steps);
      expect(verify(nodes)).toBeNull();
      const n = nodes[pick % nodes.length] ?? expect.fail("no node");
      const read = readNode(n.text);
      expect([read.hash, nodeText(read.node), nodeHash(parseNode(n.text))]).toEqual([n.hash, n.text, n.hash]);
      expect([verifySealed(n, own), verifyNode(n.node, own), verifyNode(n.node, foreign)]).toEqual([
        true,
        true,
        false,
      ]);
    }),
    RUNS,
  );
});

test("any flipped bit of any field is found at its node", () => {
  fc.assert(
    fc.property(script, fc.nat(), fc.nat(), fc.nat({ max: 7 }), (steps, pick, place, bit) => {
      const nodes = journal(steps);
      const at = pick % nodes.length;
      const line = Buffer.from(nodes[at]?.text ?? "");
      const byte = place % line.length;
      line[byte] = (line[byte] ?? 0) ^ (1 << bit);
      let read: SealedNode;
      try {
        read = readNode(line);
      } catch {
        return; // No node any more: the line itself is named.
      }
      expect(verify(nodes.map((n, i) => (i === at ? read : n)))?.index).toBe(at);
    }),
    RUNS,
  );
});

const MEMBERS = [
  "type",
  "kind",
  "session_id",
  "lamport",
  "prev_hash",
  "parents",
  "issued_at",
  "key_id",
  "body",
  "sig",
];
test("any member with another value, missing, or beside the ten is found at its node", () => {
  fc.assert(
    fc.property(
      script,
      fc.nat(),
      fc.constantFrom(...MEMBERS, "more"),
      fc.jsonValue(),
      (steps, pick, member, value) => {
        const nodes = journal(steps);
        const at = pick % nodes.length;
        const original = JSON.parse(nodes[at]?.text ?? "");
        const [changed, missing] = [{ ...original, [member]: value }, { ...original }];
        delete missing[member];
        if (JSON.stringify(changed[member]) === JSON.stringify(original[member])) return;
        expect(() => parseNode(missing)).toSatisfy((f: () => unknown) => member === "more" || threw(f));
        let read: SealedNode;
        try {
          read = readNode(canonicalize(changed));
        } catch {
          return;
        }
        expect(verify(nodes.map((n, i) => (i === at ? read : n)))?.index).toBe(at);
      },
    ),
    RUNS,
  );
});
function threw(f: () => unknown): boolean {
  try {
    f();
    return false;
  } catch {
    return true;
  }
}

test("a dropped, swapped, doubled or spliced node is found at the first place where it shows", () => {
  fc.assert(
    fc.property(
      script,
      fc.constantFrom("drop", "swap", "double", "splice", "resign"),
      fc.nat(),
      fc.nat(),
      (steps, what, a, b) => {
        const nodes = journal(steps);
        const i = a % nodes.length;
        const j = b % nodes.length;
        const [one, two] = [nodes[Math.min(i, j)], nodes[Math.max(i, j)]];
        if (one === undefined || two === undefined) return;
        const session = nodes[i]?.node.session_id;
        const found = (changed: readonly SealedNode[]) => verify(changed)?.index ?? -1;
        switch (what) {
          case "drop": {
            // What nobody after it refers to is the tail of its chain: only the head and the ledger know of it.
            const refers = nodes.findIndex(
              (n, k) =>
                k > i && (n.node.session_id === session || n.node.parents.includes(nodes[i]?.hash ?? n.hash)),
            );
            expect(found(nodes.filter((_, k) => k !== i))).toBe(refers < 0 ? -1 : refers - 1);
            return;
          }
          case "swap": {
            const changed = nodes.map((n, k) => (k === i ? nodes[j] : k === j ? nodes[i] : n) ?? n);
            // Nodes of two sessions may change places when nothing between them, nor they, refer to one another.
            const [low, high] = [Math.min(i, j), Math.max(i, j)];
            const bound = (x: SealedNode, y: SealedNode) =>
              x.node.session_id === y.node.session_id ||
              x.node.parents.includes(y.hash) ||
              y.node.parents.includes(x.hash);
            const between = nodes.slice(low + 1, high);
            const apart = !bound(one, two) && between.every((n) => !bound(n, one) && !bound(n, two));
            if (i === j || apart) expect(found(changed)).toBe(-1);
            else expect(found(changed)).toBeGreaterThanOrEqual(low);
            return;
          }
          case "double":
            expect(found(nodes.flatMap((n, k) => (k === i ? [n, n] : [n])))).toBe(i + 1);
            return;
          case "splice": {
            // From a journal of the same key that was written otherwise from the first node on.
            const other = journal(steps.map(([s, l, name]) => [s, l, `${name}x`]));
            const put = nodes.map((n, k) => (k === i ? (other[i] ?? n) : n));
            const refers = nodes.findIndex(
              (n, k) =>
                k > i && (n.node.session_id === session || n.node.parents.includes(nodes[i]?.hash ?? n.hash)),
            );
            const first = nodes[i]?.node.lamport === 1 && nodes[i]?.node.parents.length === 0;
            expect(found(put)).toBe(first ? refers : i);
            return;
          }
          case "resign": {
            // A key that is known, but is not the one that the node names.
            const { sig: _sig, ...unsigned } = JSON.parse(nodes[i]?.text ?? "");
            const signed = readNode(canonicalize({ ...unsigned, sig: foreign.sign(canonicalize(unsigned)) }));
            const put = nodes.map((n, k) => (k === i ? signed : n));
            expect(found(put)).toBe(i);
            return;
          }
        }
      },
    ),
    RUNS,
  );
});
