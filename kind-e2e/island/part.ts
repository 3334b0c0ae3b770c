// The laboratory as a part of the end-to-end story.
import { Failure } from "../failure.ts";
import type { Part } from "../trial/steps.ts";
import { clearIsland, openIsland } from "./island.ts";

let opened: ReturnType<typeof openIsland> | undefined;
const step =
  (name: string, pods?: number): Part["steps"][number][1] =>
  async (scene) => {
    opened ??= openIsland(scene.name);
    const { passed, failed } = await (await opened)([name], pods);
    if (failed > 0 || passed === 0) throw new Failure(`${passed} passed, ${failed} failed; see above`);
  };

export const island: Part = {
  name: "island",
  steps: [
    [
      "every attempt from inside a governed pod fails, its twin works, and it opens when its leg is taken away",
      step("escape"),
    ],
    [
      "a leg taken away stops the calls within 15 s, by the probe's name, and its return lets them go on",
      step("proof"),
    ],
    [
      "Jobs end, probes reach the agent, rollouts and drains lose no call, a killed guardian opens nothing",
      step("life"),
    ],
    ["pods that dial in their first millisecond reach nobody", step("race", 10)],
    ["the laboratory is cleared away", (scene) => clearIsland(scene.name)],
  ],
};
