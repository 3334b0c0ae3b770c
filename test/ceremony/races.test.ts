import fc from "fast-check";
import { expect, test } from "vitest";
import { signAssertion, signOverride } from "../../kernel/escalation/ceremony/ceremony.ts";
import { approvers, codeOf, overrider, world } from "./world.ts";
import { quickKey } from "../quick-key.ts";

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("approve" as const), who: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reject" as const), who: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("override" as const), who: fc.nat(2) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("call" as const), who: fc.constant(0) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("pass" as const), who: fc.constantFrom(1, 20, 60, 400, 900) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("restart" as const), who: fc.nat(9) }) },
);

test("over random races of approve, reject, expire, override and restart no quorum or timelock breaks and nothing runs twice", async () => {
  let ran = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(step, { maxLength: 3 }), { maxLength: 8 }), async (turns) => {
      const w = world();
      await w.call();
      // What an onlooker with the true clock knows of each approval.
      const known = new Map<
        string,
        { since: number; era: number; yes: Set<number>; no: boolean; override: boolean; used: number }
      >();
      let time = 0;
      let epoch = 0;
      const note = () => {
        for (const a of w.ceremonies.all)
          if (!known.has(a.id))
            known.set(a.id, { since: time, era: epoch, yes: new Set(), no: false, override: false, used: 0 });
      };
      note();
      for (const turn of turns) {
        // The steps of one turn begin in the same moment.
        await Promise.all(
          turn.map(async (s) => {
            const open = w.ceremonies.all.find((a) => a.state === "pending" || a.state === "granted");
            const of = open === undefined ? undefined : known.get(open.id);
            if (s.do === "pass") {
              w.pass(s.who * 1000);
              time += s.who;
            } else if (s.do === "restart") {
              if (s.who === 0) epoch++;
              w.restart(s.who === 0);
            } else if (s.do === "call") {
              const before = new Map(w.ceremonies.all.map((a) => [a.id, a]));
              // An approval may also be spent by a call that then did not run: its permit had expired.
              const spent = new Set(w.ceremonies.all.flatMap((a) => (a.state === "used" ? [a.id] : [])));
              const at = time;
              const eras = epoch;
              const result = await w.call();
              note();
              if (codeOf(result) !== "done") return;
              ran++;
              const facts = w.ceremonies.all.filter(
                (a) => a.state === "used" && before.has(a.id) && !spent.has(a.id),
              );
              const used = facts.find((a) => (known.get(a.id)?.used ?? 1) === 0);
              const k = used === undefined ? undefined : known.get(used.id);
              expect(k).toBeDefined();
              if (k === undefined) return;
              k.used++;
              expect(k.no).toBe(false);
              expect(at - k.since).toBeLessThan(900);
              expect(eras).toBe(k.era);
              if (!k.override) {
                expect(k.yes.size).toBeGreaterThanOrEqual(2);
                expect(at - k.since).toBeGreaterThanOrEqual(60);
              }
            } else if (open !== undefined && of !== undefined) {
              const key = approvers[s.who] ?? quickKey("");
              const answer =
                s.do === "override"
                  ? signOverride(open.challenge, "now", w.wall, s.who === 0 ? overrider : key)
                  : signAssertion(
                      open.challenge,
                      { decision: s.do, shownAt: w.wall - 3000, at: w.wall },
                      key,
                    );
              const result = await w.ceremonies.answer(open.id, answer);
              if (!result.ok) return;
              if (s.do === "override") of.override = true;
              else if (s.do === "approve") of.yes.add(s.who);
              else of.no = true;
            }
          }),
        );
        note();
      }
      const intents = w.journal.nodes.filter((n) => n.node.kind === "INTENT");
      // A permit may expire between its INTENT and its dispatch, never the other way round.
      expect(w.dispatched).toBeLessThanOrEqual(intents.length);
      const parents = intents.flatMap((n) => n.node.parents);
      expect(new Set(parents).size).toBe(parents.length);
    }),
    { numRuns: 10_000 },
  );
  expect(ran).toBeGreaterThan(100);
});
