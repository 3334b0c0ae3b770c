// The egress gateway's program.

import { createServer } from "node:http";
import { certificateSource } from "./certificates/certificates.ts";
import { log, runProgram } from "./config/config.ts";
import { guardians, lookup, startGateway } from "./gateway/gateway.ts";
import { GATEWAY_NAME, GATEWAY_PORT, GATEWAY_SECRET } from "./island/island.ts";
import { SYSTEM_NAMESPACE } from "./kinds/kinds.ts";
import { loadClient } from "./runtime/runtime.ts";

await runProgram(async (config, stop) => {
  const client = await loadClient(config.pod);
  const certificates = certificateSource(client, {
    namespace: SYSTEM_NAMESPACE,
    secret: GATEWAY_SECRET,
    dnsNames: [GATEWAY_NAME],
    addresses: config.addresses,
  });
  const tls = await certificates.refresh();
  const gateway = await startGateway({
    port: GATEWAY_PORT,
    tls,
    guardianOf: guardians(client, Date.now),
    lookup: lookup(),
    log,
  });
  const timer = setInterval(() => {
    certificates.refresh().then(
      (next) => next.changed && gateway.setTls(next),
      (error: unknown) =>
        log({ level: "error", event: "certificates", message: error instanceof Error ? error.message : "" }),
    );
  }, 60_000);
  const health = createServer((request, response) => {
    response.writeHead(request.url === "/livez" || request.url === "/readyz" ? 200 : 404).end();
  });
  health.listen(config.healthPort);
  log({ event: "serving", port: gateway.port });
  await new Promise((resolve) => stop.addEventListener("abort", resolve, { once: true }));
  clearInterval(timer);
  health.close();
  await gateway.stop();
});
