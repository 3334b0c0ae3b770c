// A WASM tool: its canonical arguments on stdin, one JSON value on stdout, gas and pages in the receipt.

import type { JsonObject, ToolPolicy } from "../../kernel/contracts/contracts.ts";
import type { Outcome } from "../../kernel/executor/executor.ts";
import { toolOutput, toolRequest } from "../../kernel/runtime/sandbox/sandbox.ts";
import type { Sandbox } from "../../kernel/runtime/sandbox/sandbox.ts";

export function wasmRunner(sandbox: () => Sandbox) {
  return async (tool: ToolPolicy, args: JsonObject): Promise<Outcome> => {
    if (tool.module === "")
      return { status: "failed", code: "ERR_COMPUTE_MODULE_REJECTED", detail: "no module is pinned" };
    const result = await sandbox().run(toolRequest(tool.module, tool.limits, args));
    const usage = {
      calls: 1,
      gas: result.gas,
      gas_limit: tool.limits.gas,
      gas_schedule: result.gasSchedule,
      peak_pages: result.peakPages,
      cost_microusd: tool.costMicroUsd,
    };
    if (!result.ok) return { status: "failed", code: result.code, detail: result.reason, usage };
    const output = toolOutput(result.stdout);
    if (output !== undefined) return { status: "succeeded", output: output.value, usage };
    const code = "ERR_CONNECTOR_CONTRACT_DRIFT";
    return { status: "failed", code, detail: "stdout is not one JSON value", usage };
  };
}
