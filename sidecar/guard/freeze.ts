// Freeze: whoever reaches the admin socket or the objects of a cluster may stop the agent, only an approver's key lets it
// go on. Both are TRUST_EVENTs of the guardian's own session, so that a restart knows. Each freeze is lifted by itself;
// the agent stands still while one is in force.

import { ContractError, isObject, isTimestamp, timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Facts, Journal, JsonObject, JsonValue, SessionId } from "../../kernel/contracts/contracts.ts";
import { freezeBody, freezeOrder, freezeOrderFrom, orderHash, parseAct } from "../../kernel/trust/trust.ts";
import type { FreezeInForce, FreezeOrder, Freezes, TrustRoots } from "../../kernel/trust/trust.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";

export interface FreezerOptions {
  readonly journal: Journal;
  readonly session: SessionId;
  readonly roots: TrustRoots;
  /** As the journal tells it. */
  readonly freezes: Freezes;
  readonly telemetry: Telemetry;
}

export class Freezer {
  readonly #o: FreezerOptions;
  onFreeze: () => void = () => {};

  constructor(options: FreezerOptions) {
    this.#o = options;
    this.#gauge();
  }

  get state(): Facts["freeze"] {
    const [first] = this.#o.freezes.inForce;
    return first === undefined
      ? { state: "clear" }
      : { state: "frozen", node: first.node, reason: textOf(first.body["reason"]) };
  }
  get inForce(): readonly FreezeInForce[] {
    return this.#o.freezes.inForce;
  }

  /** Stops the agent by a word of this moment. The same word again, while it is in force, adds nothing. */
  async freeze(reason: string, by: string): Promise<string> {
    const said = freezeOrder("all", reason, by, timestampOf(Date.now()));
    const same = this.inForce.find(
      ({ body }) => body["scope"] === "all" && body["reason"] === said.reason && body["by"] === said.by,
    );
    return same === undefined ? await this.obey(said) : same.node;
  }

  /** Stops the agent by an order that others were given too. One that is in force or was lifted changes nothing. */
  async obey(given: FreezeOrder): Promise<string> {
    const order = freezeOrderFrom(freezeBody(given), "");
    const name = orderHash(order);
    const held = this.#o.freezes.find(name);
    if (held !== undefined) return held.node;
    if (this.#o.freezes.lifted(name)) return "";
    const body = freezeBody(order);
    const { node, durable } = this.#append(body);
    // In force at once; a restart that does not find the node on disk was never told of a success.
    this.#o.freezes.see(body, node);
    this.#gauge();
    this.onFreeze();
    await durable;
    return node;
  }

  /** An order as the control stream tells it; one without a time of its own is of this moment. */
  async hear(data: JsonObject): Promise<string> {
    const { scope, at } = data;
    return await this.obey(
      freezeOrder(
        typeof scope === "string" && SCOPE.test(scope) ? scope : "all",
        textOf(data["reason"]),
        textOf(data["by"]),
        isTimestamp(at) ? at : timestampOf(Date.now()),
      ),
    );
  }

  /** Lifts the freeze that the signed object names, by its node or by its order, and no other. */
  async unfreeze(value: JsonValue): Promise<void> {
    const lifting = parseAct(value, "", "atoll.dev/unfreeze/v1");
    const { act, key_id } = lifting;
    if (act.type !== "atoll.dev/unfreeze/v1") throw new ContractError("type", "is no unfreeze");
    if (this.inForce.length === 0) throw new ContractError("freeze", "nothing is frozen");
    const named = this.#o.freezes.find(act.freeze);
    if (named === undefined) throw new ContractError("freeze", "names another freeze than the one in force");
    const key = this.#o.roots.keyFor("approver", key_id);
    if (typeof key === "string") throw new ContractError("key_id", `${key}: ${key_id} is no approver's key`);
    if (!lifting.signedBy(key))
      throw new ContractError("sig", "SIGNATURE_INVALID: the signature does not verify");
    if (!isObject(value)) throw new ContractError("", "expected an object");
    const body = { type: "atoll.dev/trust-event/v1", event: "UNFREEZE", unfreeze: value };
    const { node, durable } = this.#append(body);
    await durable;
    // Only now: a lifting that is not on disk has not happened.
    this.#o.freezes.see(body, node);
    this.#gauge();
  }

  #gauge(): void {
    this.#o.telemetry.gauge("frozen", this.inForce.length === 0 ? 0 : 1);
  }
  #append(body: JsonObject) {
    const { nodes, durable } = this.#o.journal.append(
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
    const [node] = nodes;
    if (node === undefined) throw new Error("the journal took no node");
    return { node: node.hash, durable };
  }
}

const SCOPE = /^(all|gs\/[a-z0-9.-]{1,253}|pod\/[A-Za-z0-9-]{1,64})$/;
const textOf = (v: JsonValue | undefined): string => (typeof v === "string" ? v : "");
