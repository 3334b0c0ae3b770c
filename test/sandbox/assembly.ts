// Modules built from AssemblyScript, a compiler that ships with npm: real code with a runtime, strings and floats.

interface Compiler {
  main(
    args: readonly string[],
    files: {
      readFile(name: string): string | null;
      writeFile(name: string, contents: string | Uint8Array): void;
      listFiles(): string[];
    },
  ): Promise<{ error: Error | null; stderr: { toString(): string } }>;
}

// Its declarations replace those of the globals, so they stay out of the program.
const COMPILER: string = "assemblyscript/asc";
const { default: asc } = (await import(COMPILER)) as { default: Compiler };

const PRELUDE = `
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: i32, iovs: usize, count: i32, written: usize): i32;
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: i32, iovs: usize, count: i32, read: usize): i32;
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(status: i32): void;
function abort_(message: usize, file: usize, line: u32, column: u32): void { proc_exit(134); }
const io = memory.data(16);
function writeBytes(at: usize, length: i32): void {
  store<u32>(io, <u32>at); store<u32>(io, length, 4); fd_write(1, io, 1, io + 8);
}
function print(value: u64): void { const at = io + 8; store<u64>(at, value); store<u32>(io, <u32>at); store<u32>(io, 8, 4); fd_write(1, io, 1, io); }
`;

export interface AssemblyOptions {
  readonly optimize?: 0 | 1 | 2 | 3;
  readonly runtime?: "stub" | "minimal" | "incremental";
  readonly simd?: boolean;
}

/** Compiles a source that defines \`export function _start(): void\`; the prelude's names are at hand. */
export async function assembly(source: string, options: AssemblyOptions = {}): Promise<Uint8Array> {
  const sources = new Map([["module.ts", PRELUDE + source]]);
  let wasm: Uint8Array | undefined;
  const { error, stderr } = await asc.main(
    [
      "module.ts",
      "--outFile",
      "module.wasm",
      `-O${options.optimize ?? 3}`,
      "--runtime",
      options.runtime ?? "stub",
      "--use",
      "abort=module/abort_",
      ...(options.simd === true ? ["--enable", "simd"] : []),
    ],
    {
      readFile: (name) => sources.get(name) ?? null,
      writeFile: (name, contents) => {
        if (name === "module.wasm" && typeof contents !== "string") wasm = contents;
      },
      listFiles: () => [],
    },
  );
  if (wasm === undefined) throw new Error(`assembly failed: ${error?.message ?? ""} ${stderr.toString()}`);
  return wasm;
}
