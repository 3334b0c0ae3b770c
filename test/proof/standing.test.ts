// A whole guardian whose island is proved, opened, and proved again: what its agent is told, what its journal keeps.
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openStanding } from "../../sidecar/pod/standing.ts";
import { scene } from "../surfaces/scene.ts";

const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
};

test("calls stop when a probe is answered, with its name, and go on when it holds again; the journal tells both", async () => {
  const folder = mkdtempSync(join(tmpdir(), "atoll-standing-"));
  const gateSocket = join(folder, "report.sock");
  const standing = await openStanding(
    { lock: "nftables", gateSocket, canary: "none", proofMaxAgeSeconds: 15 },
    () => undefined,
  );
  const s = await scene({
    pod: {
      heartbeatAgeMs: () => "unbound",
      broken: () => standing.broken(),
      opened: () => undefined,
    },
  });
  const report = (failing: readonly string[]): Promise<void> =>
    new Promise((resolve) => {
      const line = {
        type: "atoll.dev/gate-report/v1",
        round: 1,
        probes: 9,
        guardian: true,
        failing,
        duration_ms: 1,
      };
      const socket = connect(gateSocket, () => socket.end(`${JSON.stringify(line)}\n`));
      socket.on("close", () => resolve());
    });
  const call = async (): Promise<{ status: number; body: { verdict?: string; reason_code?: string } }> => {
    const response = await fetch(`${s.base}/mcp/v1/execute`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ tool: "tool:github/list_issues", arguments: { repo: "acme/one" } }),
    });
    return { status: response.status, body: JSON.parse(await response.text()) };
  };
  let reports = 0;
  standing.attach(s.guardian, () => reports++);
  try {
    // Nothing is proved yet, and the start-up test has asked the policy all the same.
    expect(s.guardian.ready()).toEqual({ ok: true, why: "" });
    expect(await call()).toMatchObject({ status: 403, body: { reason_code: "SYSTEM_FROZEN" } });
    await report([]);
    await until(() => standing.state().ok);
    expect(await call()).toMatchObject({ status: 200, body: { verdict: "ALLOW" } });
    await report(["canary TCP 10.96.0.7:7007"]);
    await until(() => !standing.state().ok);
    expect(standing.report()).toEqual({
      lock_proved: false,
      failing: [{ leg: "lock", probe: "canary TCP 10.96.0.7:7007" }],
    });
    expect(await call()).toMatchObject({ status: 403, body: { reason_code: "SYSTEM_FROZEN" } });
    expect(await s.guardian.telemetry.text()).toContain("atoll_lock_ok 0");
    await report([]);
    await until(() => standing.state().ok);
    expect(await call()).toMatchObject({ status: 200, body: { verdict: "ALLOW" } });
    expect(reports).toBeGreaterThanOrEqual(3);
    const probes = [...s.guardian.journal.entries()].flatMap((entry) =>
      entry.kind === "node" && entry.sealed.node.body["type"] === "atoll.dev/probe/v1"
        ? [{ kind: entry.sealed.node.kind, ...entry.sealed.node.body }]
        : [],
    );
    const canary = "canary TCP 10.96.0.7:7007";
    expect(probes).toMatchObject([
      { kind: "ATTESTATION", name: "the island is proved", target: "lock", result: "held" },
      { kind: "ATTESTATION", name: canary, target: "lock", result: "answered" },
      { kind: "ATTESTATION", name: canary, target: "lock", result: "held" },
    ]);
  } finally {
    await standing.close();
    await s.close();
    rmSync(folder, { recursive: true });
  }
});
