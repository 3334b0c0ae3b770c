// The bypass laboratory's attempts: each tries one way out of the pod, as the agent, and tells what came of it. A way is
// open only when somebody answered. `leg` says which mechanism must stop it: the lock (packets), the shape of the pod
// (capabilities, UIDs, no_new_privs, seccomp, mounts), so that taking that leg away makes the attempt succeed.
import { spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import {
  AF,
  address,
  type Answer,
  bind,
  close,
  connect as connectSocket,
  interfaceIndex,
  KIND,
  ping,
  PROTO,
  receive,
  send,
  socket,
} from "./sockets.ts";

export type Surroundings = {
  /** Addresses that answer TCP, UDP and ICMP when nothing stops the agent. */
  readonly out4: string;
  readonly out6: string;
  readonly port: number;
  /** The pod's own address, its interface, and the guardian's ports that are not the agent's. */
  readonly pod4: string;
  readonly device: string;
  readonly closedPorts: readonly number[];
  readonly guardianUid: number;
  /** Further places that must not answer, such as the API server; one that merely accepts has answered. */
  readonly places?: readonly { readonly name: string; readonly host: string; readonly port: number }[];
  /** A shell with the set-UID bit of the guardian's UID, where the image has one. */
  readonly setuidShell?: string;
};

export type Attempt = {
  readonly name: string;
  readonly leg: "lock" | "shape";
  readonly tried: string;
  /** What answered, or what stopped it. */
  readonly run: (at: Surroundings) => Promise<{ open: boolean; by: string }>;
};

const MS = 500;
export const shown = (answer: Answer): string => ("error" in answer ? answer.error : "done");

/** Link-local addresses need their interface. */
const zoned = (at: Surroundings, host: string): string =>
  host.startsWith("fe80:") ? `${host}%${at.device}` : host;
const scopeOf = (at: Surroundings, host: string): number =>
  host.startsWith("fe80:") ? interfaceIndex(at.device) : 0;

export const dialTcp = (
  host: string,
  port: number,
  ms = MS,
  ask = "",
): Promise<{ open: boolean; by: string }> =>
  new Promise((resolve) => {
    const stream = connect({ host, port });
    const done = (open: boolean, by: string): void => {
      clearTimeout(timer);
      stream.destroy();
      resolve({ open, by });
    };
    const timer = setTimeout(() => done(false, "silence"), ms);
    if (ask !== "") stream.write(ask);
    stream.on("data", (data) => done(true, `answer ${data.toString().slice(0, 20)}`));
    // A refusal has come from somewhere, except on loopback, where the kernel itself refuses.
    stream.on("error", (error: NodeJS.ErrnoException) =>
      done(error.code === "ECONNREFUSED" && !host.startsWith("127.") && host !== "::1", error.code ?? ""),
    );
  });

const accepts = (host: string, port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const stream = connect({ host, port });
    const done = (open: boolean): void => {
      clearTimeout(timer);
      stream.destroy();
      resolve(open);
    };
    const timer = setTimeout(() => done(false), MS);
    stream.on("connect", () => done(true));
    stream.on("error", (error: NodeJS.ErrnoException) => done(error.code === "ECONNREFUSED"));
  });

const askUdp = (host: string, port: number, bytes: Buffer): Promise<{ open: boolean; by: string }> =>
  new Promise((resolve) => {
    const datagrams = createSocket(host.includes(":") ? "udp6" : "udp4");
    let by = "silence";
    const done = (open: boolean): void => {
      clearTimeout(timer);
      datagrams.close();
      resolve({ open, by });
    };
    const timer = setTimeout(() => done(false), MS);
    datagrams.on("message", () => {
      by = "answer";
      done(true);
    });
    datagrams.on("error", (error: NodeJS.ErrnoException) => void (by = error.code ?? ""));
    datagrams.send(bytes, port, host, (error) => {
      if (error !== null && "code" in error) by = String(error.code);
    });
  });

const echo = async (host: string, scope = 0): Promise<{ open: boolean; by: string }> => {
  const { sent, answered } = await ping(host, MS, scope);
  return { open: answered, by: answered ? "echo reply" : "error" in sent ? sent.error : "silence" };
};

/** Sends bytes by any kind of socket and waits for anything to come back. */
export const exchange = async (
  opened: Answer,
  bytes: Buffer,
  to: Buffer,
  prepare?: (fd: number) => Answer,
): Promise<{ open: boolean; by: string }> => {
  if ("error" in opened) return { open: false, by: `socket: ${opened.error}` };
  try {
    const ready = prepare?.(opened.value);
    if (ready !== undefined && "error" in ready) return { open: false, by: `prepare: ${ready.error}` };
    const sent = send(opened.value, bytes, to);
    const reply = await receive(opened.value, MS);
    return {
      open: reply !== undefined,
      by: reply === undefined ? `send: ${shown(sent)}` : `${reply.length} bytes back`,
    };
  } finally {
    close(opened.value);
  }
};

