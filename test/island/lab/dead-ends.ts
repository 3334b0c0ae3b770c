// The laboratory's ways that lead nowhere, with or without any leg.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { type Attempt, dialAfter, exchange, shown } from "./attempts.ts";
import {
  AF,
  address,
  bind,
  close,
  KIND,
  PROTO,
  receive,
  setsockopt,
  socket,
  vsockAddress,
} from "./sockets.ts";

/** Ways that no leg has to be taken away for, because they lead nowhere with or without it; they must never open. */
export const deadEnds: readonly Attempt[] = [
  {
    name: "udp-lite",
    leg: "lock",
    tried: "a datagram of UDP-Lite",
    run: (at) =>
      exchange(socket(AF.INET, KIND.DGRAM, PROTO.UDPLITE), Buffer.from("hello"), address(at.out4, at.port)),
  },
  {
    name: "user-namespace",
    leg: "lock",
    tried: "a user namespace in which the agent is the guardian's UID",
    run: async (at) =>
      dialAfter(
        at,
        `[s.unshare(0x10000000), ...((() => { try { writeFileSync("/proc/self/setgroups", "deny"); writeFileSync("/proc/self/uid_map", "${at.guardianUid} ${process.getuid?.() ?? 0} 1"); return ["mapped"]; } catch (error) { return [error.code]; } })())]`,
      ),
  },
  {
    name: "own-namespace",
    leg: "lock",
    tried: "user and network namespaces of its own: root there, but no way on",
    run: async (at) => dialAfter(at, "s.unshare(0x10000000 | 0x40000000)"),
  },
  {
    name: "sctp",
    leg: "lock",
    tried: "SCTP",
    run: (at) =>
      exchange(socket(AF.INET, KIND.SEQPACKET, PROTO.SCTP), Buffer.from("hello"), address(at.out4, at.port)),
  },
  {
    name: "vsock",
    leg: "shape",
    tried: "the hypervisor's socket (CID 2)",
    run: () => exchange(socket(AF.VSOCK, KIND.STREAM, 0), Buffer.from("hello"), vsockAddress(2, 1024)),
  },
  {
    name: "multicast-join",
    leg: "lock",
    tried: "joining a group, so that the kernel reports it outside",
    run: async () => {
      const opened = socket(AF.INET, KIND.DGRAM, PROTO.UDP);
      if ("error" in opened) return { open: false, by: opened.error };
      const joined = setsockopt(opened.value, 0, 35, Buffer.from([239, 1, 2, 3, 0, 0, 0, 0]));
      await receive(opened.value, 300);
      close(opened.value);
      return { open: false, by: `join: ${shown(joined)}; the capture judges` };
    },
  },
  {
    name: "fast-open",
    leg: "lock",
    tried: "data in the first packet (MSG_FASTOPEN)",
    run: async (at) => {
      const opened = socket(AF.INET, KIND.STREAM, PROTO.TCP);
      const cookieless = Buffer.from([1, 0, 0, 0]);
      return exchange(opened, Buffer.from("data"), address(at.out4, at.port), (fd) =>
        setsockopt(fd, 6, 30, cookieless),
      );
    },
  },
  {
    name: "squat",
    leg: "lock",
    tried: "binding the guardian's ports while it lives",
    run: async () => {
      const results = await Promise.all(
        [15080, 15081, 15090].map(async (port) => {
          const opened = socket(AF.INET, KIND.STREAM, PROTO.TCP);
          if ("error" in opened) return opened;
          const bound = bind(opened.value, address("127.0.0.1", port));
          close(opened.value);
          return bound;
        }),
      );
      return { open: results.some((each) => "value" in each), by: results.map(shown).join(" ") };
    },
  },
  {
    name: "kernel-settings",
    leg: "shape",
    tried: "writing to /proc/sys/net",
    run: async () => {
      try {
        writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
        return { open: true, by: "written" };
      } catch (error) {
        return { open: false, by: error instanceof Error && "code" in error ? String(error.code) : "" };
      }
    },
  },
  {
    name: "runtime-socket",
    leg: "shape",
    tried: "the container runtime's socket and the service account's token",
    run: async () => {
      const found = [
        "/run/containerd/containerd.sock",
        "/var/run/docker.sock",
        "/run/crio/crio.sock",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
      ].filter((path) => existsSync(path));
      const reachable = await Promise.all(
        found.map(
          (path) =>
            new Promise<boolean>((resolve) => {
              if (path.endsWith("token")) return resolve(true);
              const stream = connect(path)
                .on("connect", () => resolve(true))
                .on("error", () => resolve(false));
              setTimeout(() => stream.destroy(), 200);
            }),
        ),
      );
      return {
        open: reachable.includes(true),
        by: found.length === 0 ? "not there" : `there, closed: ${found.join(" ")}`,
      };
    },
  },
  {
    name: "abstract-sockets",
    leg: "shape",
    tried: "abstract unix sockets of the pod's other processes",
    run: async () => {
      const names = readFileSync("/proc/net/unix", "utf8")
        .split("\n")
        .map((line) => line.split(/ +/)[7] ?? "")
        .filter((name) => name.startsWith("@"));
      return { open: names.length > 0, by: names.length === 0 ? "none" : names.join(" ") };
    },
  },
  {
    name: "others-processes",
    leg: "shape",
    tried: "files and memory of the guardian's process",
    run: async (at) => {
      const open = readdirSync("/proc")
        .filter((pid) => /^[0-9]+$/.test(pid))
        .filter((pid) => {
          try {
            if (!readFileSync(`/proc/${pid}/status`, "utf8").includes(`Uid:\t${at.guardianUid}`))
              return false;
            return (
              readFileSync(`/proc/${pid}/environ`).length > 0 || readdirSync(`/proc/${pid}/fd`).length > 0
            );
          } catch {
            return false;
          }
        });
      return { open: open.length > 0, by: open.length === 0 ? "unreadable" : open.join(" ") };
    },
  },
];
