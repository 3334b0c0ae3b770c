// A journal with decisions in it, and the pack of it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeJournalPack } from "../../cli/export.ts";
import type { ExportOptions } from "../../cli/export.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { trustRoots } from "../../kernel/trust/trust.ts";
import type { Role, TrustRoots } from "../../kernel/trust/trust.ts";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { compilePolicy } from "../../kernel/policy/policy.ts";
import { receiptBody } from "../../kernel/receipts/receipts.ts";
import { callOf, sampleDoc } from "../guardian/sample.ts";
import { decisions, input, newFolder, newPem, newSigner, open, receipt, session } from "../journal/scene.ts";

export const rootsOf = (signer: Signer, role: Role = "guardian"): TrustRoots =>
  trustRoots([{ role, keyId: signer.keyId, verifier: verifierFromRaw(signer.publicKey) }]);

export function rootsFile(signer: Signer): string {
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), signer.publicKey]);
  const file = join(newFolder(), "roots.pem");
  writeFileSync(
    file,
    `role: guardian\n-----BEGIN PUBLIC KEY-----\n${der.toString("base64")}\n-----END PUBLIC KEY-----\n`,
  );
  return file;
}

export interface Scene {
  readonly dir: string;
  readonly signer: Signer;
}
export async function journalOf(count: number, sessions = 3): Promise<Scene & { readonly pem: string }> {
  const dir = newFolder();
  const pem = newPem();
  const signer = signerFromPem(pem);
  const journal = await open({ dir, signer });
  await decisions(journal, count, { sessions });
  await journal.close();
  return { dir, signer, pem };
}
export async function packOf(scene: Scene, more: Partial<ExportOptions> = {}): Promise<string> {
  const file = join(newFolder(), "pack.tar");
  await writeJournalPack({ ...scene, file, ...more });
  return file;
}

/** A journal of one conversation: each turn names all the messages so far. Of every third turn something else is redacted. */
export async function conversation(turns: number): Promise<Scene> {
  const dir = newFolder();
  const signer = newSigner();
  const journal = await open({ dir, signer });
  const policy = compilePolicy({ ...sampleDoc, perimeter: { redact: ["secret \\d+"] } });
  const messages: JsonObject[] = [];
  for (let n = 0; n < turns; n++) {
    messages.push({ role: "user", content: `question ${n}` });
    const call = callOf("model:openai/gpt-x", {
      model: "gpt-x",
      messages: [...messages],
      ...(n % 3 === 2 ? { user: `secret ${n}` } : {}),
    });
    const body = receiptBody(
      receipt(n, {
        tool: call.target,
        source: "openai",
        args_hash: call.argsHash,
        verdict: "DENY",
        status: "DENIED",
      }),
    );
    const draft = { kind: "ATTESTATION", session_id: session(n % 2), parents: [], body } as const;
    journal.append(
      [{ ...draft, issued_at: timestampOf(1_800_000_000_000 + n) }],
      [...policy.recording.args(call), input(n + 1_000_000)],
    );
    messages.push({ role: "assistant", content: `answer ${n}` });
  }
  await journal.close();
  return { dir, signer };
}
