// A journal in a folder of its own, with a clock and a key that belong to the test.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EFFECT_CLASSES, makeId, targetFrom, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { NodeDraft, Receipt, SessionId } from "../../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { EMPTY_USAGE, receiptBody } from "../../kernel/receipts/receipts.ts";
import { openJournal } from "../../sidecar/journal/journal.ts";
import type { JournalOptions, OpenJournal } from "../../sidecar/journal/journal.ts";

export const newPem = (): string =>
  generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" });
export const newSigner = (): Signer => signerFromPem(newPem());
export const newFolder = (): string => mkdtempSync(join(tmpdir(), "atoll-journal-"));
export const session = (n = 0): SessionId => makeId("ses", new Uint8Array(16).fill(n));

export const attestation = (s: SessionId, n: number): NodeDraft => ({
  kind: "ATTESTATION",
  session_id: s,
  parents: [],
  issued_at: timestampOf(1_800_000_000_000 + n),
  body: { type: "atoll.dev/probe/v1", name: `probe ${n}`, target: "lock", result: "held" },
});
export const input = (n: number) => {
  const value = { n, text: "é\u2028".repeat(n % 7) };
  return { hash: hashJson(value), redacted: false, value };
};

export const open = (
  more: Partial<JournalOptions> & Pick<JournalOptions, "dir" | "signer">,
): Promise<OpenJournal> =>
  openJournal({
    podUid: "pod-1",
    clock: () => 1_800_000_000_000,
    random: (n) => randomBytes(n),
    segmentBytes: 64 << 10,
    checkpointMs: 3_600_000,
    ...more,
  });

export const receipt = (n: number, more: Partial<Receipt>): Receipt => ({
  type: "atoll.dev/receipt/v1",
  receipt_id: makeId("rcp", bytes16(n, 1)),
  decision_id: makeId("dec", bytes16(n, 2)),
  effect_id: "",
  call_id: makeId("call", bytes16(n, 3)),
  principal: "serviceAccount:local/guard",
  delegator: "",
  tool: targetFrom(`tool:demo/tool${n % 5}`, "tool"),
  effect_class: EFFECT_CLASSES[n % 5] ?? "E0",
  source: "mcp",
  verdict: "ALLOW",
  reason_code: "",
  rule_id: "r1",
  status: "PERMITTED",
  args_hash: input(n).hash,
  output_hash: "",
  policy_hash: hashJson(POLICY),
  ceiling_hash: "",
  overlay_hash: "",
  gates_hash: hashJson(["freeze"]),
  facts_hash: input(n + 1_000_000).hash,
  expires_at: "",
  usage: EMPTY_USAGE,
  ...more,
});
const bytes16 = (n: number, salt: number): Uint8Array => {
  const b = Buffer.alloc(16, salt);
  b.writeUInt32BE(n, 0);
  return b;
};
export const POLICY = { apiVersion: "atoll.dev/policy/v1", name: "demo", layer: "P1" };

/** `count` decisions over `sessions` sessions: of five, three permitted with their effect, two refused. */
export async function decisions(
  journal: OpenJournal,
  count: number,
  { sessions = 3, from = 0 }: { readonly sessions?: number; readonly from?: number } = {},
): Promise<void> {
  let last: Promise<void> = Promise.resolve();
  const policy = { hash: hashJson(POLICY), redacted: false, value: POLICY };
  for (let n = from; n < from + count; n++) {
    const s = session(n % sessions);
    const issued_at = timestampOf(1_800_000_000_000 + n);
    const inputs = [input(n), input(n + 1_000_000), policy];
    if (n % 5 < 2) {
      const body = receiptBody(receipt(n, { verdict: "DENY", status: "DENIED", reason_code: "DENY_RULE" }));
      last = journal.append(
        [{ kind: "ATTESTATION", session_id: s, parents: [], issued_at, body }],
        inputs,
      ).durable;
    } else {
      const permit = receipt(n, { effect_id: makeId("eff", bytes16(n, 4)), expires_at: issued_at });
      const intent = journal.append(
        [{ kind: "INTENT", session_id: s, parents: [], issued_at, body: receiptBody(permit) }],
        inputs,
      );
      await intent.durable;
      const outcome = receiptBody({
        ...permit,
        receipt_id: makeId("rcp", bytes16(n, 5)),
        status: "SUCCEEDED",
        output_hash: hashJson({ n }),
      });
      const parents = intent.nodes.map((sealed) => sealed.hash);
      last = journal.append(
        [{ kind: "EFFECT", session_id: s, parents, issued_at, body: outcome }],
        [],
      ).durable;
    }
    if (n % 16 === 0) await last;
  }
  await last;
}
