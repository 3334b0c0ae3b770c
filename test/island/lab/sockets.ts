// Sockets that Node has no word for (raw, packet, ping, SCTP, vsock, MPTCP), by the C library of the process. For the
// laboratory only: a hostile agent would bring its own native code, so its tests must not be kinder than it.
import { dlopen, getInt32 } from "node:ffi";
import { constants } from "node:os";

const { functions: c } = dlopen(null, {
  socket: { arguments: ["int32", "int32", "int32"], return: "int32" },
  bind: { arguments: ["int32", "buffer", "uint32"], return: "int32" },
  connect: { arguments: ["int32", "buffer", "uint32"], return: "int32" },
  sendto: { arguments: ["int32", "buffer", "uint64", "int32", "buffer", "uint32"], return: "int64" },
  recv: { arguments: ["int32", "buffer", "uint64", "int32"], return: "int64" },
  setsockopt: { arguments: ["int32", "int32", "int32", "buffer", "uint32"], return: "int32" },
  close: { arguments: ["int32"], return: "int32" },
  setresuid: { arguments: ["uint32", "uint32", "uint32"], return: "int32" },
  unshare: { arguments: ["int32"], return: "int32" },
  if_nametoindex: { arguments: ["string"], return: "uint32" },
  __errno_location: { arguments: [], return: "pointer" },
});

export const AF = { INET: 2, INET6: 10, PACKET: 17, VSOCK: 40, NETLINK: 16, ALG: 38, XDP: 44 };
export const KIND = { STREAM: 1, DGRAM: 2, RAW: 3, SEQPACKET: 5, NONBLOCK: 0o4000 };
export const PROTO = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58, SCTP: 132, UDPLITE: 136, RAW: 255, MPTCP: 262 };

const errorNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));
const errno = (): string => {
  const number = getInt32(c.__errno_location());
  return errorNames.get(number) ?? `errno ${number}`;
};

/** A system call's answer: its value, or the name of its error. */
export type Answer = { value: number } | { error: string };
const answer = (value: number | bigint): Answer =>
  value < 0 ? { error: errno() } : { value: Number(value) };

export const socket = (family: number, kind: number, protocol: number): Answer =>
  answer(c.socket(family, kind | KIND.NONBLOCK, protocol));
export const close = (fd: number): void => void c.close(fd);
export const setresuid = (uid: number): Answer => answer(c.setresuid(uid, uid, uid));
export const unshare = (flags: number): Answer => answer(c.unshare(flags));
export const interfaceIndex = (name: string): number => c.if_nametoindex(name);

const ipv6Bytes = (address: string): Buffer => {
  const [head = "", tail] = address.split("::");
  const words = (part: string): number[] =>
    part
      .split(":")
      .filter((word) => word !== "")
      .map((word) => Number.parseInt(word, 16));
  const front = words(head);
  const back = tail === undefined ? [] : words(tail);
  const all =
    tail === undefined
      ? front
      : [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
  const bytes = Buffer.alloc(16);
  for (const [at, word] of all.entries()) bytes.writeUInt16BE(word, at * 2);
  return bytes;
};

/** A sockaddr of IPv4 or IPv6; `scope` is an interface index, for link-local addresses. */
export const address = (host: string, port: number, scope = 0): Buffer => {
  if (!host.includes(":")) {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt16LE(AF.INET, 0);
    bytes.writeUInt16BE(port, 2);
    Buffer.from(host.split(".").map(Number)).copy(bytes, 4);
    return bytes;
  }
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(AF.INET6, 0);
  bytes.writeUInt16BE(port, 2);
  ipv6Bytes(host).copy(bytes, 8);
  bytes.writeUInt32LE(scope, 24);
  return bytes;
};

/** A sockaddr_vm. */
export const vsockAddress = (cid: number, port: number): Buffer => {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF.VSOCK, 0);
  bytes.writeUInt32LE(port, 4);
  bytes.writeUInt32LE(cid, 8);
  return bytes;
};

export const bind = (fd: number, at: Buffer): Answer => answer(c.bind(fd, at, at.length));
export const connect = (fd: number, to: Buffer): Answer => answer(c.connect(fd, to, to.length));
export const send = (fd: number, bytes: Buffer, to: Buffer = Buffer.alloc(0)): Answer =>
  answer(c.sendto(fd, bytes, BigInt(bytes.length), 0, to, to.length));
export const setsockopt = (fd: number, level: number, name: number, value: Buffer): Answer =>
  answer(c.setsockopt(fd, level, name, value, value.length));

/** What arrives within the time, or undefined. */
export const receive = async (fd: number, ms: number): Promise<Buffer | undefined> => {
  const bytes = Buffer.alloc(65_536);
  for (const end = Date.now() + ms; Date.now() < end; ) {
    const got = answer(c.recv(fd, bytes, BigInt(bytes.length), 0));
    if ("value" in got) return bytes.subarray(0, got.value);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return undefined;
};

/** An ICMP echo by a ping socket, which needs no capability where the pod's ping_group_range allows it. */
export const ping = async (
  host: string,
  ms: number,
  scope = 0,
): Promise<{ sent: Answer; answered: boolean }> => {
  const six = host.includes(":");
  const opened = six ? socket(AF.INET6, KIND.DGRAM, PROTO.ICMPV6) : socket(AF.INET, KIND.DGRAM, PROTO.ICMP);
  if ("error" in opened) return { sent: opened, answered: false };
  const echo = Buffer.from([six ? 128 : 8, 0, 0, 0, 0, 0, 0, 1, ...Buffer.from("atoll")]);
  const sent = send(opened.value, echo, address(host, 0, scope));
  const reply = await receive(opened.value, ms);
  close(opened.value);
  return { sent, answered: reply !== undefined && reply[0] === (six ? 129 : 0) };
};
