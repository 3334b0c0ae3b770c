// `atoll wasm replay`: every WASM call of a pack computed once more. What a receipt says of it (gas, pages, output,
// how it ended) must come out on any machine; only a deadline or a fault of the host belongs to the one it ran on.

import { readFile, readdir } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { isObject } from "../kernel/contracts/contracts.ts";
import type { Hash, JsonObject, Receipt, ToolPolicy } from "../kernel/contracts/contracts.ts";
import { hashJson } from "../kernel/crypto/crypto.ts";
import { inputShelf, packContents, verifyPack } from "../kernel/evidence/evidence.ts";
import type { PackContents } from "../kernel/evidence/evidence.ts";
import { compilePolicy } from "../kernel/policy/policy.ts";
import { parseReceipt } from "../kernel/receipts/receipts.ts";
import {
  artifactStore,
  createSandbox,
  directory,
  GAS_SCHEDULE,
  ociLayout,
  toolOutput,
  toolRequest,
} from "../kernel/runtime/sandbox/sandbox.ts";
import type { Sandbox } from "../kernel/runtime/sandbox/sandbox.ts";
import { parseTrustRoots } from "../kernel/trust/trust.ts";
import type { Io } from "./io.ts";
import { withPack } from "./pack.ts";
import { signatures } from "./signatures/signatures.ts";

interface Recorded {
  readonly receipt: Receipt;
  readonly tool: ToolPolicy;
  readonly args: JsonObject | "redacted" | "missing";
}
export interface Recomputed {
  readonly receipt_id: string;
  readonly tool: string;
  /** `same`, or why it could not be compared, or what differs. */
  readonly result: "same" | "machine" | "redacted" | "differs";
  readonly gas: number;
  readonly output_hash: string;
  readonly differences: readonly {
    readonly member: string;
    readonly recorded: string;
    readonly now: string;
  }[];
}

export interface RecomputeOptions {
  readonly pack: string;
  readonly modules: string;
  readonly trust: string | undefined;
  readonly json: boolean;
}

/** Exit code: 0 when everything that can be compared came out the same, 1 otherwise. */
export async function recompute(options: RecomputeOptions, io: Io): Promise<number> {
  const recorded = withPack(options.pack, (files) => {
    if (options.trust !== undefined)
      verifyPack(files, parseTrustRoots(readFileSync(options.trust, "utf8")), undefined, signatures().of);
    return recordedCalls(packContents(files));
  });
  const files = {
    read: (path: string) => readFile(path).catch(() => undefined),
    list: (folder: string) => readdir(folder).catch(() => []),
  };
  const store = artifactStore(files, directory(options.modules), ociLayout(options.modules));
  const sandbox = createSandbox({ workers: 1, fetch: (hash) => store.fetch(hash) });
  try {
    const found: Recomputed[] = [];
    for (const call of recorded) found.push(await again(call, sandbox, (hash) => store.fetch(hash)));
    const of = (result: Recomputed["result"]): number => found.filter((f) => f.result === result).length;
    const ok = of("differs") === 0;
    if (options.json) {
      const counts = {
        same: of("same"),
        machine: of("machine"),
        redacted: of("redacted"),
        differs: of("differs"),
      };
      io.stdout.write(
        `${JSON.stringify({ reproduced: ok, verified: options.trust !== undefined, ...counts, calls: found })}\n`,
      );
      return ok ? 0 : 1;
    }
    for (const f of found) {
      io.stdout.write(`${f.result.padEnd(8)} ${f.receipt_id} ${f.tool} gas ${f.gas} ${f.output_hash}\n`);
      for (const d of f.differences)
        io.stdout.write(`         ${d.member} is \`${d.recorded}\` and came out as \`${d.now}\`\n`);
    }
    const machine = of("machine") > 0 ? `, ${of("machine")} ended by their machine` : "";
    const redacted = of("redacted") > 0 ? `, ${of("redacted")} redacted` : "";
    const unverified = options.trust === undefined ? "; signatures were not looked at, give `--trust`" : "";
    io.stdout.write(`${of("same")} of ${found.length} came out the same${machine}${redacted}${unverified}\n`);
    return ok ? 0 : 1;
  } finally {
    await sandbox.close();
  }
}

