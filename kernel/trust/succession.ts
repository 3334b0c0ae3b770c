// Which key speaks in one guardian's log, as the log goes on: one at a time, each named by the one before it in an event
// that both the event's node and the act in it are signed for. A key that has handed over says nothing any more.

import { ContractError, closed, oneOf, present } from "../contracts/contracts.ts";
import type { Code, Hash, JsonObject, KeyId, Node } from "../contracts/contracts.ts";
import type { Verifier } from "../crypto/crypto.ts";
import { parseAct, verifierOf } from "./acts.ts";
import type { PublishedKey } from "./acts.ts";

/** What somebody outside the log knows of a guardian's keys. */
export interface Standing {
  /** The key with which a log may begin, or go on from a checkpoint. */
  first(id: KeyId): Verifier | Code;
  /** Why `next` may not follow `old`; "" when it may. */
  follows(old: KeyId, next: PublishedKey): Code | "";
  /** Of a revoked key: its last checkpoint that is honoured, "" for none. Undefined while it is not revoked. */
  honoured(id: KeyId): Hash | "" | undefined;
}

export interface Unproved {
  readonly node: Node;
  readonly hash: Hash;
}
export interface Succession {
  /** For each node in the order of writing: the key that may have signed it, or the code that says why there is none. */
  keyOf(id: KeyId, node: Node, hash: Hash): Verifier | Code;
  /** The key in force after what was read; undefined before the first node. */
  readonly current: Verifier | undefined;
  /** A key that is or was in force. */
  known(id: KeyId): Verifier | undefined;
  /** After the last node: the first one of a revoked key whose honoured checkpoint never came. */
  unproved(): Unproved | undefined;
}

export const ROTATION = "atoll.dev/key-rotation/v1";

/** The event with which a key hands over, as a node's body. `rotation` is signed by the old key. */
export const handOverBody = (rotation: JsonObject): JsonObject => ({
  type: "atoll.dev/trust-event/v1",
  event: "KEY_ROTATE",
  rotation,
});
export const isHandOver = ({ kind, body }: Pick<Node, "kind" | "body">): boolean =>
  kind === "TRUST_EVENT" && body["event"] === "KEY_ROTATE";

/** The successor that a hand-over names, if it is one and `old` has signed it. */
export function successorIn(body: JsonObject, old: Verifier): PublishedKey | Code {
  try {
    const o = closed(body, "", ["type", "event", "rotation"]);
    oneOf(o["type"], "type", ["atoll.dev/trust-event/v1"]);
    const signed = parseAct(o["rotation"], "rotation", ROTATION);
    if (signed.act.type !== ROTATION || signed.act.old !== old.keyId || signed.key_id !== old.keyId)
      return "TRUST_KEY_UNKNOWN";
    return signed.signedBy(old) ? signed.act.key : "SIGNATURE_INVALID";
  } catch (error) {
    if (error instanceof ContractError) return "CHAIN_BROKEN";
    throw error;
  }
}

export function createSuccession(standing: Standing): Succession {
  const former = new Map<KeyId, Verifier>();
  const waiting = new Map<KeyId, Unproved>();
  const past = new Set<KeyId>();
  let current: Verifier | undefined;
  // Takes effect when the next node is asked for: by then this one was found good.
  let next: Verifier | undefined;

  /** Whether a node of a revoked key may still be under the checkpoint that is honoured. */
  function honours(id: KeyId, node: Node, hash: Hash): boolean {
    const last = standing.honoured(id);
    if (last === undefined) return true;
    if (last === "" || past.has(id)) return false;
    if (hash === last && node.kind === "CHECKPOINT") {
      past.add(id);
      waiting.delete(id);
    } else if (!waiting.has(id)) waiting.set(id, { node, hash });
    return true;
  }
  function settle(): void {
    if (next === undefined) return;
    const before = present(current);
    former.set(before.keyId, before);
    current = next;
    next = undefined;
  }
  function handOver(body: JsonObject, old: Verifier): Code | "" {
    const successor = successorIn(body, old);
    if (typeof successor === "string") return successor;
    if (successor.key_id === old.keyId || former.has(successor.key_id)) return "REPLAY_DETECTED";
    const refused = standing.follows(old.keyId, successor);
    if (refused !== "") return refused;
    next = verifierOf(successor, "key");
    return "";
  }

  return {
    keyOf(id, node, hash) {
      settle();
      if (current === undefined) {
        const begun = standing.first(id);
        if (typeof begun === "string") return begun;
        current = begun;
      }
      if (id !== current.keyId) return former.has(id) ? "TRUST_KEY_REVOKED" : "TRUST_KEY_UNKNOWN";
      if (!honours(id, node, hash)) return "TRUST_KEY_REVOKED";
      const wrong = isHandOver(node) ? handOver(node.body, current) : "";
      return wrong === "" ? current : wrong;
    },
    get current() {
      settle();
      return current;
    },
    known: (id) => (current?.keyId === id ? current : former.get(id)),
    unproved: () => [...waiting.values()][0],
  };
}

/** A guardian whose first key is one of `keys`, and about whom nobody outside its log says anything more. */
export const standingOf = (keys: readonly Verifier[]): Standing => ({
  first: (id) => keys.find((key) => key.keyId === id) ?? "TRUST_KEY_UNKNOWN",
  follows: () => "",
  honoured: () => undefined,
});
