// `--island` for real: a command shut in, its benign twin through the guardian, and its attempts to get out.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect, createServer as createTcp, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { basename, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { COMMAND_UID, type IslandExit, type IslandOptions, runIsland } from "../../sidecar/island/island.ts";

const host =
  Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find((each) => !each.internal && each.family === "IPv4")?.address ?? "127.0.0.1";
let work = "";
let outside: Server;
let outsidePort = 0;
const reached: string[] = [];

beforeAll(async () => {
  outside = createTcp((socket) => {
    reached.push(`${socket.remoteAddress}`);
    socket.on("error", () => undefined);
    socket.end("outside");
  });
  await new Promise<void>((resolve) => outside.listen(0, "::", resolve));
  const at = outside.address();
  outsidePort = typeof at === "object" && at !== null ? at.port : 0;
});
afterAll(() => void outside.close());
beforeEach(() => {
  work = mkdtempSync("/var/tmp/atoll-test-");
  execFileSync("chmod", ["777", work]);
  reached.length = 0;
});
afterEach(() => rmSync(work, { recursive: true }));

/** Runs a shell script in an island whose guardian answers `guardian`; what it printed lies in `out`. */
const island = async (
  script: string,
  more: Partial<IslandOptions> = {},
): Promise<IslandExit & { out: string }> => {
  const http = createServer((_, response) => response.end("guardian"));
  const file = join(work, "out");
  writeFileSync(file, "", { mode: 0o666 });
  execFileSync("chmod", ["666", file]);
  const exit = await runIsland({
    command: ["sh", "-c", `exec >${file} 2>&1; ${script}`],
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", OUTSIDE: host, PORT: `${outsidePort}` },
    cwd: work,
    onSockets: ({ api, proxy }) => {
      for (const server of [...api, ...proxy])
        server.on("connection", (socket) => http.emit("connection", socket));
    },
    ...more,
  });
  return { ...exit, out: readFileSync(file, "utf8") };
};
const node = (program: string): string =>
  `${process.execPath} --disable-warning=ExperimentalWarning --input-type=module -e '${program}'`;

test("the command runs under its UID without a capability and reaches the guardian's four sockets", async () => {
  const { code, out } = await island(
    `id -u; id -g; grep -E "^(Cap|NoNewPrivs|Groups|Seccomp:)" /proc/self/status; ${node(
      'for (const h of ["127.0.0.1", "[::1]"]) for (const p of [15080, 15081]) console.log(await (await fetch("http://" + h + ":" + p)).text())',
    )}; exit 7`,
  );
  expect(code).toBe(7);
  const zero = "0000000000000000";
  expect(out.split(/\s+/).join(" ").trim()).toBe(
    `${COMMAND_UID} ${COMMAND_UID} Groups: CapInh: ${zero} CapPrm: ${zero} CapEff: ${zero} CapBnd: ${zero} CapAmb: ${zero} NoNewPrivs: 1 Seccomp: 2 guardian guardian guardian guardian`,
  );
});

test("it is alone: loopback is the only interface, its processes the only ones, its folders empty", async () => {
  const { out } = await island(
    'ip -o link | cut -d" " -f2; echo $(ls /proc | grep -c "^[0-9]"); ls -A /run /tmp /var/tmp | grep -v -e "^/" -e "^$"; ls /dev; ls /sys/class/net',
  );
  const [links, processes, ...rest] = out.trim().split("\n");
  expect(links).toBe("lo:");
  expect(Number(processes)).toBeLessThan(8);
  const devices = [
    "fd",
    "full",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "stderr",
    "stdin",
    "stdout",
    "tty",
    "urandom",
    "zero",
  ];
  // Its own working folder is the one thing kept in /var/tmp; and what it is run by, where that lies in a folder that is emptied.
  const kept = [process.execPath, import.meta.filename].flatMap((path) =>
    ["/run/", "/tmp/", "/var/tmp/"].flatMap((folder) =>
      path.startsWith(folder) ? (path.slice(folder.length).split("/")[0] ?? []) : [],
    ),
  );
  expect(rest.filter((name) => !kept.includes(name))).toEqual([work.split("/").at(-1), ...devices, "lo"]);
});

