// A person at a real cluster: `atoll freeze | unfreeze | approvals | approve | reject | override | review`, with the
// operator and real guardians on the real control stream.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { atoll } from "../../cli/atoll.ts";
import { standInTools } from "../../cli/demo/standins.ts";
import type { StandIn } from "../../cli/demo/standins.ts";
import type { JsonObject } from "../../kernel/contracts/contracts.ts";
import { signerFromPem } from "../../kernel/crypto/crypto.ts";
import { provider } from "../surfaces/provider.ts";
import type { Provider } from "../surfaces/provider.ts";
import { apply, until } from "./api.ts";
import type { Api, Json } from "./api.ts";
import { TOOL_SECRET, livePolicy, startMember } from "./guardians.ts";
import type { Member } from "./guardians.ts";
import { OPERATOR, sidecarSpec } from "./shapes.ts";
import { bundle, startWhole } from "./whole.ts";
import type { Whole } from "./whole.ts";

const KINDS = "/apis/atoll.dev/v1alpha1";
const ISSUE = "tool:github/create_issue";
const RELEASE = "tool:github/create_release";
let whole: Whole;
let api: Api;
let tools: StandIn;
let model: Provider;
let one: Member;
let two: Member;
let folder: string;
let policy: JsonObject;
const pair = () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  return {
    private: privateKey.export({ type: "pkcs8", format: "pem" }),
    public: publicKey.export({ type: "spki", format: "pem" }),
  };
};
const keys: Record<string, string> = {};
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
};

