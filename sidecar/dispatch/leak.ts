// An answer that carries one of our own credentials, as a service that echoes its request would send, ends where it
// does. Bytes that may be the beginning of one are held back until it is clear that they are not.

import { UpstreamError } from "./failure.ts";

/** The forms in which a credential comes back from an honest service. */
export function formsOf(secret: string): readonly Buffer[] {
  const encoded = encodeURIComponent(secret);
  const base64 = Buffer.from(secret).toString("base64").replace(/=+$/, "");
  return [...new Set([secret, encoded, base64])].map((text) => Buffer.from(text));
}

const carried = (): UpstreamError =>
  new UpstreamError("ERR_CONNECTOR_FAILED", "the answer carried a credential of the guardian", false);

/** The same for an answer that is there as a whole. */
export function refuseSecrets(bytes: Buffer, secrets: readonly string[]): void {
  if (secrets.some((secret) => formsOf(secret).some((form) => bytes.includes(form)))) throw carried();
}

export async function* withoutSecrets(
  body: AsyncIterable<Uint8Array>,
  secrets: readonly string[],
): AsyncGenerator<Uint8Array> {
  const forms = secrets.flatMap(formsOf);
  if (forms.length === 0) {
    yield* body;
    return;
  }
  let held: Buffer = Buffer.alloc(0);
  for await (const part of body) {
    const bytes =
      held.length === 0
        ? Buffer.from(part.buffer, part.byteOffset, part.byteLength)
        : Buffer.concat([held, part]);
    if (forms.some((form) => bytes.includes(form))) throw carried();
    const kept = Math.max(...forms.map((form) => beginning(bytes, form)));
    held = bytes.subarray(bytes.length - kept);
    if (kept < bytes.length) yield bytes.subarray(0, bytes.length - kept);
  }
  if (held.length > 0) yield held;
}

/** How many of the last bytes are the beginning of `form`. */
function beginning(bytes: Buffer, form: Buffer): number {
  const first = form[0] ?? 0;
  for (
    let at = bytes.indexOf(first, Math.max(0, bytes.length - form.length + 1));
    at >= 0;
    at = bytes.indexOf(first, at + 1)
  )
    if (bytes.subarray(at).equals(form.subarray(0, bytes.length - at))) return bytes.length - at;
  return 0;
}
