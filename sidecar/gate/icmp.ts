// ICMP echo by the kernel's ping sockets, which need no capability: through the C library, because Node has no such
// socket. Loaded on the first echo alone, so that whoever only receives reports never loads it.
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const ICMP = 1;
const ICMPV6 = 58;

export type Echo = (
  address: readonly number[],
  scope: number,
  timeoutMs: number,
) => Promise<"answered" | "silent">;

const sockaddr = (address: readonly number[], scope: number): Buffer => {
  if (address.length === 4) return Buffer.from([AF_INET, 0, 0, 0, ...address, 0, 0, 0, 0, 0, 0, 0, 0]);
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(AF_INET6, 0);
  Buffer.from(address).copy(bytes, 8);
  bytes.writeUInt32LE(scope, 24);
  return bytes;
};

/** Throws when the C library cannot be called: an echo that cannot be tried proves nothing. */
export const openEcho = async (): Promise<Echo> => {
  const { dlopen } = await import("node:ffi");
  const { functions: c } = dlopen(null, {
    getpid: { arguments: [], return: "int32" },
    socket: { arguments: ["int32", "int32", "int32"], return: "int32" },
    sendto: { arguments: ["int32", "buffer", "uint64", "int32", "buffer", "uint32"], return: "int64" },
    recv: { arguments: ["int32", "buffer", "uint64", "int32"], return: "int64" },
    close: { arguments: ["int32"], return: "int32" },
  });
  if (c.getpid() !== process.pid) throw new Error("the C library does not answer");
  return async (address, scope, timeoutMs) => {
    const six = address.length === 16;
    const fd = c.socket(
      six ? AF_INET6 : AF_INET,
      SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
      six ? ICMPV6 : ICMP,
    );
    // No ping sockets here (ping_group_range), or no such family: then nobody without capabilities has one.
    if (fd < 0) return "silent";
    try {
      const request = Buffer.from([six ? 128 : 8, 0, 0, 0, 0, 0, 0, 1, 0x61, 0x74, 0x6f, 0x6c, 0x6c]);
      const to = sockaddr(address, scope);
      const reply = Buffer.alloc(256);
      // Whether the send is said to have worked tells nothing, either way: only an answer counts.
      c.sendto(fd, request, BigInt(request.length), 0, to, to.length);
      for (const end = performance.now() + timeoutMs; performance.now() < end; ) {
        const length = c.recv(fd, reply, BigInt(reply.length), 0);
        if (length > 0n && reply[0] === (six ? 129 : 0)) return "answered";
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return "silent";
    } finally {
      c.close(fd);
    }
  };
};
