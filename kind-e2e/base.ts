// The ground of both images, where no registry is reachable: Node, nft and the shared libraries that these two
// need, from Debian's packages and Node's own npm package. No shell, no package manager, no other program.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { fileCapability, sha256, type Entry } from "./archive.ts";
import { Failure } from "./failure.ts";
import { cacheFolder, type Report } from "./programs.ts";

/** What is taken apart; only what `libraries` finds needed of it goes in. */
export const debianPackages: readonly string[] = [
  "libc6",
  "libgcc-s1",
  "libstdc++6",
  "libatomic1",
  "nftables",
  "libnftables1",
  "libnftnl11",
  "libmnl0",
  "libxtables12",
  "libjansson4",
  "libgmp10",
  "libedit2",
  "libtinfo6",
  "libbsd0",
  "libmd0",
];

export type Source = {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly sha256: string;
};
export type Base = {
  readonly entries: readonly Entry[];
  readonly debian: readonly Source[];
  readonly node: { readonly package: string; readonly version: string; readonly sha256: string };
};

const call = (command: string, args: readonly string[], folder?: string): string => {
  const done = spawnSync(command, args, {
    encoding: "utf8",
    maxBuffer: 1 << 26,
    ...(folder === undefined ? {} : { cwd: folder }),
  });
  if (done.error) throw new Failure(`\`${command}\`: ${done.error.message}`);
  if (done.status !== 0)
    throw new Failure(`\`${command} ${args.join(" ")}\`: ${done.stderr.trim().slice(-2000)}`);
  return done.stdout;
};

/** Downloads Debian's packages by apt, which checks their signatures, and takes them apart. */
const unpacked = (folder: string, report: Report): Source[] => {
  const debs = join(folder, "debs");
  const root = join(folder, "root");
  const finished = join(folder, "sources.json");
  if (existsSync(finished)) return JSON.parse(readFileSync(finished, "utf8"));
  if (spawnSync("strip", ["--version"]).error && process.getuid?.() === 0) {
    report("base image: strip is missing, binutils is installed");
    spawnSync("apt-get", ["update"]);
    spawnSync("apt-get", ["install", "--yes", "--no-install-recommends", "binutils"], {
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    });
  }
  for (const tool of ["apt-get", "dpkg-deb", "strip"])
    if (spawnSync(tool, ["--version"]).error)
      throw new Failure(
        `the base image is made with ${tool}, which is not here; name another base (BASE) or use Debian`,
      );
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(debs, { recursive: true });
  mkdirSync(root);
  report(`base image: ${debianPackages.length} Debian packages are fetched`);
  const download = (): void => {
    call("apt-get", ["-o", "APT::Sandbox::User=root", "download", ...debianPackages], debs);
  };
  try {
    download();
  } catch (error) {
    // Old lists name packages that are no longer there.
    if (process.getuid?.() !== 0) throw error;
    call("apt-get", ["update"]);
    download();
  }
  const sources = readdirSync(debs)
    .sort()
    .map((file): Source => {
      const path = join(debs, file);
      const fields = call("dpkg-deb", [
        "--show",
        "--showformat=${Package}\\t${Version}\\t${Architecture}",
        path,
      ]).split("\t");
      const [name = "", version = "", architecture = ""] = fields;
      call("dpkg-deb", ["--extract", path, root]);
      return { name, version, architecture, sha256: sha256(readFileSync(path)) };
    });
  rmSync(debs, { recursive: true });
  writeFileSync(finished, JSON.stringify(sources, null, 2));
  return sources;
};

