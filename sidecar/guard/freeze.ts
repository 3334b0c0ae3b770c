// Freeze outside a cluster: anyone who reaches the admin socket may stop the agent, only an approver's key lets it go on.
// Both are TRUST_EVENTs of the guardian's own session, so that a restart knows.

import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import {
  ContractError,
  closed,
  hashFrom,
  keyIdFrom,
  oneOf,
  signatureFrom,
  stringFrom,
  timestampFrom,
  timestampOf,
} from "../../kernel/contracts/contracts.ts";
import type { Facts, Journal, JsonObject, JsonValue, SessionId } from "../../kernel/contracts/contracts.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import type { TrustRoots } from "../../kernel/trust/trust.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";

export interface FreezerOptions {
  readonly journal: Journal;
  readonly session: SessionId;
  readonly signer: Signer;
  readonly roots: TrustRoots;
  readonly state: Facts["freeze"];
  readonly telemetry: Telemetry;
}

export class Freezer {
  readonly #o: FreezerOptions;
  #state: Facts["freeze"];
  onFreeze: () => void = () => {};

  constructor(options: FreezerOptions) {
    this.#o = options;
    this.#state = options.state;
    options.telemetry.gauge("frozen", options.state.state === "frozen" ? 1 : 0);
  }

  get state(): Facts["freeze"] {
    return this.#state;
  }

  async freeze(reason: string, by: string, scope = "all"): Promise<string> {
    if (this.#state.state === "frozen") return this.#state.node;
    const at = timestampOf(Date.now());
    const { nodes, durable } = this.#append({
      type: "atoll.dev/trust-event/v1",
      event: "FREEZE",
      scope: /^(all|gs\/[a-z0-9.-]+|pod\/[A-Za-z0-9-]+)$/.test(scope) ? scope : "all",
      reason: reason.slice(0, 500),
      by: by.slice(0, 200),
      at,
    });
    const [node] = nodes;
    if (node === undefined) throw new Error("the journal took no node");
    // In force at once; a restart that does not find the node on disk was never told of a success.
    this.#state = { state: "frozen", node: node.hash, reason: reason.slice(0, 500) };
    this.#o.telemetry.gauge("frozen", 1);
    this.onFreeze();
    await durable;
    return node.hash;
  }

  /** Lifts the freeze that the signed object names. */
  async unfreeze(value: JsonValue): Promise<void> {
    if (this.#state.state !== "frozen") throw new ContractError("freeze", "nothing is frozen");
    const o = closed(value, "", ["type", "freeze", "reason", "at", "key_id", "sig"]);
    oneOf(o["type"], "type", ["atoll.dev/unfreeze/v1"]);
    const freeze = hashFrom(o["freeze"], "freeze");
    if (freeze !== this.#state.node)
      throw new ContractError("freeze", "names another freeze than the one in force");
    stringFrom(o["reason"], "reason", 500);
    timestampFrom(o["at"], "at");
    const keyId = keyIdFrom(o["key_id"], "key_id");
    const sig = signatureFrom(o["sig"], "sig");
    const key = this.#o.roots.keyFor("approver", keyId);
    if (typeof key === "string") throw new ContractError("key_id", `${key}: ${keyId} is no approver's key`);
    const unsigned: Record<string, JsonValue> = { ...o };
    delete unsigned["sig"];
    if (!key.verify(canonicalize(unsigned), sig))
      throw new ContractError("sig", "SIGNATURE_INVALID: the signature does not verify");
    const { durable } = this.#append({ type: "atoll.dev/trust-event/v1", event: "UNFREEZE", unfreeze: o });
    await durable;
    this.#state = { state: "clear" };
    this.#o.telemetry.gauge("frozen", 0);
  }

  #append(body: JsonObject) {
    return this.#o.journal.append(
      [
        {
          kind: "TRUST_EVENT",
          session_id: this.#o.session,
          parents: [],
          issued_at: timestampOf(Date.now()),
          body,
        },
      ],
      [],
    );
  }
}
