// The admin socket: status, freeze, unfreeze, approvals, drain. A unix socket in the guardian's own folder; who may open
// that folder may stop the agent, and nobody can widen anything here without a key that the guardian does not have.

import { existsSync, unlinkSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import {
  ContractError,
  JsonError,
  LIMITS,
  isId,
  isObject,
  parseJson,
} from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { parseAct } from "../../kernel/trust/trust.ts";
import { approvalObject } from "../approvals/approvals.ts";
import type { Running } from "../guard/guard.ts";

export interface Admin {
  close(): Promise<void>;
}
export const socketPath = (folder: string): string => join(folder, "admin.sock");

export async function startAdmin(running: Running, folder: string): Promise<Admin> {
  const path = socketPath(folder);
  // The journal's lock says that no other guardian lives here, so a socket that is left is a dead one.
  if (existsSync(path)) unlinkSync(path);
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    void answer(running, request)
      .catch((error: unknown): Answer => {
        if (error instanceof ContractError || error instanceof JsonError || error instanceof SyntaxError)
          return { status: 400, body: { error: error.message } };
        return { status: 500, body: { error: error instanceof Error ? error.message : "error" } };
      })
      .then(({ status, body }) => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(JSON.stringify(body));
      });
  });
  const before = process.umask(0o177);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  }).finally(() => process.umask(before));
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface Answer {
  readonly status: number;
  readonly body: JsonObject;
}

async function answer(running: Running, request: IncomingMessage): Promise<Answer> {
  const route = `${request.method ?? ""} ${request.url ?? ""}`;
  const ok = (body: JsonObject): Answer => ({ status: 200, body });
  switch (route) {
    case "GET /status":
      return ok(statusOf(running));
    case "POST /freeze": {
      const o = await bodyOf(request);
      const reason = o["reason"];
      if (typeof reason !== "string" || reason === "") throw new ContractError("reason", "is needed");
      const node = await running.freezer.freeze(
        reason,
        typeof o["by"] === "string" ? o["by"] : "admin socket",
      );
      return ok({ frozen: true, node });
    }
    case "POST /unfreeze":
      await running.freezer.unfreeze(await bodyOf(request));
      return ok({ frozen: false });
    case "POST /keys/rotate":
      return ok({ ...(await running.rotation.rotate("admin socket")) });
    case "POST /keys/revoke": {
      await running.revoke(revocationOf(running, await bodyOf(request)));
      return ok({ revoked: running.signer.keyId });
    }
    case "GET /approvals":
      return ok({
        approvals: running.ceremonies.all.map(
          (a): JsonValue => ({
            ...approvalObject(a),
            challenge: a.challenge,
            review_open: a.reviewOpen,
            override: a.override,
          }),
        ),
      });
    default: {
      const answered = /^POST \/approvals\/(apr_[0-9a-f]{32})$/.exec(route)?.[1];
      if (answered !== undefined && isId("apr", answered)) {
        const result = await running.ceremonies.answer(answered, await bodyOf(request));
        return result.ok
          ? ok(approvalObject(result.approval))
          : { status: 409, body: { error: result.reason } };
      }
      const reviewed = /^POST \/approvals\/(apr_[0-9a-f]{32})\/review$/.exec(route)?.[1];
      if (reviewed !== undefined && isId("apr", reviewed)) {
        const { policy } = running.active;
        const result = await running.ceremonies.review(reviewed, await bodyOf(request), policy);
        return result.ok
          ? ok(approvalObject(result.approval))
          : { status: 409, body: { error: result.reason } };
      }
      return { status: 404, body: { error: `no \`${route}\`` } };
    }
  }
}

/** Why the key in force is revoked, by an act of a registrar or of a root that may say so. */
function revocationOf({ roots, signer }: Running, value: JsonObject): string {
  const signed = parseAct(value, "revocation", "atoll.dev/key-revocation/v1");
  if (signed.act.type !== "atoll.dev/key-revocation/v1" || signed.act.key !== signer.keyId)
    throw new ContractError("key", `names another key than the one in force, ${signer.keyId}`);
  const by = (["registrar", "guardian"] as const).flatMap((role) =>
    role === roots.roleOf(signed.key_id) ? [roots.keyFor(role, signed.key_id)] : [],
  )[0];
  if (by === undefined || typeof by === "string")
    throw new ContractError("key_id", `TRUST_KEY_UNKNOWN: ${signed.key_id} revokes no guardian's key`);
  if (!signed.signedBy(by))
    throw new ContractError("sig", "SIGNATURE_INVALID: the signature does not verify");
  return signed.act.reason;
}

function statusOf(running: Running): JsonObject {
  const freeze = running.freezer.state;
  const ready = running.ready();
  return {
    ready: ready.ok,
    why: ready.why,
    policy: running.active.version,
    policy_hash: running.active.policy.hash,
    key_id: running.signer.keyId,
    former_keys: running.keys.former.map((key): JsonValue => key.keyId),
    pod_uid: running.journal.podUid,
    journal: running.journal.state().state,
    tree_size: running.journal.treeSize,
    under_way: running.governor.underWay,
    approvals_pending: running.ceremonies.all.filter((a) => a.state === "pending").length,
    reviews_open: running.ceremonies.all.filter((a) => a.reviewOpen).map((a): JsonValue => a.id),
    freeze: freeze.state === "clear" ? null : { node: freeze.node, reason: freeze.reason },
    freezes: running.freezer.inForce.map(({ node, order, body }): JsonValue => ({ node, order, body })),
    sessions: running.governor.sessions
      .all()
      .map((s): JsonValue => ({ id: s.id, principal: s.principal, calls: s.calls, tainted: s.tainted })),
  };
}

async function bodyOf(request: IncomingMessage): Promise<JsonObject> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request) {
    const bytes = Buffer.from(part);
    size += bytes.byteLength;
    if (size > LIMITS.args.bytes) throw new ContractError("", "the body is too large");
    parts.push(bytes);
  }
  const value = parseJson(Buffer.concat(parts), LIMITS.args);
  if (!isObject(value)) throw new ContractError("", "expected an object");
  return value;
}
