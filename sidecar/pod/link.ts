// A guardian and the control stream: what is announced is fetched, verified here and taken up; what is asked goes out.

import { ContractError, isId, isObject } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import type { GuardianConfig } from "../config/config.ts";
import { activate } from "../guard/guard.ts";
import type { Running } from "../guard/guard.ts";
import { headIn, openStream } from "../stream/stream.ts";
import type { Stream, StreamOptions } from "../stream/stream.ts";
import type { PodSettings } from "./environment.ts";
import { checkStep, hashOf, versionOf } from "./highwater.ts";
import type { Known } from "./highwater.ts";
import { createKeeper } from "./kept.ts";
import type { Pair } from "./kept.ts";

export interface LinkOptions {
  readonly guardian: Running;
  readonly settings: Pick<
    PodSettings,
    "controlUrl" | "controlCa" | "controlToken" | "podUid" | "bundleId" | "ceilingId" | "journalDir"
  >;
  /** The pair that the guardian has started with: the highest that it knows as committed. */
  readonly first: Pair;
  /** What is told beside policy and decisions. */
  readonly more: () => JsonObject;
  readonly say: (event: string, more: JsonObject) => void;
  readonly log: (line: string) => void;
  /** Where this pod has another way out than its own. */
  readonly way?: Pick<StreamOptions, "resolver" | "dial">;
}
const textOf = (value: JsonValue | undefined): string => (typeof value === "string" ? value : "");
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const inputOf = ({ bundle, ceiling }: Pair): Pick<GuardianConfig, "bundle" | "ceiling"> => ({
  bundle: { manifest: bundle ?? {} },
  ...(ceiling === undefined ? {} : { ceiling: { manifest: ceiling } }),
});
const stepOf = (bundle: JsonObject | undefined): Known["active"] => ({
  version: versionOf(bundle),
  hash: hashOf(bundle),
});

