// How a call to an upstream ends that has no answer.

/** The upstream could not be asked, or did not answer: the effect may or may not have happened. */
export class UpstreamError extends Error {
  readonly code: "ERR_CONNECTOR_FAILED" | "ERR_CONNECTOR_TIMEOUT";
  /** True only when the request cannot have reached the upstream. */
  readonly unsent: boolean;
  constructor(code: UpstreamError["code"], message: string, unsent: boolean) {
    super(message);
    this.name = "UpstreamError";
    this.code = code;
    this.unsent = unsent;
  }
}

const UNSENT: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_DESTROYED",
  "CERT_HAS_EXPIRED",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);

export function upstreamError(error: unknown): UpstreamError {
  if (error instanceof UpstreamError) return error;
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
  const name = error instanceof Error ? error.name : "";
  if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT" || name === "TimeoutError")
    return new UpstreamError("ERR_CONNECTOR_TIMEOUT", "the upstream did not answer in time", false);
  return new UpstreamError(
    "ERR_CONNECTOR_FAILED",
    `the upstream could not be reached (${code || name || "error"})`,
    UNSENT.has(code),
  );
}