const checksum = (bytes: Buffer): number => {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
};
const withChecksum = (bytes: Buffer, at: number): Buffer => {
  bytes.writeUInt16BE(checksum(bytes), at);
  return bytes;
};
const octets = (host: string): number[] => host.split(".").map(Number);
const ECHO = withChecksum(Buffer.from([8, 0, 0, 0, 0x61, 0x74, 0, 1, ...Buffer.from("atoll!")]), 2);

/** An ICMP echo as a whole Ethernet frame, to everybody on the link: passes no netfilter hook of this namespace. */
const frame = (at: Surroundings): Buffer => {
  const head = withChecksum(
    Buffer.from([
      0x45,
      0,
      0,
      20 + ECHO.length,
      0,
      0,
      0,
      0,
      64,
      1,
      0,
      0,
      ...octets(at.pod4),
      ...octets(at.out4),
    ]),
    10,
  );
  const mac = readFileSync(`/sys/class/net/${at.device}/address`, "utf8")
    .trim()
    .split(":")
    .map((byte) => Number.parseInt(byte, 16));
  return Buffer.concat([Buffer.from([255, 255, 255, 255, 255, 255, ...mac, 8, 0]), head, ECHO]);
};

const packetSocket = async (at: Surroundings): Promise<{ open: boolean; by: string }> => {
  const opened = socket(AF.PACKET, KIND.RAW, 0x0008);
  if ("error" in opened) return { open: false, by: `socket: ${opened.error}` };
  const where = Buffer.alloc(20);
  where.writeUInt16LE(AF.PACKET, 0);
  where.writeUInt16BE(0x0800, 2);
  where.writeInt32LE(interfaceIndex(at.device), 4);
  const bound = bind(opened.value, where);
  const sent = send(opened.value, frame(at), where);
  for (let turn = 0; turn < 20; turn++) {
    const got = await receive(opened.value, 50);
    if (got?.[23] === 1 && got[34] === 0 && got[38] === 0x61) return { open: true, by: "echo reply" };
  }
  close(opened.value);
  return { open: false, by: `bind: ${shown(bound)}, send: ${shown(sent)}` };
};

/** Runs in a process of its own what changes the process for good. */
const inChild = (program: string): { open: boolean; by: string } => {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", program],
    { timeout: 5000 },
  );
  const said = stdout.toString().trim();
  return {
    open: said.startsWith("OPEN"),
    by: said === "" ? (stderr.toString().trim().split("\n").at(-1) ?? "nothing said") : said,
  };
};
const here = new URL("./attempts.ts", import.meta.url).href;
const sockets = new URL("./sockets.ts", import.meta.url).href;
export const dialAfter = (at: Surroundings, step: string): { open: boolean; by: string } =>
  inChild(
    `import { dialTcp } from "${here}"; import * as s from "${sockets}"; import { writeFileSync } from "node:fs"; const before = ${step}; const { open, by } = await dialTcp("${at.out4}", ${at.port}); console.log((open ? "OPEN " : "") + JSON.stringify(before) + ", then " + by); process.exit();`,
  );

const program = (file: string, ...args: readonly string[]): { open: boolean; by: string } => {
  const { status, stderr, error } = spawnSync(file, args, { timeout: 5000 });
  if (error !== undefined) return { open: false, by: "code" in error ? String(error.code) : error.message };
  return { open: status === 0, by: stderr.toString().trim().split("\n").at(-1) ?? "" };
};

const QUESTION = Buffer.from([
  0x61,
  0x74,
  1,
  0,
  0,
  1,
  0,
  0,
  0,
  0,
  0,
  0,
  6,
  ...Buffer.from("secret"),
  4,
  ...Buffer.from("exam"),
  0,
  0,
  1,
  0,
  1,
]);
const QUIC = Buffer.concat([Buffer.from([0xc0, 0, 0, 0, 1, 8]), Buffer.alloc(1194, 7)]);

const byFamily = (
  list: (family: "IPv4" | "IPv6", out: (at: Surroundings) => string) => Attempt[],
): Attempt[] => [...list("IPv4", (at) => at.out4), ...list("IPv6", (at) => at.out6)];

