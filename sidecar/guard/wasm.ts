// A WASM tool: its canonical arguments on stdin, one JSON value on stdout, gas and pages in the receipt.

import { createHash } from "node:crypto";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import { LIMITS, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, ToolPolicy } from "../../kernel/contracts/contracts.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import type { Sandbox } from "../../kernel/runtime/sandbox/sandbox.ts";

export function wasmRunner(sandbox: () => Sandbox) {
  return async (tool: ToolPolicy, args: JsonObject): Promise<Outcome> => {
    if (tool.module === "")
      return { status: "failed", code: "ERR_COMPUTE_MODULE_REJECTED", detail: "no module is pinned" };
    const stdin = canonicalize(args);
    const { limits } = tool;
    const result = await sandbox().run({
      module: tool.module,
      stdin: new TextEncoder().encode(stdin),
      limits: {
        gas: limits.gas,
        memoryBytes: limits.memoryBytes,
        outputBytes: limits.outputBytes,
        timeMs: limits.timeMs,
      },
      // The same call gives the same answer on every machine, so neither the clock nor chance is the host's.
      seed: createHash("sha256").update(`${tool.module} ${stdin}`).digest("hex"),
      clock: 0,
    });
    const usage = {
      calls: 1,
      gas: result.gas,
      gas_limit: limits.gas,
      gas_schedule: result.gasSchedule,
      peak_pages: result.peakPages,
      cost_microusd: tool.costMicroUsd,
    };
    if (!result.ok) return { status: "failed", code: result.code, detail: result.reason, usage };
    try {
      return { status: "succeeded", output: parseJson(result.stdout, LIMITS.args), usage };
    } catch {
      return {
        status: "failed",
        code: "ERR_CONNECTOR_CONTRACT_DRIFT",
        detail: "stdout is not one JSON value",
        usage,
      };
    }
  };
}
