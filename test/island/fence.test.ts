import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { listeningSockets, viewScript } from "../../sidecar/island/mounts.ts";
import { networkFilter } from "../../sidecar/island/seccomp.ts";

/** Runs the filter as the kernel would; only the instructions that it is made of. */
const judge = (arch: "x64" | "arm64", call: { number: number; arch?: number; first?: number }): string => {
  const filter = networkFilter(arch);
  if (filter === undefined) throw new Error(`no filter for ${arch}`);
  const steps = new DataView(filter.buffer);
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, call.number, true);
  data.setUint32(4, call.arch ?? (arch === "x64" ? 0xc000_003e : 0xc000_00b7), true);
  data.setUint32(16, call.first ?? 0, true);
  let held = 0;
  for (let at = 0; at < steps.byteLength; at += 8) {
    const [code, whenTrue, whenFalse, value] = [
      steps.getUint16(at, true),
      steps.getUint8(at + 2),
      steps.getUint8(at + 3),
      steps.getUint32(at + 4, true),
    ];
    const jump = (holds: boolean): void => void (at += 8 * (holds ? whenTrue : whenFalse));
    if (code === 0x20) held = data.getUint32(value, true);
    else if (code === 0x15) jump(held === value);
    else if (code === 0x35) jump(held >= value);
    else if (code === 0x45) jump((held & value) !== 0);
    else if (code === 0x06) return value === 0x7fff_0000 ? "allow" : `errno ${value & 0xffff}`;
    else throw new Error(`instruction ${code}`);
  }
  throw new Error("the filter has no end");
};

describe.each([
  {
    arch: "x64" as const,
    socket: 41,
    pair: 53,
    clone: 56,
    unshare: 272,
    setns: 308,
    read: 0,
    other: 0xc000_00b7,
  },
  {
    arch: "arm64" as const,
    socket: 198,
    pair: 199,
    clone: 220,
    unshare: 97,
    setns: 268,
    read: 63,
    other: 0xc000_003e,
  },
])("the network filter of $arch", ({ arch, socket, pair, clone, unshare, setns, read, other }) => {
  test("allows unix, internet and netlink sockets and no other family", () => {
    for (const number of [socket, pair]) {
      for (let family = 0; family < 64; family++)
        expect(judge(arch, { number, first: family })).toBe(
          [1, 2, 10, 16].includes(family) ? "allow" : "errno 97",
        );
      expect(judge(arch, { number, first: 0xffff_ffff })).toBe("errno 97");
    }
  });

  test("refuses user namespaces, foreign namespaces, io_uring and clone3, and nothing else that is asked here", () => {
    for (const number of [clone, unshare]) {
      expect(judge(arch, { number, first: 0x1000_0000 })).toBe("errno 1");
      expect(judge(arch, { number, first: 0x1000_0011 })).toBe("errno 1");
      expect(judge(arch, { number, first: 0x11 })).toBe("allow");
    }
    expect(judge(arch, { number: setns })).toBe("errno 1");
    expect(judge(arch, { number: 425 })).toBe("errno 38");
    expect(judge(arch, { number: 435 })).toBe("errno 38");
    expect(judge(arch, { number: read })).toBe("allow");
  });

  test("refuses every call of another system call table", () => {
    expect(judge(arch, { number: read, arch: other })).toBe("errno 1");
    expect(judge(arch, { number: read, arch: 0x4000_0003 })).toBe("errno 1");
    if (arch === "x64") expect(judge(arch, { number: 0x4000_0000 + socket, first: 1 })).toBe("errno 1");
  });
});

test("there is no filter for a machine whose calls are not known", () =>
  expect(networkFilter("riscv64")).toBeUndefined());

describe("the view", () => {
  test("sockets with a path are found, with spaces too; abstract and unnamed ones are not", () => {
    const table = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01  1200 /run/dbus/system_bus_socket
0000000000000000: 00000002 00000000 00000000 0002 01  1201 /dev/log
0000000000000000: 00000002 00000000 00010000 0001 01  1202 @abstract
0000000000000000: 00000003 00000000 00000000 0001 03  1203
0000000000000000: 00000002 00000000 00010000 0001 01  1204 /home/a b/x
`;
    expect(listeningSockets(table)).toEqual(["/dev/log", "/home/a b/x", "/run/dbus/system_bus_socket"]);
  });

  test("is a script that a POSIX shell can read, whatever the names", () => {
    const script = viewScript({
      cwd: "/tmp/it's $(here)",
      keep: ["/opt/x"],
      hide: ["/a'b"],
      sockets: ["/home/`x`"],
    });
    expect(spawnSync("sh", ["-n", "-c", script]).status).toBe(0);
    expect(script).toContain(`cd '/tmp/it'\\''s $(here)'`);
    expect(script).not.toContain("/opt/x");
  });

  test("refuses more folders than a shell can hold", () => {
    expect(() =>
      viewScript({ cwd: "/", keep: [1, 2, 3, 4, 5, 6].map((n) => `/tmp/${n}`), hide: [], sockets: [] }),
    ).toThrow("more than 5 folders");
  });
});