/** The files that a program's loader asks for, as the loader itself says: `name => path`. */
export function parseLoaderList(text: string): string[] {
  const found: string[] = [];
  for (const line of text.split("\n")) {
    if (/not found/u.test(line)) throw new Failure(`a library is missing: ${line.trim()}`);
    const [, path] = /=>\s+(\/\S+)\s+\(/u.exec(line) ?? [];
    if (path !== undefined) found.push(path);
  }
  return found;
}

type Platform = { readonly multiarch: string; readonly loader: string; readonly loaderFolder: string };
const platform = (): Platform =>
  process.arch === "arm64"
    ? { multiarch: "aarch64-linux-gnu", loader: "ld-linux-aarch64.so.1", loaderFolder: "lib" }
    : { multiarch: "x86_64-linux-gnu", loader: "ld-linux-x86-64.so.2", loaderFolder: "lib64" };

/** Everything of the base, as entries of a layer; the work is kept in the cache under the packages' names. */
export function makeBase(report: Report): Base {
  const require = createRequire(import.meta.url);
  const nodePackage = `node-linux-${process.arch}`;
  const nodeFolder = dirname(require.resolve(`${nodePackage}/package.json`));
  const nodeVersion: string = JSON.parse(readFileSync(join(nodeFolder, "package.json"), "utf8")).version;
  const key = createHash("sha256")
    .update(JSON.stringify([debianPackages, nodeVersion, process.arch]))
    .digest("hex")
    .slice(0, 16);
  const folder = join(cacheFolder(), `base-${key}`);
  const root = join(folder, "root");
  const sources = unpacked(folder, report);

  const original = join(nodeFolder, "bin", "node");
  const node = join(folder, "node");
  if (!existsSync(node)) {
    call("strip", ["--strip-all", "-o", `${node}.new`, original]);
    renameSync(`${node}.new`, node);
  }
  const { multiarch, loader, loaderFolder } = platform();
  // What a link in there leads to must be in there too: an absolute one would lead to this machine's own file.
  const held = (file: string): string => {
    const real = realpathSync(file);
    if (!real.startsWith(`${root}/`)) throw new Failure(`${file} leads out of Debian's packages, to ${real}`);
    return real;
  };
  const nft = held(join(root, "usr/sbin/nft"));
  const loaderFile = held(join(root, "lib", multiarch, loader));
  const search = [`lib/${multiarch}`, `usr/lib/${multiarch}`].map((p) => join(root, p)).join(":");
  const libraries = new Map<string, Entry>();
  for (const program of [node, nft])
    for (const path of parseLoaderList(call(loaderFile, ["--library-path", search, "--list", program]))) {
      const name = basename(path);
      // Under the name that is asked for, with the content of what it leads to: no links to follow.
      if (name !== loader)
        libraries.set(name, {
          path: `usr/lib/${multiarch}/${name}`,
          mode: 0o755,
          from: { file: held(path) },
        });
    }
  const ids = [
    ["atoll-lock", 64521],
    ["atoll-gate", 64522],
    ["atoll-guardian", 64523],
    ["atoll-operator", 65532],
  ] as const;
  const licences = sources
    .map(({ name }) => join(root, "usr/share/doc", name, "copyright"))
    .filter((file) => existsSync(file));
  const entries: Entry[] = [
    ...libraries.values(),
    // As in Debian, /lib is /usr/lib: programs name the loader by its old path.
    { path: "lib", from: { link: "usr/lib" } },
    ...(loaderFolder === "lib" ? [] : [{ path: loaderFolder, from: { link: `usr/${loaderFolder}` } }]),
    { path: `usr/${loaderFolder}/${loader}`, mode: 0o755, from: { file: loaderFile } },
    { path: "usr/bin/node", mode: 0o755, from: { file: node } },
    // The lock need not be root: the file carries the one capability it uses, for its own user's group only.
    { path: "usr/sbin/nft", mode: 0o755, from: { file: nft }, capability: fileCapability(12) },
    {
      path: "etc/passwd",
      from: { text: ids.map(([name, id]) => `${name}:x:${id}:${id}::/:/nonexistent\n`).join("") },
    },
    { path: "etc/group", from: { text: ids.map(([name, id]) => `${name}:x:${id}:\n`).join("") } },
    { path: "tmp", mode: 0o1777, from: { folder: true } },
    ...licences.map((file): Entry => ({ path: relative(root, file), from: { file: held(file) } })),
    { path: "usr/share/doc/node/copyright", from: { file: join(nodeFolder, "LICENSE") } },
  ];
  return {
    entries,
    debian: sources,
    node: { package: nodePackage, version: nodeVersion, sha256: sha256(readFileSync(original)) },
  };
}
