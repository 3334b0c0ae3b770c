// Bearer tokens (RFC 7519) against a pinned key set: pure, strict, and closed where anything is missing.

import { LIMITS, isArray, isObject, parseJson } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import { tokenKey } from "../crypto/crypto.ts";
import type { TokenKey } from "../crypto/crypto.ts";

export interface TokenRules {
  readonly issuer: string;
  readonly audience: string;
  readonly jwks: JsonObject;
}
export interface Claims {
  readonly subject: string;
  /** The token's session, "" where it has none. */
  readonly sid: string;
  readonly roles: readonly string[];
  readonly tenant: string;
  readonly expiresAtMs: number;
}
export type TokenAnswer =
  | { readonly ok: true; readonly claims: Claims }
  | { readonly ok: false; readonly code: "AUTH_NOT_CONFIGURED" | "AUTH_INVALID"; readonly detail: string };
export type VerifyToken = (token: string, nowMs: number) => TokenAnswer;

const SKEW_MS = 60_000;
const MOST = 16_384;

/** Without rules every token is refused as AUTH_NOT_CONFIGURED. Keys of the set that cannot verify are refused. */
export function tokenVerifier(rules: TokenRules | null): VerifyToken {
  if (rules === null)
    return () => ({ ok: false, code: "AUTH_NOT_CONFIGURED", detail: "the policy names no verifier" });
  const listed = rules.jwks["keys"];
  const keys = (isArray(listed) ? listed : []).map((k) => tokenKey(k));
  return (token, now) => {
    try {
      return { ok: true, claims: verify(token, now, rules, keys) };
    } catch (error) {
      return {
        ok: false,
        code: "AUTH_INVALID",
        detail: error instanceof Error ? error.message : String(error),
      };
    }
  };
}

function refuse(reason: string): never {
  throw new Error(reason);
}

function verify(token: string, now: number, rules: TokenRules, keys: readonly TokenKey[]): Claims {
  if (token.length > MOST) refuse("the token is too long");
  const [head = "", body = "", sig = "", ...more] = token.split(".");
  if (more.length > 0 || sig === "") refuse("the token does not have three parts");
  const header = jsonOf(head, "header");
  if (header["crit"] !== undefined) refuse("the header has critical members");
  const typ = header["typ"];
  if (typ !== undefined && !(typeof typ === "string" && /^(jwt|at\+jwt)$/i.test(typ)))
    refuse("the token is of another type");
  const kid = header["kid"];
  const fitting = keys.filter((k) => (kid === undefined ? keys.length === 1 : k.kid === kid));
  const [key] = fitting;
  if (key === undefined || fitting.length !== 1)
    return refuse("no single key of the set has the token's kid");
  if (header["alg"] !== key.alg) refuse("the algorithm is not the key's");
  if (!key.verify(new TextEncoder().encode(`${head}.${body}`), bytesOf(sig, "signature")))
    refuse("the signature does not verify");

  const c = jsonOf(body, "claims");
  if (c["iss"] !== rules.issuer) refuse("another issuer");
  const aud = c["aud"];
  if (aud !== rules.audience && !(isArray(aud) && aud.includes(rules.audience))) refuse("another audience");
  const exp = seconds(c["exp"], "exp");
  if (exp === null) return refuse("the token has no expiry");
  if (!(now < exp)) refuse("the token has expired");
  for (const name of ["nbf", "iat"]) {
    const from = seconds(c[name], name);
    if (from !== null && !(now >= from - SKEW_MS)) refuse(`the token is from the future (${name})`);
  }
  return {
    subject: textOf(c["sub"], "sub"),
    sid: c["sid"] === undefined ? "" : textOf(c["sid"], "sid"),
    roles: c["roles"] === undefined ? [] : textsOf(c["roles"]),
    tenant: c["tenant"] === undefined ? "" : textOf(c["tenant"], "tenant"),
    expiresAtMs: exp,
  };
}

/** Strictly: no padding, no foreign character, no bits beside the last byte. */
function bytesOf(part: string, what: string): Uint8Array {
  if (!/^[A-Za-z0-9_-]+$/.test(part)) refuse(`the ${what} is not base64url`);
  let bytes: Uint8Array;
  try {
    const standard = part.replaceAll("-", "+").replaceAll("_", "/");
    bytes = Uint8Array.from(atob(standard), (ch) => ch.charCodeAt(0));
  } catch {
    return refuse(`the ${what} is not base64url`);
  }
  const again = btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
  return again === part ? bytes : refuse(`the ${what} is not canonical base64url`);
}
function jsonOf(part: string, what: string): JsonObject {
  const value = parseJson(bytesOf(part, what), LIMITS.args);
  return isObject(value) ? value : refuse(`the ${what} is no object`);
}
function seconds(v: JsonValue | undefined, name: string): number | null {
  if (v === undefined) return null;
  return typeof v === "number" && Number.isFinite(v) && v >= 0 ? v * 1000 : refuse(`\`${name}\` is no time`);
}
function textOf(v: JsonValue | undefined, name: string): string {
  return typeof v === "string" && v !== "" && v.length <= 255 ? v : refuse(`\`${name}\` is no text`);
}
function textsOf(v: JsonValue): readonly string[] {
  if (!isArray(v) || v.length > 256) return refuse("`roles` is no list");
  return v.map((r) => textOf(r, "roles"));
}
