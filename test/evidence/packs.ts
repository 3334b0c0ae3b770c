// A journal with decisions in it, and the pack of it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeJournalPack } from "../../cli/export.ts";
import type { ExportOptions } from "../../cli/export.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import { signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { trustRoots } from "../../kernel/trust/trust.ts";
import type { Role, TrustRoots } from "../../kernel/trust/trust.ts";
import { decisions, newFolder, newPem, open } from "../journal/scene.ts";

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
