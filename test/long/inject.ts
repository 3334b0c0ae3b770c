// Ten thousand generated pods: through the injector, and what it makes of them into a real API server with no webhook.
//   node test/long/inject.ts [--runs 10000] [--seed 1]
import { asked, amount } from "../../kind-e2e/asked.ts";
import fc from "fast-check";
import { inject } from "../../operator/inject/inject.ts";
import { startApi } from "../operator/api.ts";
import { applyPatch } from "../operator/apply-patch.ts";
import { tryGenerated } from "../operator/generated.ts";
import { anyPod } from "../operator/pods.ts";
import { NAMESPACE, RICH, pureEntry } from "../operator/pure.ts";
import { enforce, entryFrom, ground, namespace, storeIndex } from "../operator/shapes.ts";

const wish = asked(
  "usage: node test/long/inject.ts [--runs N] [--seed N]\nN generated pods: the injector never crashes, its second pass is empty, and the API server's policy admits what it makes.",
  { runs: amount(10_000, 1), seed: 1 },
);
const runs = wish.runs;
const seed = wish.seed;
const entry = pureEntry();
let injected = 0;
fc.assert(
  fc.property(anyPod, (raw) => {
    const pod = JSON.parse(JSON.stringify(raw)) as never;
    const result = inject(pod, NAMESPACE, { sidecars: [entry] });
    if (result.outcome !== "inject") return true;
    injected++;
    const second = inject(applyPatch(pod, result.patch), NAMESPACE, { sidecars: [entry] });
    return second.outcome === "inject" && second.patch.length === 0;
  }),
  { numRuns: runs, seed },
);
process.stdout.write(`pure: ${runs} pods, ${injected} injected, no crash, every second pass empty\n`);

const api = await startApi();
try {
  await ground(api);
  const stored = await entryFrom(api, "strong", RICH);
  await storeIndex(api, [stored]);
  await enforce(api);
  await namespace(api, "team-a", NAMESPACE.labels);
  const tally = await tryGenerated(api, stored, NAMESPACE.labels, runs, seed);
  process.stdout.write(
    `API server: ${runs} pods, ${tally.taken} taken where nothing is governed, of these ${tally.admitted} injected and admitted, ${tally.refused} refused by the injector, ${tally.wrong.length} injected and refused\n`,
  );
  for (const { message, pod } of tally.wrong.slice(0, 5)) process.stdout.write(`${message}\n${pod}\n`);
  process.exitCode = tally.wrong.length === 0 ? 0 : 1;
} finally {
  await api.stop();
}