export function linkGuardian(options: LinkOptions): Stream {
  const { guardian, settings, say } = options;
  const keep = createKeeper(settings.journalDir);
  let committed: Pair = options.first;
  let active: Pair = options.first;

  /** A policy that the operator names by its hash: fetched, verified here, kept, and switched to between two calls. */
  const onPolicy = async (data: JsonObject): Promise<void> => {
    const hash = textOf(data["hash"]);
    const ceilingHash = textOf(data["ceiling_hash"]);
    const inForce = hash === hashOf(active.bundle) && ceilingHash === hashOf(active.ceiling);
    const settled = hash === hashOf(committed.bundle) && ceilingHash === hashOf(committed.ceiling);
    if (inForce && (settled || data["committed"] !== true)) return;
    const { bundle, ceiling } = inForce ? active : await fetched(hash, ceilingHash);
    if (bundle === undefined) return;
    checkStep(
      "bundle",
      { committed: stepOf(committed.bundle), active: stepOf(active.bundle) },
      stepOf(bundle),
    );
    if (ceiling !== undefined)
      checkStep(
        "ceiling",
        { committed: stepOf(committed.ceiling), active: stepOf(active.ceiling) },
        stepOf(ceiling),
      );
    if (!inForce && data["activate"] === true) {
      await guardian.swap(inputOf({ bundle, ceiling }));
      active = { bundle, ceiling };
      say("policy", { version: guardian.active.version, hash });
    }
    // Kept after it was found good: a restart goes on with it, and never below it.
    if (data["committed"] === true) {
      if (data["activate"] !== true) activate(inputOf({ bundle, ceiling }), guardian.roots, Date.now());
      keep(bundle, ceiling);
      committed = { bundle, ceiling };
    }
    stream.touch();
  };
  const fetched = async (hash: string, ceilingHash: string): Promise<Pair> => {
    const bundle = await stream.fetchBundle(hash);
    const ceiling = ceilingHash === "" ? undefined : await stream.fetchBundle(ceilingHash);
    if (bundle["bundleId"] !== settings.bundleId || hashOf(bundle) !== hash)
      throw new ContractError("bundle", "is not the one that was announced");
    if (
      (settings.ceilingId === "") !== (ceiling === undefined) ||
      (ceiling !== undefined &&
        (ceiling["bundleId"] !== settings.ceilingId || hashOf(ceiling) !== ceilingHash))
    )
      throw new ContractError("ceiling", "is not the one that this pod's shape names");
    return { bundle, ceiling };
  };
  /** Why answers did not count, by approval and by the key that they name. */
  const refusals = new Map<string, Map<string, string>>();
  /** Everything that people said about one call, from the beginning each time: what was counted before is refused again. */
  const onAnswers = async (data: JsonObject): Promise<void> => {
    const { approval_id: id, assertions, reviews } = data;
    if (typeof id !== "string" || !isId("apr", id)) return;
    const refused = new Map<string, string>();
    const note = (signed: JsonValue, message: string): void => {
      say("answer_refused", { approval: id, message });
      const key = isObject(signed) ? textOf(signed["key_id"]) : "";
      if (refused.size < 32 && guardian.ceremonies.get(id)?.approvedBy.some((k) => k === key) !== true)
        refused.set(key, message);
    };
    const each = async (
      list: JsonValue | undefined,
      take: (signed: JsonValue) => ReturnType<typeof guardian.ceremonies.answer>,
    ): Promise<void> => {
      for (const signed of Array.isArray(list) ? list : [])
        try {
          const told = await take(signed);
          if (!told.ok) note(signed, told.reason);
        } catch (error) {
          // One that is no answer at all must not stand in the way of the others.
          note(signed, messageOf(error));
        }
    };
    await each(assertions, (signed) => guardian.ceremonies.answer(id, signed));
    if (guardian.ceremonies.get(id)?.reviewOpen === true)
      await each(reviews, (signed) => guardian.ceremonies.review(id, signed, guardian.active.policy));
    if (refusals.size > 64) refusals.clear();
    refusals.set(id, refused);
    stream.touch();
  };
  /** Where the registry stands, and whether it has revoked our key: that needs no signature, since it only stops us. */
  const onTrust = async (data: JsonObject): Promise<void> => {
    const revoked = data["revoked"];
    if (isObject(revoked) && revoked["key"] === guardian.signer.keyId) {
      await guardian.revoke(textOf(revoked["reason"]).slice(0, 500));
      stream.touch();
    }
    const head = headIn(data);
    if (head !== undefined) await guardian.keys.noteHead(head);
  };
  /** The latest approvals as they stand: people wait to see what became of their answers. */
  const approvals = (): JsonValue =>
    guardian.ceremonies.all.slice(-32).map((a) => ({
      id: a.id,
      state: a.state,
      counted: a.approvedBy,
      review_open: a.reviewOpen,
      refused: [...(refusals.get(a.id) ?? [])].map(([key_id, message]) => ({ key_id, message })),
    }));
  const onEvent = async (event: string, data: JsonObject): Promise<void> => {
    try {
      if (event === "policy") await onPolicy(data);
      // No report at once: a fleet that is frozen would all speak in one moment.
      else if (event === "freeze") await guardian.freezer.hear(data);
      else if (event === "unfreeze") await guardian.freezer.unfreeze(data["unfreeze"] ?? null);
      else if (event === "approval") await onAnswers(data);
      else if (event === "trust") await onTrust(data);
    } catch (error) {
      // What is refused leaves everything as it was; the operator sees by our report what we run.
      say(`${event}_refused`, { message: messageOf(error) });
    }
  };
  const stream = openStream({
    url: settings.controlUrl,
    caFile: settings.controlCa,
    tokenFile: settings.controlToken,
    podUid: settings.podUid,
    signer: () => guardian.signer,
    onEvent,
    report: () => ({
      policy_hash: guardian.active.policy.hash,
      ceiling_hash: guardian.active.policy.ceilingHash,
      ...options.more(),
      decisions: guardian.telemetry.totals(),
      approvals: approvals(),
    }),
    log: options.log,
    ...options.way,
  });
  return stream;
}
