// The demo's agent that tries to get out: as `atoll guard --island` runs it, and what it finds outside to be reached.

import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { createSocket } from "node:dgram";
import { networkInterfaces } from "node:os";
import { join } from "node:path";

/** Why no command can be shut in here; undefined when one can. */
export function whyNoIsland(): string | undefined {
  if (process.platform !== "linux") return "it needs Linux";
  if (process.getuid?.() !== 0) return "it needs root";
  const missing = ["unshare", "nsenter", "setpriv", "ip", "nft", "mount"].filter(
    (tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0,
  );
  if (missing.length > 0) return `it needs ${missing.join(", ")} (util-linux, iproute2, nftables)`;
  // A container has the root, and often not the right to make namespaces or to load rules.
  const made = spawnSync(
    "unshare",
    [
      "--net",
      "--mount",
      "sh",
      "-c",
      "ip link set lo up && nft add table inet atoll_demo && mount -t tmpfs tmpfs /mnt",
    ],
    { encoding: "utf8" },
  );
  return made.status === 0
    ? undefined
    : `this machine lets nobody make one: ${(made.stderr || String(made.error ?? "")).trim().split("\n", 1)[0] ?? ""}`;
}

export interface Attempts {
  /** What the guardian answered to the agent's call. */
  readonly call: string;
  /** What was tried and what came of it; "REACHED" is the word that must not come. */
  readonly tried: readonly (readonly [what: string, came: string])[];
  readonly code: number | null;
  /** Connections and datagrams that arrived outside. */
  readonly arrived: number;
  /** What the guardian said besides its decisions. */
  readonly words: string;
}

const AGENT = `import { readFileSync, readdirSync } from "node:fs";
import { connect } from "node:net";
import { createSocket } from "node:dgram";
const { tcp, udp, addresses, files } = JSON.parse(process.argv[2]);
const dial = (host, port, first = "") => new Promise((resolve) => {
  const socket = connect({ host, port }, () => socket.write(first));
  const end = (word) => { socket.destroy(); resolve(word); };
  socket.setTimeout(1000, () => end("silence"));
  socket.on("data", (data) => end(String(data).includes("outside") ? "REACHED" : String(data).split("\\r\\n", 1)[0]));
  socket.on("error", (error) => end(error.code));
});
const send = (host) => new Promise((resolve) => {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  const end = (word) => { socket.close(); resolve(word); };
  const timer = setTimeout(() => end("silence"), 1000);
  const over = (word) => { clearTimeout(timer); end(word); };
  socket.on("message", () => over("REACHED"));
  socket.on("error", (error) => over(error.code));
  socket.send("out", udp, host, (error) => error && over(error.code));
});
const read = (path) => { try { readFileSync(path); return "REACHED"; } catch (error) { return error.code; } };
const proxy = new URL(process.env.HTTPS_PROXY);
const tried = [
  ...addresses.flatMap((host) => [
    ["TCP to " + host, dial(host, tcp)],
    ["UDP to " + host, send(host)],
    ["CONNECT to " + host, dial(proxy.hostname, Number(proxy.port), "CONNECT " + (host.includes(":") ? "[" + host + "]" : host) + ":" + tcp + " HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")],
  ]),
  ["TCP to the machine's loopback", dial("127.0.0.1", tcp)],
  ["TCP to the metadata address", dial("169.254.169.254", 80)],
  ...files.map((path) => ["reading " + path.split("/").at(-1), read(path)]),
  ["other programs in /proc", readdirSync("/proc").filter((n) => /^[0-9]+$/.test(n)).some((n) => { try { return readFileSync("/proc/" + n + "/cmdline", "utf8").includes("atoll.ts"); } catch { return false; } }) ? "REACHED" : "none"],
];
const call = await fetch(new URL("/mcp/v1/execute", process.env.ATOLL_SESSION_URL), {
  method: "POST",
  body: JSON.stringify({ tool: "tool:github/list_issues", arguments: { repo: "acme/web" } }),
});
const answer = await call.json();
console.log(JSON.stringify({ call: answer.verdict, tried: await Promise.all(tried.map(async ([what, came]) => [what, await came])) }));
`;

/** Runs the agent shut in by `atoll guard --island` with these flags; `files` are what it must not read. */
export async function islandAttempts(
  atoll: string,
  folder: string,
  flags: readonly string[],
  files: readonly string[],
): Promise<Attempts> {
  // The folder that the command runs in is the one it sees; Node too, because a checkout may lie where only root may go.
  const room = join(folder, "agent");
  mkdirSync(room, { mode: 0o755 });
  chmodSync(room, 0o755);
  writeFileSync(join(room, "agent.mjs"), AGENT, { mode: 0o644 });
  copyFileSync(process.execPath, join(room, "node"), constants.COPYFILE_FICLONE);
  chmodSync(join(room, "node"), 0o755);
  const addresses = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter((each) => !each.internal && !each.address.startsWith("fe80"))
    .map((each) => each.address);
  // Of both families where the machine has both.
  const six = addresses.some((address) => address.includes(":"));
  const any = six ? "::" : "0.0.0.0";
  let arrived = 0;
  const listener = createServer((socket) => {
    arrived++;
    socket.on("error", () => undefined);
    socket.end("outside");
  });
  await new Promise<void>((resolve) => listener.listen(0, any, resolve));
  const at = listener.address();
  const tcp = typeof at === "object" && at !== null ? at.port : 0;
  const ear = createSocket(six ? "udp6" : "udp4");
  ear.on("message", (_, from) => {
    arrived++;
    ear.send("outside", from.port, from.address);
  });
  await new Promise<void>((resolve) => ear.bind(0, any, resolve));
  const wanted = { tcp, udp: ear.address().port, addresses, files };
  const out = openSync(join(folder, "agent.out"), "w");
  try {
    const child = spawn(
      process.execPath,
      [
        atoll,
        "guard",
        ...flags,
        "--quiet",
        "--island",
        "--",
        join(room, "node"),
        join(room, "agent.mjs"),
        JSON.stringify(wanted),
      ],
      // A pipe of Node's is a socket, and a socket is taken from the command.
      { cwd: room, stdio: ["ignore", out, "pipe"] },
    );
    let words = "";
    child.stderr?.on("data", (part) => (words += String(part)));
    const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
    const text = readFileSync(join(folder, "agent.out"), "utf8");
    const said: Pick<Attempts, "call" | "tried"> = text === "" ? { call: "", tried: [] } : JSON.parse(text);
    return { ...said, code, arrived, words };
  } finally {
    closeSync(out);
    listener.close();
    ear.close();
  }
}
