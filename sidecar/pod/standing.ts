// The standing proof in a pod's guardian: what it says stops the calls, goes into the journal, and into the report.

import { hashJson } from "../../kernel/crypto/crypto.ts";
import { timestampOf } from "../../kernel/contracts/contracts.ts";
import type { Hash, JsonObject } from "../../kernel/contracts/contracts.ts";
import type { Running } from "../guard/guard.ts";
import { canaryList, watchIsland } from "../proof/proof.ts";
import type { IslandState, ProbeNote } from "../proof/proof.ts";
import type { PodSettings } from "./environment.ts";

export interface Standing {
  readonly state: () => IslandState;
  /** Why no call may pass, and the node that tells it; undefined while the island is proved. */
  readonly broken: () => { readonly node: Hash; readonly reason: string } | undefined;
  /** From now on notes go into this guardian's journal, and what is under way ends when the island breaks. */
  readonly attach: (guardian: Running, onChange: () => void) => void;
  readonly report: () => JsonObject;
  readonly close: () => Promise<void>;
}

export async function openStanding(
  settings: Pick<PodSettings, "lock" | "gateSocket" | "canary" | "proofMaxAgeSeconds">,
  say: (event: string, more: JsonObject) => void,
): Promise<Standing> {
  let guardian: Running | undefined;
  let changed: () => void = () => {};
  /** Seen before there was a journal. */
  let waiting: ProbeNote[] = [];
  let node: Hash = hashJson({ type: "atoll.dev/probe/v1", name: "", target: "lock", result: "unproved" });

  const write = (notes: readonly ProbeNote[]): void => {
    if (guardian === undefined || notes.length === 0) {
      waiting = [...waiting, ...notes].slice(-100);
      return;
    }
    const { journal } = guardian;
    try {
      const { nodes, durable } = journal.append(
        notes.map((body) => ({
          kind: "ATTESTATION",
          session_id: journal.ownSession,
          parents: [],
          issued_at: timestampOf(Date.now()),
          body: { ...body, name: body.name.slice(0, 200) },
        })),
        [],
      );
      node = nodes.at(-1)?.hash ?? node;
      // A journal that cannot be written denies every call by itself.
      durable.catch(() => undefined);
    } catch {
      waiting = [...waiting, ...notes].slice(-100);
    }
  };
  const island = await watchIsland({
    lock: settings.lock,
    socket: settings.gateSocket,
    canaries: canaryList(settings.canary),
    network: settings.canary !== "none",
    maxAgeMs: settings.proofMaxAgeSeconds * 1000,
    onChange: (state, notes) => {
      say("island", { ok: state.ok, why: state.why });
      write(notes);
      guardian?.telemetry.gauge("lockOk", state.ok ? 1 : 0);
      if (!state.ok) guardian?.governor.abort();
      changed();
    },
  });
  return {
    state: () => island.state(),
    broken: () => {
      const { ok, why } = island.state();
      return ok ? undefined : { node, reason: `the island is not proved: ${why}` };
    },
    attach(to, onChange) {
      guardian = to;
      changed = onChange;
      to.telemetry.gauge("lockOk", island.state().ok ? 1 : 0);
      const held = waiting;
      waiting = [];
      write(held);
    },
    report: () => {
      const { lockProved, networkProved, failing } = island.state();
      return {
        lock_proved: lockProved,
        ...(networkProved === undefined ? {} : { network_proved: networkProved }),
        failing: failing.slice(0, 16).map(({ leg, probe }) => ({ leg, probe })),
      };
    },
    close: () => island.close(),
  };
}
