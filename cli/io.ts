// What a command may touch of its process, so that a test can stand in for it.

export interface Output {
  write(text: string | Uint8Array): unknown;
}
export interface Io {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
}
export type Command = (argv: readonly string[], io: Io) => Promise<number>;

/** Wrong use of the command line: exit 2, with the usage. */
export class UsageError extends Error {
  readonly usage: string;
  constructor(message: string, usage: string) {
    super(message);
    this.name = "UsageError";
    this.usage = usage;
  }
}

export async function readAll(input: Io["stdin"], limit: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of input) {
    const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
    size += bytes.byteLength;
    parts.push(bytes);
    if (size > limit) break;
  }
  return Buffer.concat(parts);
}

export const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));
