// Who calls: the pod's own principal, or in jwt mode whoever a token against the policy's pinned key set names.

import type { IncomingHttpHeaders } from "node:http";
import { tokenVerifier } from "../../kernel/identity/identity.ts";
import type { Claims, VerifyToken } from "../../kernel/identity/identity.ts";
import type { Policy } from "../../kernel/contracts/contracts.ts";
import type { Caller } from "../govern/govern.ts";

export interface Callers {
  /** By the headers of a request to the API. */
  api(headers: IncomingHttpHeaders): Caller;
  /** By the headers of a request to the forward proxy. */
  proxy(headers: IncomingHttpHeaders): Caller;
}

const REMEMBERED = 1_024;

export function createCallers(options: {
  readonly policy: () => Policy;
  readonly pod: Caller & { readonly state: "verified" };
  readonly now: () => number;
}): Callers {
  let verify: { readonly hash: string; readonly token: VerifyToken } | undefined;
  // A signature is checked once for each token; its times are checked on every call.
  let known = new Map<string, Claims>();

  function named(token: string | undefined): Caller {
    const policy = options.policy();
    if (policy.identity.mode === "serviceAccount") return options.pod;
    if (verify === undefined || verify.hash !== policy.hash) {
      verify = { hash: policy.hash, token: tokenVerifier(policy.identity.jwt) };
      known = new Map();
    }
    const now = options.now();
    if (token === undefined)
      return policy.identity.jwt === null
        ? { state: "refused", code: "AUTH_NOT_CONFIGURED", detail: "the policy names no verifier" }
        : { state: "refused", code: "AUTH_INVALID", detail: "no token was given" };
    const held = known.get(token);
    if (held !== undefined && now < held.expiresAtMs) return callerOf(held);
    const answer = verify.token(token, now);
    if (!answer.ok) return { state: "refused", code: answer.code, detail: answer.detail };
    if (known.size >= REMEMBERED) known.clear();
    known.set(token, answer.claims);
    return callerOf(answer.claims);
  }
  const callerOf = (claims: Claims): Caller => ({
    ...options.pod,
    id: claims.subject,
    roles: claims.roles,
    tenant: claims.tenant,
    sid: claims.sid,
  });
  return {
    api: (headers) => named(bearer(headers.authorization) ?? single(headers["x-api-key"])),
    proxy: (headers) => named(proxyToken(headers["proxy-authorization"])),
  };
}

const single = (value: string | string[] | undefined): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined;
/** The scheme in any case, one space, and the token as it is: what does not look like that is no token. */
function bearer(value: string | undefined): string | undefined {
  return /^bearer (\S+)$/i.exec(value ?? "")?.[1];
}
/** A proxy's client can often send a user and a password only: the password is the token. */
function proxyToken(value: string | undefined): string | undefined {
  const basic = /^basic ([A-Za-z0-9+/]{1,32768}={0,2})$/i.exec(value ?? "")?.[1];
  if (basic === undefined) return bearer(value);
  const text = Buffer.from(basic, "base64").toString("latin1");
  return single(text.slice(text.indexOf(":") + 1));
}