describe("getting out", () => {
  const dial = (target: string) =>
    node(
      `import { connect } from "node:net"; const s = connect(${target}); s.on("data", (d) => { console.log("REACHED " + d); process.exit() }); s.on("error", (e) => { console.log(e.code); process.exit() }); setTimeout(() => { console.log("silence"); process.exit() }, 700)`,
    );

  test("the control: from outside the island every target answers", async () => {
    const answer = await new Promise((resolve) =>
      connect(outsidePort, host).on("data", (data) => resolve(data.toString())),
    );
    expect(answer).toBe("outside");
    expect(reached).toHaveLength(1);
  });

  test("TCP, UDP and ICMP find no network", async () => {
    const { out } = await island(
      `${dial("process.env.PORT, process.env.OUTSIDE")}; ${dial('{ port: process.env.PORT, host: "127.0.0.1" }')}; ping -c1 -W1 $OUTSIDE >/dev/null 2>&1 && echo REACHED by ping; ${node(
        'import d from "node:dgram"; const s = d.createSocket("udp4"); s.send("x", 53, process.env.OUTSIDE, (e) => { console.log(e?.code); process.exit() })',
      )}`,
    );
    expect(out.trim().split("\n")).toEqual(["ENETUNREACH", "ECONNREFUSED", "ENETUNREACH"]);
    expect(reached).toEqual([]);
  });

  test("unix sockets of the machine, abstract and in files, are out of sight", async () => {
    const servers = await Promise.all(
      ["\0atoll-test-abstract", "/tmp/atoll-test.sock", join(work, "own.sock")].map(
        (path) =>
          new Promise<Server>((resolve) => {
            const server: Server = createTcp((socket) => socket.end("host")).listen(
              path.startsWith("\0") ? { path } : { path, writableAll: true, readableAll: true },
              () => resolve(server),
            );
          }),
      ),
    );
    try {
      const { out } = await island(
        `${dial('"\\0atoll-test-abstract"')}; ${dial('"/tmp/atoll-test.sock"')}; ${dial(`"${join(work, "own.sock")}"`)}`,
      );
      expect(out.trim().split("\n")).toEqual(["ECONNREFUSED", "ENOENT", "ECONNREFUSED"]);
    } finally {
      for (const server of servers) server.close();
    }
  });

  test("other socket families, io_uring and user namespaces are refused", async () => {
    const lab = join(import.meta.dirname, "lab", "sockets.ts");
    const { out } = await island(
      node(
        `import * as s from "${lab}"; for (const [f, k, p] of [[s.AF.VSOCK, 1, 0], [s.AF.PACKET, 3, 0], [s.AF.ALG, 5, 0], [s.AF.XDP, 3, 0], [s.AF.INET, 3, 1]]) console.log(JSON.stringify(s.socket(f, k, p))); console.log(JSON.stringify(s.unshare(0x10000000)), JSON.stringify(s.setresuid(64523)))`,
      ) +
        "; unshare -Ur true && echo REACHED; unshare -n true && echo REACHED; nsenter --net=/proc/1/ns/net true && echo REACHED; nft flush ruleset && echo REACHED",
    );
    expect(out).not.toContain("REACHED");
    expect(out.split("\n").slice(0, 6)).toEqual([
      ...Array(4).fill('{"error":"EAFNOSUPPORT"}'),
      '{"error":"EPERM"}',
      '{"error":"EPERM"} {"error":"EPERM"}',
    ]);
  });

  test("the guardian's files are hidden, the keeper and the gate out of reach", async () => {
    writeFileSync(join(work, "key.pem"), "secret", { mode: 0o644 });
    execFileSync("mkdir", [join(work, "journal")]);
    writeFileSync(join(work, "journal", "1"), "secret");
    const beside = mkdtempSync("/var/tmp/atoll-test-beside-");
    const { out } = await island(
      "cat key.pem; ls journal; cat journal/1; ls /proc/1/root /proc/1/ns; kill -9 1; cd ..; ls; true",
      { hide: [join(work, "key.pem"), join(work, "journal")] },
    );
    expect(out).not.toContain("secret");
    expect(out).toMatch(/Permission denied|No such file/);
    rmSync(beside, { recursive: true });
    // Of the folder above there is the command's own and, where the checkout lies there too, the way to it.
    expect(out.split("\n")).toContain(basename(work));
    expect(out).not.toContain(basename(beside));
  });

  test("a passed socket as standard input is not handed on", async () => {
    const inside = join(import.meta.dirname, "../../sidecar/island/island.ts");
    const file = join(work, "out");
    writeFileSync(file, "");
    execFileSync("chmod", ["666", file]);
    const program = `import { runIsland } from "${inside}"; import { createServer } from "node:http"; const h = createServer((q, r) => r.end());
      await runIsland({ command: ["sh", "-c", "ls -l /proc/self/fd/0 > ${file}"], cwd: "${work}", env: {}, onSockets: ({ api }) => { for (const s of api) s.on("connection", (c) => h.emit("connection", c)) } }); process.exit()`;
    const child = spawn(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", program],
      { stdio: ["pipe", "inherit", "inherit"] },
    );
    await new Promise((resolve) => child.on("exit", resolve));
    expect(readFileSync(file, "utf8")).toContain("/dev/null");
  });
});