export const attempts: readonly Attempt[] = [
  ...byFamily((family, out) => [
    {
      name: `tcp-${family}`,
      leg: "lock",
      tried: "dial an address outside",
      run: (at) => dialTcp(zoned(at, out(at)), at.port),
    },
    {
      name: `udp-${family}`,
      leg: "lock",
      tried: "a datagram to an address outside",
      run: (at) => askUdp(zoned(at, out(at)), at.port, Buffer.from("hello")),
    },
    {
      name: `quic-${family}`,
      leg: "lock",
      tried: "a QUIC initial packet",
      run: (at) => askUdp(zoned(at, out(at)), at.port, QUIC),
    },
    {
      name: `icmp-${family}`,
      leg: "lock",
      tried: "an echo by a ping socket",
      run: (at) => echo(out(at), scopeOf(at, out(at))),
    },
    {
      name: `dns-tunnel-${family}`,
      leg: "lock",
      tried: "a question whose name carries data, over UDP and TCP",
      run: async (at) => {
        const datagram = await askUdp(zoned(at, out(at)), at.port, QUESTION);
        return datagram.open ? datagram : dialTcp(zoned(at, out(at)), at.port);
      },
    },
    {
      name: `mptcp-${family}`,
      leg: "lock",
      tried: "multipath TCP",
      run: async (at) => {
        const six = family === "IPv6";
        const opened = socket(six ? AF.INET6 : AF.INET, KIND.STREAM, PROTO.MPTCP);
        // MSG_FASTOPEN is no matter here: the peer speaks first.
        const to = address(out(at), at.port, scopeOf(at, out(at)));
        return exchange(opened, Buffer.alloc(0), to, (fd) => {
          connectSocket(fd, to);
          return { value: 0 };
        });
      },
    },
  ]),
  {
    name: "icmp-neighbours",
    leg: "lock",
    tried: "an echo to everybody on the link (ff02::1)",
    run: (at) => echo("ff02::1", interfaceIndex(at.device)),
  },
  ...[15070, 15090].map(
    (port): Attempt => ({
      name: `guardian-port-${port}`,
      leg: "lock",
      tried: `the guardian's port ${port} by loopback and by the pod's address`,
      run: async (at) => {
        if (!at.closedPorts.includes(port)) return { open: false, by: "nobody listens" };
        for (const host of ["127.0.0.1", "::1", "127.0.0.2", at.pod4]) {
          const result = await dialTcp(host, port, MS, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
          if (result.open) return result;
        }
        return { open: false, by: "silence" };
      },
    }),
  ),
  {
    name: "places",
    leg: "lock",
    tried: "TCP and UDP to the node, the API server, the name server and whatever else was named",
    run: async (at) => {
      const results = await Promise.all(
        (at.places ?? []).flatMap(({ name, host, port }) => [
          accepts(host, port).then((open) => (open ? `${name} TCP` : "")),
          askUdp(host, port, QUESTION).then(({ open }) => (open ? `${name} UDP` : "")),
        ]),
      );
      const open = results.filter((each) => each !== "");
      return { open: open.length > 0, by: open.length > 0 ? open.join(", ") : "silence" };
    },
  },
  {
    name: "metadata",
    leg: "lock",
    tried: "169.254.169.254 by TCP",
    run: () => dialTcp("169.254.169.254", 80),
  },
  {
    name: "raw-socket",
    leg: "shape",
    tried: "an ICMP echo by a raw socket as another's UID",
    run: async (at) => {
      // A raw socket alone is stopped by the lock too; what the shape closes is making one at all.
      const opened = socket(AF.INET, KIND.RAW, PROTO.ICMP);
      if ("error" in opened) return { open: false, by: `socket: ${opened.error}` };
      close(opened.value);
      return { open: true, by: `a raw socket towards ${at.out4}` };
    },
  },
  {
    name: "packet-socket",
    leg: "shape",
    tried: "a whole Ethernet frame, past every netfilter hook",
    run: packetSocket,
  },
  {
    name: "nft-program",
    leg: "shape",
    tried: "the image's own nft, whose file carries the lock's capability",
    run: async () => {
      const { status, stdout, stderr, error } = spawnSync("/usr/sbin/nft", ["list", "tables"], {
        timeout: 5000,
      });
      const code = error !== undefined && "code" in error ? String(error.code) : stderr.toString().trim();
      // Without the capability a listing is empty, not refused.
      const open = status === 0 && stdout.toString().includes("atoll_lock");
      return { open, by: open ? "the lock's rules" : code.split("\n").at(-1) || "an empty listing" };
    },
  },
  {
    name: "net-admin",
    leg: "shape",
    tried: "flushing the lock, then dialling",
    run: async (at) => {
      const flushed = program("nft", "flush", "ruleset");
      const result = await dialTcp(at.out4, at.port);
      return { open: result.open, by: flushed.open ? result.by : `nft: ${flushed.by}` };
    },
  },
  {
    name: "setuid-call",
    leg: "shape",
    tried: "becoming the guardian's UID by CAP_SETUID, then dialling",
    run: async (at) => dialAfter(at, `s.setresuid(${at.guardianUid})`),
  },
  {
    name: "setuid-file",
    leg: "shape",
    tried: "a set-UID shell of the guardian's UID that dials",
    run: async (at) => {
      if (at.setuidShell === undefined) return { open: false, by: "the image has no such file" };
      const { stdout, stderr } = spawnSync(
        at.setuidShell,
        ["-p", "-c", `exec 3<>/dev/tcp/${at.out4}/${at.port}; read -t 1 -n 6 x <&3; echo $x`],
        { timeout: 2000 },
      );
      const said = stdout.toString().trim();
      return { open: said !== "", by: said === "" ? stderr.toString().trim() || "silence" : said };
    },
  },
];
