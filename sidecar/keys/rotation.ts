// From one key to the next. The protocol, and what a restart does after a stop at each point:
//   1 the next key made, durable            goes on with 2
//   2 the registrar has the old key's act   goes on with 2, which the registrar answers as before
//   3 the event of hand-over written        in the log: 4; not in it: the old key signs, and 2 begins again
//   4 the next key's file renamed           done
// There is no moment at which two keys sign: the log is what says which one does, and it is read before anything is signed.

import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, KeyId } from "../../kernel/contracts/contracts.ts";
import type { TrustHead } from "../../kernel/proofgraph/proofgraph.ts";
import { ROTATION, publishKey, signAct } from "../../kernel/trust/trust.ts";
import type { OpenJournal } from "../journal/journal.ts";
import type { OwnKeys } from "./keys.ts";

export interface RotationOptions {
  readonly keys: OwnKeys;
  readonly journal: Pick<OpenJournal, "handOver" | "signer" | "treeSize">;
  /** Resolves with the registry's head when the registrar has made the act durable. Absent where there is none. */
  readonly publish?: ((act: JsonObject) => Promise<TrustHead | undefined>) | undefined;
  readonly nowMs: () => number;
  readonly log: (line: string) => void;
  /** A key that is older, or has signed more nodes, is followed by another; 0 = never for this reason. */
  readonly maxAgeMs: number;
  readonly maxNodes: number;
}
export interface Rotation {
  /** Ends one that a stop interrupted, or does a whole one. */
  rotate(reason: string): Promise<{ readonly old: KeyId; readonly key: KeyId }>;
  /** Looks whether one is due, or was interrupted; what fails is tried again at the next look. */
  look(): Promise<void>;
}

export function createRotation(options: RotationOptions): Rotation {
  const { keys, journal } = options;
  let running: Promise<{ readonly old: KeyId; readonly key: KeyId }> | undefined;

  async function whole(reason: string) {
    if (keys.revoked !== "") throw new Error(`the key was revoked: ${keys.revoked}`);
    const next = await keys.prepare();
    const old = journal.signer;
    const act = signAct(
      { type: ROTATION, old: old.keyId, key: publishKey(next) },
      timestampOf(options.nowMs()),
      old,
    );
    const head = await options.publish?.(act);
    // The first checkpoint of the new key has to name a registry that knows it.
    if (head !== undefined) await keys.noteHead(head, "next");
    await journal.handOver(next, act);
    await keys.settle(next.keyId, options.nowMs(), journal.treeSize);
    options.log(JSON.stringify({ event: "key_rotated", old: old.keyId, key: next.keyId, reason }));
    return { old: old.keyId, key: next.keyId };
  }
  const rotate = (reason: string) =>
    (running ??= whole(reason).finally(() => {
      running = undefined;
    }));
  const due = (): string => {
    if (keys.revoked !== "") return "";
    if (keys.next !== undefined) return "interrupted";
    const { ms, nodes } = keys.since;
    if (options.maxAgeMs > 0 && options.nowMs() - ms > options.maxAgeMs) return "age";
    return options.maxNodes > 0 && journal.treeSize - nodes > options.maxNodes ? "nodes" : "";
  };
  return {
    rotate,
    async look() {
      const reason = due();
      if (reason === "" || running !== undefined) return;
      await rotate(reason).catch((error: unknown) =>
        options.log(
          JSON.stringify({
            level: "error",
            event: "key_rotation",
            message: error instanceof Error ? error.message : String(error),
          }),
        ),
      );
    },
  };
}
