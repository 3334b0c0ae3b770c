// Whose journal a folder holds: made with it and never written again.

import {
  closed,
  idFrom,
  makeId,
  oneOf,
  stringFrom,
  timestampFrom,
  timestampOf,
} from "../../kernel/contracts/contracts.ts";
import type { SessionId } from "../../kernel/contracts/contracts.ts";
import type { Disk } from "./disk.ts";
import { JournalRefused } from "./failures.ts";
import { HEAD, bytes, canonical, replaceFile } from "./head.ts";

const META = "journal.json";

/** For which pod the journal speaks, and the guardian's own session. */
export interface Meta {
  readonly pod_uid: string;
  readonly session_id: SessionId;
  readonly created_at: string;
}

export function readMeta(disk: Disk): Meta | undefined {
  const found = disk.read(META);
  if (found === undefined) return undefined;
  const o = closed(canonical(found, META), META, ["type", "pod_uid", "session_id", "created_at"]);
  oneOf(o["type"], "type", ["atoll.dev/journal/v1"]);
  return {
    pod_uid: stringFrom(o["pod_uid"], "pod_uid", 253),
    session_id: idFrom("ses", o["session_id"], "session_id"),
    created_at: timestampFrom(o["created_at"], "created_at"),
  };
}

/** What the folder holds, or made anew in an empty one. */
export async function metaOf(
  disk: Disk,
  options: {
    readonly podUid?: string;
    readonly clock: () => number;
    readonly random: (bytes: number) => Uint8Array;
  },
): Promise<Meta> {
  const found = readMeta(disk);
  if (found !== undefined) {
    if (options.podUid !== undefined && options.podUid !== found.pod_uid)
      throw new JournalRefused("CONTEXT_MISMATCH", `the journal belongs to pod \`${found.pod_uid}\``);
    return found;
  }
  if (disk.list().some((name) => name.endsWith(".jsonl") || name === HEAD))
    throw new JournalRefused("CHAIN_BROKEN", `\`${META}\` is missing`);
  const made = {
    pod_uid: options.podUid ?? uuid(options.random(16)),
    session_id: makeId("ses", options.random(16)),
    created_at: timestampOf(options.clock()),
  };
  await replaceFile(disk, META, bytes({ type: "atoll.dev/journal/v1", ...made }));
  return made;
}

function uuid(random: Uint8Array): string {
  const raw = Buffer.from(random);
  raw[6] = ((raw[6] ?? 0) & 0x0f) | 0x40;
  raw[8] = ((raw[8] ?? 0) & 0x3f) | 0x80;
  return raw.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
