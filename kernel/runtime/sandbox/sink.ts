// Bytes that a guest writes, kept until it ends.

export class Sink {
  #bytes = new Uint8Array(1024);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  add(part: Uint8Array): void {
    if (this.#length + part.length > this.#bytes.length) {
      const wider = new Uint8Array(Math.max(this.#length + part.length, this.#bytes.length * 2));
      wider.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = wider;
    }
    this.#bytes.set(part, this.#length);
    this.#length += part.length;
  }

  taken(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}
