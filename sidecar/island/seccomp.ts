// A system call filter for what namespaces leave open: socket families that no network namespace contains (vsock reaches
// the hypervisor), io_uring (which makes sockets past any filter), new user namespaces and foreign system call tables.
// Everything else is allowed: this is a fence around the network, not around the kernel. Pure: classic BPF as bytes.

type Machine = {
  readonly audit: number;
  readonly foreign: boolean;
  readonly calls: Readonly<Record<string, number>>;
};

const MACHINES: Readonly<Record<string, Machine>> = {
  // `foreign`: x86-64 has a second table (x32) under the same architecture, numbered from 0x40000000.
  x64: {
    audit: 0xc000_003e,
    foreign: true,
    calls: {
      socket: 41,
      socketpair: 53,
      clone: 56,
      unshare: 272,
      setns: 308,
      io_uring_setup: 425,
      clone3: 435,
    },
  },
  arm64: {
    audit: 0xc000_00b7,
    foreign: false,
    calls: {
      socket: 198,
      socketpair: 199,
      clone: 220,
      unshare: 97,
      setns: 268,
      io_uring_setup: 425,
      clone3: 435,
    },
  },
};

const UNIX = 1;
const INET = 2;
const INET6 = 10;
const NETLINK = 16;
const NEW_USER = 0x1000_0000;
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

const LOAD = 0x20;
const EQUAL = 0x15;
const AT_LEAST = 0x35;
const ANY_BIT = 0x45;
const RETURN = 0x06;
const ALLOW = 0x7fff_0000;
const refuse = (errno: number): number => 0x0005_0000 + errno;

/** Offsets in struct seccomp_data: the number, the architecture, the low half of the first argument (little-endian). */
const NUMBER = 0;
const ARCH = 4;
const FIRST = 16;

type Step = readonly [code: number, whenTrue: number, whenFalse: number, value: number];

const load = (offset: number): Step => [LOAD, 0, 0, offset];
const answer = (value: number): Step => [RETURN, 0, 0, value];
/** Steps taken only for this call; then back to the call's number. */
const onCall = (number: number, steps: readonly Step[]): Step[] => [
  [EQUAL, 0, steps.length + 1, number],
  ...steps,
  load(NUMBER),
];

const onlyFamilies: readonly Step[] = [
  load(FIRST),
  [EQUAL, 4, 0, UNIX],
  [EQUAL, 3, 0, INET],
  [EQUAL, 2, 0, INET6],
  [EQUAL, 1, 0, NETLINK],
  answer(refuse(EAFNOSUPPORT)),
];
const noUserNamespace: readonly Step[] = [load(FIRST), [ANY_BIT, 0, 1, NEW_USER], answer(refuse(EPERM))];

/** The filter program of a machine, or undefined where its system calls are not known here. */
export const networkFilter = (arch: string): Uint8Array | undefined => {
  const machine = MACHINES[arch];
  if (machine === undefined) return undefined;
  const number = (name: string): number => machine.calls[name] ?? -1;
  const steps: Step[] = [
    load(ARCH),
    [EQUAL, 1, 0, machine.audit],
    answer(refuse(EPERM)),
    load(NUMBER),
    ...(machine.foreign ? ([[AT_LEAST, 0, 1, 0x4000_0000], answer(refuse(EPERM))] satisfies Step[]) : []),
    ...onCall(number("socket"), onlyFamilies),
    ...onCall(number("socketpair"), onlyFamilies),
    ...onCall(number("unshare"), noUserNamespace),
    ...onCall(number("clone"), noUserNamespace),
    ...onCall(number("setns"), [answer(refuse(EPERM))]),
    // Its flags lie in memory, which a filter cannot read; the C library falls back to clone.
    ...onCall(number("clone3"), [answer(refuse(ENOSYS))]),
    ...onCall(number("io_uring_setup"), [answer(refuse(ENOSYS))]),
    answer(ALLOW),
  ];
  const bytes = new DataView(new ArrayBuffer(steps.length * 8));
  for (const [at, [code, whenTrue, whenFalse, value]] of steps.entries()) {
    bytes.setUint16(at * 8, code, true);
    bytes.setUint8(at * 8 + 2, whenTrue);
    bytes.setUint8(at * 8 + 3, whenFalse);
    bytes.setUint32(at * 8 + 4, value, true);
  }
  return new Uint8Array(bytes.buffer);
};
