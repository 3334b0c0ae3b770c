// The first flight of a TLS client (RFC 8446 4.1.2, RFC 6066 3), read strictly and no further: the name it asks for.

export type Hello =
  | { readonly state: "more" }
  | { readonly state: "not TLS" }
  | { readonly state: "refused"; readonly why: string }
  /** `name` is "" when the client names nobody. */
  | { readonly state: "hello"; readonly name: string };

/** More than any client sends before it is answered, key shares of large post-quantum schemes included. */
export const MOST_HELLO = 32 << 10;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const ENCRYPTED_HELLO = 0xfe0d;

class Short extends Error {}

class Cursor {
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;
  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }
  get left(): number {
    return this.#end - this.#at;
  }
  number(size: number): number {
    let value = 0;
    for (const byte of this.bytes(size)) value = value * 256 + byte;
    return value;
  }
  bytes(size: number): Uint8Array {
    if (this.left < size) throw new Short("a length points beyond the message");
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }
  /** A vector with its length in front. */
  vector(lengthSize: number): Cursor {
    return new Cursor(this.bytes(this.number(lengthSize)));
  }
}

/** What the bytes of a client say so far. The message may lie in several records; none of them may be anything else. */
export function readHello(bytes: Uint8Array): Hello {
  const parts: Uint8Array[] = [];
  let size = 0;
  for (let at = 0; ; ) {
    if (at < bytes.length && bytes[at] !== HANDSHAKE)
      return at === 0 ? { state: "not TLS" } : refused("another record inside the hello");
    if (at + 1 < bytes.length && bytes[at + 1] !== 3)
      return at === 0 ? { state: "not TLS" } : refused("a record of another version");
    if (bytes.length < at + 5) return more(bytes);
    const length = (bytes[at + 3] ?? 0) * 256 + (bytes[at + 4] ?? 0);
    if (length === 0 || length > 1 << 14) return refused("a record of an impossible length");
    const part = bytes.subarray(at + 5, at + 5 + length);
    parts.push(part);
    size += part.length;
    at += 5 + length;
    const message = parts.length === 1 ? part : Buffer.concat(parts);
    if (message.length > 0 && message[0] !== CLIENT_HELLO) return refused("the first message is no hello");
    if (size >= 4) {
      const whole = 4 + (message[1] ?? 0) * 65_536 + (message[2] ?? 0) * 256 + (message[3] ?? 0);
      if (whole > MOST_HELLO) return refused("the hello is too long");
      if (size >= whole) return size === whole ? parse(message) : refused("bytes after the hello");
    }
    if (part.length < length) return more(bytes);
  }
}
const refused = (why: string): Hello => ({ state: "refused", why });
const more = (bytes: Uint8Array): Hello =>
  bytes.length > MOST_HELLO ? refused("the hello is too long") : { state: "more" };

function parse(message: Uint8Array): Hello {
  try {
    const c = new Cursor(message, 4);
    c.bytes(2 + 32);
    c.vector(1);
    c.vector(2);
    c.vector(1);
    if (c.left === 0) return { state: "hello", name: "" };
    const extensions = c.vector(2);
    if (c.left > 0) return refused("bytes after the extensions");
    const seen = new Set<number>();
    let name = "";
    while (extensions.left > 0) {
      const type = extensions.number(2);
      const body = extensions.vector(2);
      if (seen.has(type)) return refused("an extension is given twice");
      seen.add(type);
      // What is encrypted for the server cannot be compared, and what cannot be checked is refused.
      if (type === ENCRYPTED_HELLO) return refused("the name is encrypted (ECH)");
      if (type !== SERVER_NAME) continue;
      const list = body.vector(2);
      if (body.left > 0) return refused("bytes after the list of names");
      if (list.number(1) !== 0) return refused("a name of another type");
      const inner = list.vector(2);
      const text = Buffer.from(inner.bytes(inner.left));
      if (list.left > 0) return refused("more than one name");
      name = text.toString("latin1");
      if (!/^[A-Za-z0-9_.-]{1,253}$/.test(name)) return refused("the name has characters that no name has");
    }
    return { state: "hello", name };
  } catch (error) {
    if (error instanceof Short) return refused(error.message);
    throw error;
  }
}
