// Bytes without Node's Buffer, so that the verifier runs in a browser too.

const encoder = new TextEncoder();
export const utf8 = (text: string): Uint8Array => encoder.encode(text);

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

export function startsWith(bytes: Uint8Array, start: Uint8Array): boolean {
  for (let i = 0; i < start.byteLength; i++) if (bytes[i] !== start[i]) return false;
  return true;
}
