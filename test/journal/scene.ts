// A journal in a folder of its own, with a clock and a key that belong to the test.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeId, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { NodeDraft, SessionId } from "../../kernel/contracts/contracts.ts";
import { hashJson, signerFromPem } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { openJournal } from "../../sidecar/journal/journal.ts";
import type { JournalOptions, OpenJournal } from "../../sidecar/journal/journal.ts";

export const newSigner = (): Signer =>
  signerFromPem(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }));
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
