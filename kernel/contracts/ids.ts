// Identifiers. A branded type can only be had from its parser here, so a value that carries one has been checked.

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

export type Hash = Branded<"Hash">;
export type Signature = Branded<"Signature">;
export type KeyId = Branded<"KeyId">;
export type Timestamp = Branded<"Timestamp">;
export type Target = Branded<"Target">;
export type SessionId = Branded<"ses">;
export type CallId = Branded<"call">;
export type DecisionId = Branded<"dec">;
export type EffectId = Branded<"eff">;
export type ReceiptId = Branded<"rcp">;
export type ApprovalId = Branded<"apr">;

/** Something from outside that is not what the contract says. `path` says where, the message what is allowed. */
export class ContractError extends Error {
  readonly path: string;
  constructor(path: string, message: string) {
    super(path === "" ? message : `${path}: ${message}`);
    this.name = "ContractError";
    this.path = path;
  }
}

// A counted repetition of 64 or 128 is too large for the engine to compile, and is walked step by step: the length is
// looked at apart.
const HASH = /^sha256:[0-9a-f]+$/;
const SIGNATURE = /^[0-9a-f]+$/;
const KEY_ID = /^ed25519:[0-9a-f]{16}$/;
const TARGET = /^[a-z]+:[A-Za-z0-9._/%-]{1,255}(:[0-9]{1,5})?$/;
const TIMESTAMP = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$/;

export const isHash = (s: unknown): s is Hash => typeof s === "string" && s.length === 71 && HASH.test(s);
export const isSignature = (s: unknown): s is Signature =>
  typeof s === "string" && s.length === 128 && SIGNATURE.test(s);
export const isKeyId = (s: unknown): s is KeyId => typeof s === "string" && KEY_ID.test(s);
export const isTarget = (s: unknown): s is Target => typeof s === "string" && TARGET.test(s);
const isWritten = (s: unknown): s is Timestamp => typeof s === "string" && TIMESTAMP.test(s);
// Every month has 28 days; only the few after them are looked up.
export const isTimestamp = (s: unknown): s is Timestamp =>
  isWritten(s) && (s.slice(8, 10) <= "28" || new Date(s).toISOString() === s);

const PREFIXED = {
  ses: /^ses_[0-9a-f]{32}$/,
  call: /^call_[0-9a-f]{32}$/,
  dec: /^dec_[0-9a-f]{32}$/,
  eff: /^eff_[0-9a-f]{32}$/,
  rcp: /^rcp_[0-9a-f]{32}$/,
  apr: /^apr_[0-9a-f]{32}$/,
} as const;
export type IdKind = keyof typeof PREFIXED;
export type IdOf<K extends IdKind> = Branded<K>;

export const isId = <K extends IdKind>(kind: K, s: unknown): s is Branded<K> =>
  typeof s === "string" && PREFIXED[kind].test(s);

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** An id from 16 random bytes that the caller brings: the kernel has no randomness of its own. */
export function makeId<K extends IdKind>(kind: K, random: Uint8Array): Branded<K> {
  const whole = random.length === 16;
  const hex = whole ? fourOf(random, 0) + fourOf(random, 4) + fourOf(random, 8) + fourOf(random, 12) : "";
  return must(`${kind}_${hex}`, (s): s is Branded<K> => isId(kind, s), "id", `${kind}_ and 16 random bytes`);
}
/** Short texts are joined by copying; long ones would leave a tree behind for each id. */
const fourOf = (bytes: Uint8Array, at: number): string =>
  hexOf(bytes[at]) + hexOf(bytes[at + 1]) + hexOf(bytes[at + 2]) + hexOf(bytes[at + 3]);
const hexOf = (byte: number | undefined): string => present(HEX[present(byte)]);

/** What was put there before. That it is missing is a fault of our own, which ends what is being judged. */
export function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("a part that was put there is missing");
  return value;
}

/** What a person reads of something thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** `value` if the predicate holds, else a ContractError that names `path` and what was expected. */
export function must<T>(value: unknown, is: (v: unknown) => v is T, path: string, expected: string): T {
  if (is(value)) return value;
  const shown = typeof value === "string" ? JSON.stringify(value.slice(0, 80)) : typeof value;
  throw new ContractError(path, `expected ${expected}, found ${shown}`);
}

export const hashFrom = (v: unknown, path: string): Hash =>
  must(v, isHash, path, "`sha256:` and 64 lower-case hex");
export const keyIdFrom = (v: unknown, path: string): KeyId => must(v, isKeyId, path, "`ed25519:` and 16 hex");
export const signatureFrom = (v: unknown, path: string): Signature =>
  must(v, isSignature, path, "128 lower-case hex");
export const targetFrom = (v: unknown, path: string): Target =>
  must(v, isTarget, path, "a name such as `tool:github/create_issue`");
export const timestampFrom = (v: unknown, path: string): Timestamp =>
  must(v, isTimestamp, path, "a UTC time with milliseconds, `2026-11-20T08:17:06.123Z`");

/** The timestamp of a moment that the caller brings, in milliseconds since 1970. */
export function timestampOf(epochMs: number): Timestamp {
  const whole = Math.trunc(epochMs);
  const minute = Math.floor(whole / MINUTE);
  let begin = minutes.get(minute);
  if (begin === undefined) {
    begin = new Date(whole).toISOString().slice(0, -"00.000Z".length);
    if (minutes.size === MINUTES) minutes.clear();
    minutes.set(minute, begin);
  }
  const ms = whole - minute * MINUTE;
  const text = `${begin}${digits(Math.floor(ms / 1000), 2)}.${digits(ms % 1000, 3)}Z`;
  return must(text, isWritten, "time", "a year from 0000 to 9999");
}
const MINUTE = 60_000;
const MINUTES = 16;
/** What is written now, what began a while ago and what ends soon share few minutes, whose text is then not made again. */
const minutes = new Map<number, string>();
const digits = (n: number, width: number): string => `${n}`.padStart(width, "0");
export const epochOf = (t: Timestamp): number => Date.parse(t);
