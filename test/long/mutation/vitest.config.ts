import { defineConfig } from "vitest/config";
import { mutants } from "./plugin.ts";

export default defineConfig({
  plugins: [mutants()],
  test: {
    include: ["test/long/mutation/run.ts"],
    testTimeout: 6 * 3_600_000,
    hookTimeout: 600_000,
    env: { ATOLL_RUNS: "150" },
    setupFiles: ["test/long/mutation/globals.ts"],
  },
});
