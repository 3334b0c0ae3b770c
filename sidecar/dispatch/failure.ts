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
