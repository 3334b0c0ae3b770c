// The webhook's program.

import { log, runProgram } from "./config/config.ts";
import { loadClient } from "./runtime/runtime.ts";
import { startWebhook } from "./webhook/webhook.ts";

await runProgram(async (config, stop) => {
  const webhook = await startWebhook({
    client: await loadClient(config.pod),
    port: config.port,
    requireSignature: config.requireSignature,
    log,
    addresses: config.addresses,
  });
  log({ event: "serving", port: webhook.port });
  await new Promise((resolve) => stop.addEventListener("abort", resolve, { once: true }));
  await webhook.stop();
});
