// The guardian's folder: its lock, its keys, its journal, in this order. The log says which of the keys is in force.

import { randomBytes } from "node:crypto";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { ContractError } from "../../kernel/contracts/contracts.ts";
import type { TrustRoots } from "../../kernel/trust/trust.ts";
import { diskAt, lockFolder, openJournal } from "../journal/journal.ts";
import type { JournalOptions, OpenJournal } from "../journal/journal.ts";
import { openKeys } from "../keys/keys.ts";
import type { OwnKeys } from "../keys/keys.ts";

export async function openFolder(
  folder: string,
  more: Pick<JournalOptions, "podUid" | "landed" | "standing" | "warn">,
  roots: TrustRoots,
): Promise<{ readonly keys: OwnKeys; readonly journal: OpenJournal }> {
  const disk = diskAt(folder);
  const unlock = lockFolder(folder);
  try {
    const keys = await openKeys(disk, (name) => chmodSync(join(folder, name), 0o400), Date.now);
    if (keys.revoked !== "")
      throw new ContractError("folder", `the guardian's key was revoked: ${keys.revoked}`);
    const role = roots.roleOf(keys.signer.keyId);
    if (role !== undefined && role !== "guardian")
      throw new ContractError("trust", `the guardian's own key is listed as ${role}; a key has one role`);
    const journal = await openJournal({
      ...more,
      dir: folder,
      disk,
      lock: () => unlock,
      signer: keys.signer,
      ...(keys.next === undefined ? {} : { nextKey: keys.next }),
      formerKeys: keys.former,
      trustHead: (key) => keys.trustHead(key),
      clock: Date.now,
      random: (n) => randomBytes(n),
    });
    await keys.settle(journal.signer.keyId, Date.now(), journal.treeSize);
    return { keys, journal };
  } catch (error) {
    unlock();
    throw error;
  }
}