function recordedCalls(pack: PackContents): Recorded[] {
  const tools = new Map<string, ToolPolicy | undefined>();
  const toolOf = (receipt: Receipt): ToolPolicy | undefined => {
    const key = `${receipt.policy_hash} ${receipt.ceiling_hash} ${receipt.tool}`;
    if (tools.has(key)) return tools.get(key);
    const document = receipt.policy_hash === "" ? undefined : pack.document(receipt.policy_hash);
    const ceiling = receipt.ceiling_hash === "" ? undefined : pack.document(receipt.ceiling_hash);
    if (document === undefined || (receipt.ceiling_hash !== "" && ceiling === undefined))
      throw new Error(`${receipt.receipt_id} was judged by a policy that is not in the pack`);
    const tool = compilePolicy(document, ceiling === undefined ? {} : { ceiling }).tools.get(receipt.tool);
    tools.set(key, tool);
    return tool;
  };
  const calls: { receipt: Receipt; tool: ToolPolicy }[] = [];
  for (const line of pack.nodes()) {
    if (line.kind !== "node") continue;
    const { node } = line.sealed;
    if (node.kind !== "EFFECT" || node.body["type"] !== "atoll.dev/receipt/v1") continue;
    const receipt = parseReceipt(node.body);
    if (receipt.source !== "wasm") continue;
    const tool = toolOf(receipt);
    if (tool?.kind !== "wasm") throw new Error(`${receipt.receipt_id} names a tool that its policy has not`);
    calls.push({ receipt, tool });
  }
  const shelf = inputShelf(pack);
  return calls.map((call) => {
    const input = shelf.take(call.receipt.args_hash);
    if (input === undefined) return { ...call, args: "missing" };
    return { ...call, args: input.redacted || !isObject(input.value) ? "redacted" : input.value };
  });
}

/** How a guest ends by the machine it runs on, or how its outcome was lost. */
const OF_THE_MACHINE: ReadonlySet<string> = new Set([
  "ERR_COMPUTE_TIME_EXHAUSTED",
  "ERR_COMPUTE_HOST_FAULT",
  "ERR_OUTCOME_UNKNOWN",
  "ERR_CONNECTOR_TIMEOUT",
  "DECISION_EXPIRED",
  "POLICY_EPOCH_CHANGED",
  "SYSTEM_FROZEN",
]);

async function again(
  { receipt, tool, args }: Recorded,
  sandbox: Sandbox,
  fetch: (hash: Hash) => Promise<Uint8Array | undefined>,
): Promise<Recomputed> {
  const { usage } = receipt;
  const told = {
    receipt_id: receipt.receipt_id,
    tool: receipt.tool,
    gas: usage.gas,
    output_hash: receipt.output_hash,
  };
  if (OF_THE_MACHINE.has(receipt.reason_code)) return { ...told, result: "machine", differences: [] };
  if (args === "redacted") return { ...told, result: "redacted", differences: [] };
  const differences: { member: string; recorded: string; now: string }[] = [];
  const compare = (member: string, recorded: string | number, now: string | number): void => {
    if (recorded !== now) differences.push({ member, recorded: String(recorded), now: String(now) });
  };
  const done = (): Recomputed => ({
    ...told,
    result: differences.length === 0 ? "same" : "differs",
    differences,
  });
  if (args === "missing") compare("args_hash", receipt.args_hash, "not in the pack");
  else if (tool.module === "" || (await fetch(tool.module)) === undefined)
    compare("module", tool.module, "not in the folder");
  else if (usage.gas_schedule !== GAS_SCHEDULE)
    compare("usage.gas_schedule", usage.gas_schedule, GAS_SCHEDULE);
  if (args === "missing" || tool.module === "" || differences.length > 0) return done();

  const result = await sandbox.run(toolRequest(tool.module, tool.limits, args));
  const output = result.ok ? toolOutput(result.stdout) : undefined;
  compare("usage.gas", usage.gas, result.gas);
  compare("usage.gas_limit", usage.gas_limit, tool.limits.gas);
  compare("usage.peak_pages", usage.peak_pages, result.peakPages);
  compare("output_hash", receipt.output_hash, output === undefined ? "" : hashJson(output.value));
  const fault = output === undefined ? null : (tool.output?.validate(output.value) ?? null);
  const drift = result.ok && (output === undefined || fault !== null);
  compare(
    "reason_code",
    receipt.reason_code,
    result.ok ? (drift ? "ERR_CONNECTOR_CONTRACT_DRIFT" : "") : result.code,
  );
  return done();
}
