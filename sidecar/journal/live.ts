// The live head: after each sync what the log has come to, written over itself and not synced.

import type { Hash, SealedNode, SessionId } from "../../kernel/contracts/contracts.ts";
import type { Disk, OpenFile } from "./disk.ts";
import { LIVE, liveBytes } from "./head.ts";
import type { SessionHead } from "./head.ts";

interface End {
  readonly record: number;
  readonly tree_size: number;
  readonly root_hash: Hash;
}
export interface LiveHead {
  open(end: End): Promise<void>;
  write(end: End): void;
  /** The sessions that have moved since the last checkpoint. */
  since(sessions: readonly SessionHead[]): void;
  moved(nodes: readonly SealedNode[]): void;
  close(): void;
}

export function createLive(disk: Disk): LiveHead {
  const sessions = new Map<SessionId, SessionHead>();
  let file: OpenFile | undefined;
  let length = 0;
  const write = (end: End): void => {
    const text = liveBytes({ ...end, sessions: [...sessions.values()] });
    // Over all that an earlier one has left.
    const padded = Buffer.alloc(Math.max(text.byteLength, length));
    padded.set(text);
    length = text.byteLength;
    file?.writeNow(padded, 0);
  };
  return {
    async open(end) {
      const there = disk.list().includes(LIVE);
      file = disk.open(LIVE, there ? "existing" : "new");
      if (!there) await disk.syncNames();
      length = Math.max(length, there ? disk.size(LIVE) : 0);
      write(end);
    },
    write,
    since(heads) {
      sessions.clear();
      for (const head of heads) sessions.set(head.session_id, head);
    },
    moved(nodes) {
      for (const { node, hash } of nodes)
        sessions.set(node.session_id, { session_id: node.session_id, lamport: node.lamport, hash });
    },
    close() {
      const open = file;
      file = undefined;
      open?.close();
    },
  };
}
