// A command line as somebody types it: its exit code and what it said on either stream.

import { atoll } from "../../cli/atoll.ts";

export interface Said {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export async function typed(
  argv: readonly string[],
  given: { readonly stdin?: string | Uint8Array; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<Said> {
  const [out, err]: [Uint8Array[], Uint8Array[]] = [[], []];
  const into = (parts: Uint8Array[]) => ({
    write: (t: string | Uint8Array): void => void parts.push(typeof t === "string" ? Buffer.from(t) : t),
  });
  const code = await atoll(argv, {
    stdin: (async function* () {
      yield given.stdin ?? "";
    })(),
    stdout: into(out),
    stderr: into(err),
    env: given.env ?? {},
  });
  return { code, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() };
}