interface Said {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
let kubeconfig = "";
async function person(...argv: string[]): Promise<Said> {
  let [out, err] = ["", ""];
  const io = {
    stdin: [] as never,
    stdout: { write: (text: string | Uint8Array) => void (out += String(text)) },
    stderr: { write: (text: string | Uint8Array) => void (err += String(text)) },
    env: { USER: "alice" },
  };
  const elsewhere = ["--kubeconfig", "--socket", "--trust", "--journal"];
  const at = argv.some((a) => elsewhere.includes(a)) ? [] : ["--kubeconfig", kubeconfig];
  const code = await atoll([...argv, ...at], io);
  return { code, out, err };
}
const call = (m: Member, title = "x"): Promise<string> =>
  m.call(ISSUE, { repo: "acme/web", title }).then((t) => (t.status === 200 ? "" : t.reason));
const release = async (m: Member, tag: string): Promise<{ readonly reason: string; readonly id: string }> => {
  const told = await m.call(RELEASE, { repo: "acme/web", tag });
  return {
    reason: told.status === 200 ? "" : told.reason,
    id: /apr_[0-9a-f]{32}/.exec(JSON.stringify(told.body))?.[0] ?? "",
  };
};
const pathOf = (id: string): string => `${KINDS}/namespaces/team-a/approvalrequests/${id.replace("_", "-")}`;
const waits = async (m: Member, tag: string): Promise<string> => {
  const { reason, id } = await release(m, tag);
  expect(reason).toBe("DENY_APPROVAL_REQUIRED");
  await until("the request is there", async () => (await api.call("GET", pathOf(id))).status === 200);
  return id;
};
const done = (): number => tools.done.get("create_release") ?? 0;
const NS = ["-n", "team-a"];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "atoll-human-"));
  const approver = pair();
  const override = pair();
  keys["approver"] = file("approver.pem", approver.private);
  keys["override"] = file("override.pem", override.private);
  keys["stranger"] = file("stranger.pem", pair().private);
  whole = await startWhole({
    more: `role: approver\n${approver.public}\nrole: override\n${override.public}\n`,
  });
  api = whole.api;
  kubeconfig = api.plane.kubeconfig;
  tools = await standInTools(TOOL_SECRET);
  model = await provider();
  await until("the webhook is ready", async () => Promise.resolve(whole.webhook.ready()));
  policy = livePolicy(tools.url, "v1", [], model.url, signerFromPem(approver.private).keyId);
  await apply(api, bundle({ version: 1, content: policy }));
  await apply(api, {
    apiVersion: "atoll.dev/v1alpha1",
    kind: "GuardianSidecar",
    metadata: { name: "strong" },
    spec: sidecarSpec(),
  });
  await until("the policy is distributed", async () => {
    const map = await api.call("GET", "/api/v1/namespaces/team-a/configmaps/atoll-policy-strong");
    return map.status === 200;
  });
  one = await startMember(whole, "strong", "one");
  two = await startMember(whole, "strong", "two");
});
afterAll(async () => {
  await one.close();
  await two.close();
  await tools.close();
  await model.close();
  await whole.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe("freeze", () => {
  test("of a pod stops that one alone; a stranger's key, and a wrong word, lift nothing; an approver's does", async () => {
    const frozen = await person("freeze", "pod/one", ...NS, "--reason", "odd\u202e calls", "--json");
    expect(frozen).toMatchObject({ code: 0, err: "" });
    expect(JSON.parse(frozen.out)).toMatchObject([
      { target: "pod/one", scope: `pod/${one.uid}`, frozen: true },
    ]);
    expect(await call(one)).toBe("SYSTEM_FROZEN");
    expect(await call(two)).toBe("");
    const lift = (key: string, ...more: string[]): Promise<Said> =>
      person("unfreeze", "pod/one", ...NS, "--key", keys[key] ?? "", ...more);
    const unsaid = await lift("approver", "--yes-to", "pod/two");
    expect(unsaid.code).toBe(1);
    expect(unsaid.err).toContain("nothing was signed");
    expect(unsaid.out).toContain("odd\\u{202e} calls");
    const wrong = await lift("stranger", "--yes-to", "pod/one", "--wait", "1");
    expect(wrong).toMatchObject({ code: 1 });
    expect(wrong.err).toContain("STILL FROZEN");
    expect((await lift("override", "--yes-to", "pod/one", "--wait", "1")).code).toBe(1);
    expect((await person("unfreeze", "pod/one", ...NS)).code).toBe(2);
    expect(await call(one)).toBe("SYSTEM_FROZEN");
    const good = await lift("approver", "--yes-to", "pod/one");
    expect(good).toMatchObject({ code: 0, err: "" });
    await until("it goes on", async () => (await call(one)) === "");
    expect(await lift("approver", "--yes-to", "pod/one")).toMatchObject({
      code: 0,
      out: expect.stringContaining("nothing is frozen"),
    });
  });

  test("of a sidecar stops all, again with the same words, and one signature lifts it for all", async () => {
    for (let round = 0; round < 2; round++) {
      const frozen = await person("freeze", "gs/strong", "--reason", "all of them");
      expect(frozen).toMatchObject({ code: 0, err: "" });
      expect([await call(one), await call(two)]).toEqual(["SYSTEM_FROZEN", "SYSTEM_FROZEN"]);
      await until("the status says so", async () => {
        const { body } = await api.call("GET", `${KINDS}/guardiansidecars/strong`);
        return (body["status"] as Json)["phase"] === "Frozen";
      });
      const lifted = await person(
        "unfreeze",
        "--all",
        "--key",
        keys["approver"] ?? "",
        "--yes-to",
        "gs/strong",
        "--json",
      );
      expect(lifted).toMatchObject({ code: 0 });
      for (const part of ["gs/strong", "all of them", "alice", "every guardian"])
        expect(lifted.err).toContain(part);
      const [told] = JSON.parse(lifted.out) as { orders: string[] }[];
      expect(told?.orders.length).toBe(1);
      await until("all go on", async () =>
        (await Promise.all([call(one), call(two)])).every((r) => r === ""),
      );
    }
    const { body } = await api.call("GET", `${KINDS}/guardiansidecars/strong`);
    expect("freeze" in (body["spec"] as Json)).toBe(false);
  });

  test("by labels, and of several at once", async () => {
    const frozen = await person(
      "freeze",
      "-l",
      "atoll.dev/sidecar=strong",
      ...NS,
      "--reason",
      "two",
      "--json",
    );
    expect(frozen.code).toBe(0);
    expect((JSON.parse(frozen.out) as unknown[]).length).toBe(2);
    expect([await call(one), await call(two)]).toEqual(["SYSTEM_FROZEN", "SYSTEM_FROZEN"]);
    const lifted = await person(
      "unfreeze",
      "pod/one",
      "pod/two",
      ...NS,
      "--key",
      keys["approver"] ?? "",
      "--yes-to",
      "all",
    );
    expect(lifted).toMatchObject({ code: 0, err: "" });
    await until("both go on", async () => (await Promise.all([call(one), call(two)])).every((r) => r === ""));
  });

  test("aborts what is under way", async () => {
    model.script = { body: "{}", silentMs: 30_000 };
    const before = model.abandoned;
    const asked = fetch(`http://127.0.0.1:${two.guardian.api[0]?.port ?? 0}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "openai/stand-in", messages: [{ role: "user", content: "hi" }] }),
    }).then(async (r) => JSON.stringify(await r.json()));
    await until("the model is asked", () => Promise.resolve(model.seen.length > 0));
    expect((await person("freeze", "pod/two", ...NS, "--reason", "stop")).code).toBe(0);
    expect(await asked).toContain("ERR_OUTCOME_UNKNOWN");
    await until("the provider sees it go", () => Promise.resolve(model.abandoned === before + 1));
    const lift = ["unfreeze", "pod/two", ...NS, "--key", keys["approver"] ?? "", "--yes-to", "pod/two"];
    expect((await person(...lift)).code).toBe(0);
    await until("it goes on", async () => (await call(two)) === "");
  });
});

describe("approval", () => {
  test("what waits is listed, shown as it will be signed, and the yes counts once", async () => {
    const id = await waits(one, "c1");
    const list = await person("approvals", ...NS);
    expect(list.out).toContain(id);
    expect((await person("approvals", "-A", "--json")).out).toContain(id);
    expect((await person("approvals", "-n", "default")).out).toBe("nothing waits for a person\n");
    const no = await person("approve", id, ...NS, "--key", keys["approver"] ?? "", "--yes-to", ISSUE);
    expect(no).toMatchObject({ code: 1 });
    expect((await release(one, "c1")).reason).toBe("DENY_APPROVAL_REQUIRED");
    const stranger = await person("approve", id, ...NS, "--key", keys["stranger"] ?? "", "--yes-to", RELEASE);
    expect(stranger).toMatchObject({ code: 1 });
    expect(stranger.err).toContain("may not approve here");
    const before = done();
    const said = await person("approve", id, ...NS, "--key", keys["approver"] ?? "", "--yes-to", RELEASE);
    expect(said).toMatchObject({ code: 0, err: "" });
    for (const part of [
      "acme/web",
      "c1",
      RELEASE,
      "serviceAccount:team-a/default",
      "hard to change back",
      "team-a/one",
    ])
      expect(said.out).toContain(part);
    expect((await release(one, "c2")).reason).toBe("DENY_APPROVAL_REQUIRED");
    expect((await release(one, "c1")).reason).toBe("");
    expect(done()).toBe(before + 1);
    expect((await release(one, "c1")).reason).toBe("DENY_APPROVAL_REQUIRED");
    await until("the status says that it is used", async () => {
      const { body } = await api.call("GET", pathOf(id));
      return (body["status"] as Json)["state"] === "Used";
    });
    const again = await person("approve", id, ...NS, "--key", keys["approver"] ?? "", "--yes-to", RELEASE);
    expect(again).toMatchObject({ code: 1 });
    expect(again.err).toContain("the approval is used");
  });

  test("a no ends it, over the same road", async () => {
    const id = await waits(two, "n1");
    const said = await person(
      "reject",
      id.replace("_", "-"),
      ...NS,
      "--key",
      keys["approver"] ?? "",
      "--yes-to",
      RELEASE,
      "--json",
    );
    expect(said).toMatchObject({ code: 0 });
    expect(JSON.parse(said.out)).toMatchObject({ id, act: "reject", state: "rejected" });
    expect((await release(two, "n1")).reason).toBe("APPROVAL_REJECTED");
    expect(
      (await person("approve", id, ...NS, "--key", keys["approver"] ?? "", "--yes-to", RELEASE)).err,
    ).toContain("the approval is rejected");
  });

  test("an override passes at once and leaves a review open in the status until it is signed", async () => {
    const id = await waits(one, "o1");
    const flags = [...NS, "--yes-to", RELEASE];
    const said = await person("override", id, "--key", keys["override"] ?? "", "--reason", "fire", ...flags);
    expect(said).toMatchObject({ code: 0, err: "" });
    expect((await release(one, "o1")).reason).toBe("");
    await until("the list says so", async () =>
      (await person("approvals", ...NS)).out.includes(`review is open`),
    );
    expect((await person("review", id, "--key", keys["override"] ?? "", ...flags, "--wait", "2")).code).toBe(
      1,
    );
    const seen = await person("review", id, "--key", keys["approver"] ?? "", ...flags);
    expect(seen).toMatchObject({ code: 0, err: "" });
    expect(seen.out).toContain("fire");
    await until("the review is closed", async () => !(await person("approvals", ...NS)).out.includes(id));
  });

  test("a request that was made anew with other words is not answered, and the call does not pass", async () => {
    const id = await waits(two, "h1");
    const { body } = await api.call("GET", pathOf(id));
    const spec = body["spec"] as { challenge: Json & { shown: Json } } & Json;
    const edits: readonly ((s: typeof spec) => void)[] = [
      (s) => void (s["tool"] = ISSUE),
      (s) => void (s["quorum"] = 7),
      (s) => void (s["expiresAt"] = "2999-01-01T00:00:00.000Z"),
      (s) => void (s.challenge["expires_at"] = "2999-01-01T00:00:00.000Z"),
      (s) => void (s.challenge.shown["arguments"] = { repo: "acme/web", tag: "harmless" }),
    ];
    for (const edit of edits) {
      const bent = JSON.parse(JSON.stringify(spec)) as typeof spec;
      edit(bent);
      await api.call("DELETE", pathOf(id));
      const made = await apply(
        api,
        {
          apiVersion: "atoll.dev/v1alpha1",
          kind: "ApprovalRequest",
          metadata: { name: id.replace("_", "-"), namespace: "team-a" },
          spec: bent,
        },
        "evil",
        OPERATOR,
      );
      expect(made.message).toBe("");
      const said = await person("approve", id, ...NS, "--key", keys["approver"] ?? "", "--yes-to", RELEASE);
      expect(said).toMatchObject({ code: 1 });
      expect(said.err).toContain("the request was edited");
      expect((await api.call("GET", pathOf(id))).body["status"] ?? {}).not.toHaveProperty("assertions");
    }
    expect((await release(two, "h1")).reason).toBe("DENY_APPROVAL_REQUIRED");
  });
});

/** A kubeconfig with nothing but the token of a service account of team-a. */
async function kubeconfigOf(account: string): Promise<string> {
  const { body } = await api.call("POST", `/api/v1/namespaces/team-a/serviceaccounts/${account}/token`, {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: {},
  });
  return file(
    `${account}.json`,
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [
        {
          name: "c",
          cluster: {
            server: api.plane.url,
            "certificate-authority-data": Buffer.from(api.plane.caPem).toString("base64"),
          },
        },
      ],
      users: [{ name: "u", user: { token: (body["status"] as { token: string }).token } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u", namespace: "team-a" } }],
      "current-context": "x",
    }),
  );
}

describe("what goes wrong is said, with the exit code", () => {
  test("no such object", async () => {
    for (const argv of [
      ["freeze", "gs/none", "--reason", "r"],
      ["freeze", "pod/none", ...NS, "--reason", "r"],
      ["approve", `apr_${"0".repeat(32)}`, ...NS, "--key", keys["approver"] ?? ""],
    ]) {
      const said = await person(...argv);
      expect(said.code).toBe(1);
      expect(said.err).toMatch(/not found|there is no approval/);
    }
    expect((await person("freeze", "-l", "a=b", ...NS, "--reason", "r")).err).toContain("no governed pod");
  });
  test("no such cluster, context or file", async () => {
    const config = file(
      "gone.json",
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:9" } }],
        users: [{ name: "u", user: {} }],
        contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
        "current-context": "x",
      }),
    );
    const gone = await person("approvals", "--kubeconfig", config);
    expect(gone).toMatchObject({ code: 1 });
    expect(gone.err).toContain("does not answer");
    expect((await person("approvals", "--kubeconfig", config, "--context", "y")).err).toContain(
      "no context `y`",
    );
    expect((await person("approvals", "--kubeconfig", join(folder, "none"))).code).toBe(2);
  });
  test("no right", async () => {
    const config = await kubeconfigOf("default");
    for (const argv of [
      ["approvals"],
      ["freeze", "gs/strong", "--reason", "r"],
      ["unfreeze", "gs/strong", "--key", keys["approver"] ?? ""],
    ]) {
      const said = await person(...argv, "--kubeconfig", config);
      expect(said).toMatchObject({ code: 1 });
      expect(said.err).toContain("you may not do this");
    }
  });
  test("an approver has the rights that the chart gives", async () => {
    await apply(api, {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: "person", namespace: "team-a" },
    });
    await apply(api, {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name: "people", namespace: "team-a" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "atoll-approver" },
      subjects: [{ kind: "ServiceAccount", name: "person", namespace: "team-a" }],
    });
    const config = await kubeconfigOf("person");
    const id = await waits(one, "r1");
    await until(
      "the right is known",
      async () => (await person("approvals", "--kubeconfig", config)).code === 0,
    );
    const said = await person(
      "approve",
      id,
      "--kubeconfig",
      config,
      "--key",
      keys["approver"] ?? "",
      "--yes-to",
      RELEASE,
    );
    expect(said).toMatchObject({ code: 0, err: "" });
  });
  test("wrong use", async () => {
    for (const argv of [
      ["freeze", "gs/strong"],
      ["freeze", "deployment/x", "--reason", "r"],
      ["freeze", "gs/strong", "--all", "--reason", "r"],
      ["freeze", "gs/strong", "--reason", "r", "--socket", "/tmp/none"],
      ["freeze", "gs/strong", "--reason", "r", "--wait", "x"],
      ["freeze", "--reason", "r", ...NS],
      ["unfreeze", "gs/strong"],
      ["approve", "--key", "x"],
      ["approve", "a", "b", "--key", "x"],
      ["approve", "a"],
      ["override", "a", "--key", keys["override"] ?? ""],
      ["approvals", "--nonsense"],
    ])
      expect([argv.join(" "), (await person(...argv)).code]).toEqual([argv.join(" "), 2]);
  });
  test("each command says what it is", async () => {
    for (const name of ["freeze", "unfreeze", "approvals", "approve", "reject", "override", "review"]) {
      const { code, out } = await person(name, "--help");
      expect(code).toBe(0);
      for (const word of ["--kubeconfig", "--socket", "--json", "exit 0"]) expect(out).toContain(word);
    }
  });
});

test("both events are in each guardian's journal, which verifies and replays across them", async () => {
  const events = (m: Member): string[] =>
    [...m.guardian.journal.entries()]
      .flatMap((e) => (e.kind === "node" && e.sealed.node.kind === "TRUST_EVENT" ? [e.sealed.node.body] : []))
      .map((b: JsonObject) => (typeof b["event"] === "string" ? b["event"] : ""))
      .filter((e) => e.endsWith("FREEZE"));
  for (const m of [one, two]) {
    const all = events(m);
    expect(all.filter((e) => e === "FREEZE").length).toBe(all.filter((e) => e === "UNFREEZE").length);
    expect(all.length).toBeGreaterThanOrEqual(8);
    const own = readFileSync(join(m.journalDir, "guardian.pub"), "utf8");
    const trust = file(`${m.name}.trust`, `${whole.roots}\nrole: guardian\n${own}\n`);
    const pack = join(folder, `${m.name}.tar`);
    for (const argv of [
      ["export", "--journal", m.journalDir, "-o", pack],
      ["verify", pack, "--trust", trust],
      ["replay", pack, "--trust", trust],
    ]) {
      const said = await person(...argv);
      expect([argv[0], said.code, said.err]).toEqual([argv[0], 0, ""]);
    }
  }
});

test("a guardian that has lost the stream denies with POLICY_STALE after the bound, and not before", async () => {
  const bound = 3;
  const content = { ...policy, name: "v2", freshness: { maxStaleSeconds: bound } };
  await apply(api, bundle({ version: 2, content }));
  await until("both run version 2", () =>
    Promise.resolve([one, two].every((m) => m.guardian.active.version === "repo-agents@2")),
  );
  await until("both are served", async () =>
    (await Promise.all([call(one), call(two)])).every((r) => r === ""),
  );
  const lost = performance.now();
  await whole.control.stop();
  const denied = new Map<Member, number>();
  await until("both deny", async () => {
    for (const m of [one, two]) {
      const reason = await call(m);
      if (reason === "POLICY_STALE") denied.set(m, denied.get(m) ?? performance.now() - lost);
      else {
        expect(reason).toBe("");
        expect(denied.has(m)).toBe(false);
      }
    }
    return denied.size === 2;
  });
  // The last heartbeat came at most one beat (0.1 s) before; the machine may have been slow to send it.
  for (const ms of denied.values()) expect(ms).toBeGreaterThan((bound - 2) * 1000);
  process.stdout.write(
    `stream lost: denied after ${[...denied.values()].map((ms) => ms.toFixed(0)).join(", ")} ms\n`,
  );
});
