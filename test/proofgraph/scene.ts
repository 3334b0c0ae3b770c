// What the tests of chains and trees share: three sessions, the judged facts of a call, a tree of numbered nodes.

import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Hash } from "../../kernel/contracts/contracts.ts";
import { sha256 } from "../../kernel/crypto/crypto.ts";
import { createTree } from "../../kernel/proofgraph/proofgraph.ts";
import { permittedReceipt } from "../../kernel/receipts/receipts.ts";

export const bytes = (n: number): Uint8Array => new Uint8Array(16).fill(n);
export const [A, B, G] = [makeId("ses", bytes(1)), makeId("ses", bytes(2)), makeId("ses", bytes(3))] as const;
export const issued_at = timestampOf(1_700_000_000_000);

export const judged = (n: number) =>
  ({
    receiptId: makeId("rcp", bytes(n)),
    decisionId: makeId("dec", bytes(n)),
    callId: makeId("call", bytes(n)),
    principal: "alice",
    delegator: "",
    tool: "",
    effectClass: "E1",
    source: "mcp",
    ruleId: "r",
    argsHash: "",
    policyHash: "",
    ceilingHash: "",
    overlays: [],
    gatesRan: ["freeze"],
    factsHash: "",
  }) as const;
export const permitted = (n: number) =>
  permittedReceipt(judged(n), { effectId: makeId("eff", bytes(n)), expiresAt: issued_at });

export const node = (i: number): Hash => sha256(`node ${i}`);
export function treeOf(n: number) {
  const tree = createTree();
  for (let i = 0; i < n; i++) tree.append(node(i));
  return tree;
}
