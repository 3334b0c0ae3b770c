// Server-sent events from bytes, at any chunking: CRLF, CR, LF, a byte order mark, split UTF-8, comments, no last blank line.

export interface SseEvent {
  readonly event: string;
  readonly data: string;
  readonly id: string;
}

/** The stream is not server-sent events that a client of ours may see. */
export class SseError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "SseError";
  }
}

const MOST = 33 << 20;

export class SseParser {
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  #rest = "";
  #scanned = 0;
  #data: string[] = [];
  #event = "";
  #id = "";
  #size = 0;
  #skipLf = false;

  /** The events that these bytes complete. */
  feed(bytes: Uint8Array): SseEvent[] {
    return this.#take(this.#decode(bytes, true), false);
  }

  /** What is left when the bytes end: a last event without its blank line counts only when its line was ended. */
  end(): SseEvent[] {
    return this.#take(this.#decode(new Uint8Array(0), false), true);
  }

  #decode(bytes: Uint8Array, stream: boolean): string {
    try {
      return this.#decoder.decode(bytes, { stream });
    } catch {
      throw new SseError("the stream is not UTF-8");
    }
  }

  #take(text: string, last: boolean): SseEvent[] {
    const out: SseEvent[] = [];
    this.#rest += text;
    if (this.#rest.length + this.#size > MOST) throw new SseError("an event of the stream is too large");
    let start = 0;
    let at = this.#scanned;
    for (; at < this.#rest.length; at++) {
      const c = this.#rest.charCodeAt(at);
      if (this.#skipLf) {
        this.#skipLf = false;
        if (c === 10) {
          start = at + 1;
          continue;
        }
      }
      if (c !== 10 && c !== 13) continue;
      this.#line(this.#rest.slice(start, at), out);
      start = at + 1;
      // A carriage return ends the line at once; a line feed right after it, perhaps in the next bytes, is its second half.
      this.#skipLf = c === 13;
    }
    this.#rest = this.#rest.slice(start);
    this.#scanned = this.#rest.length;
    if (last) {
      if (this.#rest !== "") this.#line(this.#rest, out);
      this.#line("", out);
      this.#rest = "";
      this.#scanned = 0;
    }
    return out;
  }

  #line(line: string, out: SseEvent[]): void {
    if (line === "") {
      if (this.#data.length > 0) out.push({ event: this.#event, data: this.#data.join("\n"), id: this.#id });
      this.#data = [];
      this.#event = "";
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line.charAt(colon + 1) === " " ? 2 : 1));
    this.#size += value.length;
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
  }
}

/** One event as text: what we send is always written by us, never a copy of received bytes. */
export function writeSse(data: string, event = ""): string {
  const lines = data
    .split("\n")
    .map((l) => `data: ${l}\n`)
    .join("");
  return `${event === "" ? "" : `event: ${event}\n`}${lines}\n`;
}
