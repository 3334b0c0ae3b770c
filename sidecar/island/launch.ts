// Becomes the command: gives up root and every capability for good, fences the network calls, executes. A program of its
// own, started as root inside the namespaces, because the command's UID need not be able to read Atoll's files.
// Usage: launch UID COMMAND ARGUMENT…
import { dlopen, getInt32, getRawPointer } from "node:ffi";
import { constants } from "node:os";
import { networkFilter } from "./seccomp.ts";

const { functions: c } = dlopen(null, {
  prctl: { arguments: ["int32", "uint64", "uint64", "uint64", "uint64"], return: "int32" },
  syscall: { arguments: ["int64", "uint64", "uint64", "uint64"], return: "int64" },
  fcntl: { arguments: ["int32", "int32", "int32"], return: "int32" },
  signal: { arguments: ["int32", "uint64"], return: "uint64" },
  execvpe: { arguments: ["buffer", "buffer", "buffer"], return: "int32" },
  __errno_location: { arguments: [], return: "pointer" },
});

const CLOSE_RANGE = 436n;
const CLOSE_RANGE_CLOEXEC = 4n;
const F_SETFD = 2;
const CAPBSET_DROP = 24;
const SET_NO_NEW_PRIVS = 38;
const CAP_AMBIENT = 47;
const CAP_AMBIENT_CLEAR_ALL = 4n;
const LAST_CAPABILITY = 63n;
const SECCOMP_CALL: Readonly<Record<string, bigint>> = { x64: 317n, arm64: 277n };
const SET_MODE_FILTER = 1n;

const failure = (what: string): Error => {
  const number = getInt32(c.__errno_location());
  const name =
    Object.entries(constants.errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
  return new Error(`${what}: ${name}`);
};

const text = (value: string): Buffer => Buffer.from(`${value}\0`);

/** A C array of strings; the buffers must outlive the call. */
const strings = (values: readonly Buffer[]): Buffer => {
  const pointers = Buffer.alloc((values.length + 1) * 8);
  for (const [at, value] of values.entries()) pointers.writeBigUInt64LE(getRawPointer(value), at * 8);
  return pointers;
};

const dropPrivileges = (uid: number): void => {
  // Fails for capabilities that this kernel does not have, which nobody can hold either.
  for (let capability = 0n; capability <= LAST_CAPABILITY; capability++)
    c.prctl(CAPBSET_DROP, capability, 0n, 0n, 0n);
  if (c.prctl(CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL, 0n, 0n, 0n) !== 0)
    throw failure("clearing ambient capabilities");
  if (c.prctl(SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n) !== 0) throw failure("no_new_privs");
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
  if (process.getuid?.() !== uid || process.geteuid?.() !== uid || process.getgid?.() !== uid)
    throw new Error(`cannot become UID ${uid}`);
};

const fence = (): void => {
  const program = networkFilter(process.arch);
  const call = SECCOMP_CALL[process.arch];
  if (program === undefined || call === undefined)
    throw new Error(`no system call filter for ${process.arch}`);
  const header = Buffer.alloc(16);
  header.writeUInt16LE(program.length / 8, 0);
  header.writeBigUInt64LE(getRawPointer(program), 8);
  if (c.syscall(call, SET_MODE_FILTER, 0n, getRawPointer(header)) !== 0n) throw failure("system call filter");
};

const [uid = "", ...command] = process.argv.slice(2);
try {
  const [file = ""] = command;
  const argv = command.map(text);
  const given: Record<string, unknown> = JSON.parse(process.env["ATOLL_COMMAND_ENV"] ?? "{}");
  const environment = Object.entries(given).map(([name, value]) => text(`${name}=${String(value)}`));
  // The command is looked up on its own path.
  process.env["PATH"] = typeof given["PATH"] === "string" ? given["PATH"] : "/usr/bin:/bin";
  const [argvPointers, environmentPointers] = [strings(argv), strings(environment)];
  dropPrivileges(Number(uid));
  // What Node and the shell ignore would stay ignored after exec.
  for (const name of ["SIGPIPE", "SIGINT", "SIGQUIT", "SIGXFSZ"] as const)
    c.signal(constants.signals[name], 0n);
  // A descriptor left open by whoever started us could be a socket: none but the three is handed on.
  if (c.syscall(CLOSE_RANGE, 3n, 0xffff_ffffn, CLOSE_RANGE_CLOEXEC) !== 0n)
    throw failure("closing descriptors");
  // Node marks these three to be closed too.
  for (const fd of [0, 1, 2]) c.fcntl(fd, F_SETFD, 0);
  fence();
  c.execvpe(text(file), argvPointers, environmentPointers);
  throw failure(`cannot run \`${file}\` as UID ${uid}`);
} catch (error) {
  process.stderr.write(`atoll island: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 127;
}