test("a guardian that does not serve keeps the command from starting", async () => {
  await expect(island("echo started", { onSockets: () => undefined, proofMs: 6000 })).rejects.toThrow(
    "the guardian did not answer the gate",
  );
  expect(readFileSync(join(work, "out"), "utf8")).toBe("");
});

test("a way out that appears later kills the command, and tells which", async () => {
  const verdicts: string[] = [];
  const name = `at${process.pid}`;
  const started = performance.now();
  const run = island("sleep 60; echo survived", {
    onProof: (verdict) => verdicts.push(verdict.proved ? "proved" : verdict.reason),
  });
  // Somebody with root on the machine gives the island a link and takes its lock away.
  while (verdicts.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  const holder = readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .find((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("opener.ts") &&
          readFileSync(`/proc/${pid}/status`, "utf8").includes(`PPid:\t${process.pid}\n`)
        );
      } catch {
        return false;
      }
    });
  execFileSync("ip", ["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", `${holder}`]);
  try {
    execFileSync("ip", ["addr", "add", "10.78.9.1/24", "dev", name]);
    execFileSync("ip", ["link", "set", name, "up"]);
    const within = (...command: string[]) =>
      execFileSync("nsenter", [`--net=/proc/${holder}/ns/net`, ...command]);
    within("ip", "addr", "add", "10.78.9.2/24", "dev", "eth0");
    within("ip", "link", "set", "eth0", "up");
    within("ip", "route", "add", "default", "via", "10.78.9.1");
    within("nft", "flush", "ruleset");
    const { code, breach, out } = await run;
    expect({ code, out }).toEqual({ code: 125, out: "" });
    expect(breach).toContain("reached from inside the pod: ");
    expect(verdicts.at(-1)).toBe(breach);
    expect(performance.now() - started).toBeLessThan(25_000);
  } finally {
    spawnSync("ip", ["link", "del", name]);
  }
});

test("told to stop, the command gets its signal; nothing is left behind", async () => {
  const stop = new AbortController();
  const before = readdirSync("/tmp").filter((name) => name.startsWith("atoll-island-"));
  const running = island("trap 'echo asked to stop; exit 3' TERM; echo up; while :; do sleep 0.1; done", {
    signal: stop.signal,
  });
  await vi.waitFor(() => expect(readFileSync(join(work, "out"), "utf8")).toBe("up\n"), {
    timeout: 60_000,
    interval: 100,
  });
  stop.abort();
  const { code, out } = await running;
  expect({ code, out }).toEqual({ code: 3, out: "up\nasked to stop\n" });
  expect(readdirSync("/tmp").filter((name) => name.startsWith("atoll-island-"))).toEqual(before);
});

test("a killed guardian takes everything with it", async () => {
  const inside = join(import.meta.dirname, "../../sidecar/island/island.ts");
  const marker = `atoll-${process.pid}-${work.split("-").at(-1)}`;
  const program = `import { runIsland } from "${inside}"; import { createServer } from "node:http"; const h = createServer((q, r) => r.end());
    await runIsland({ command: ["sh", "-c", "touch ${work}/up; exec sleep 60; : ${marker}"], cwd: "${work}", env: { MARKER: "${marker}" }, onSockets: ({ api }) => { for (const s of api) s.on("connection", (c) => h.emit("connection", c)) } })`;
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", program],
    { stdio: "inherit" },
  );
  while (!readdirSync(work).includes("up")) await new Promise((resolve) => setTimeout(resolve, 100));
  const alive = () =>
    readdirSync("/proc")
      .filter((pid) => /^\d+$/.test(pid))
      .filter((pid) => {
        try {
          return (
            readFileSync(`/proc/${pid}/environ`, "utf8").includes(marker) ||
            readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(marker)
          );
        } catch {
          return false;
        }
      });
  expect(alive().length).toBeGreaterThan(1);
  child.kill("SIGKILL");
  await new Promise((resolve) => child.on("exit", resolve));
  for (let turn = 0; turn < 30 && alive().length > 0; turn++)
    await new Promise((resolve) => setTimeout(resolve, 100));
  expect(alive()).toEqual([]);
  for (const name of readdirSync("/tmp").filter((each) => each.startsWith("atoll-island-")))
    rmSync(join("/tmp", name), { recursive: true, force: true });
});

test.each([[{ uid: 0 }], [{ uid: 64_523 }], [{ uid: 1.5 }], [{ command: [] }]])(
  "%j is refused",
  async (more) => {
    await expect(island("true", more)).rejects.toThrow("--");
  },
);

test("a command that its UID cannot run ends with 127", async () => {
  expect(await island("true", { command: ["/nonexistent"] })).toMatchObject({ code: 127 });
});
