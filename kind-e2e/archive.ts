// Image archives, written byte for byte the same from the same files: entries sorted, times zero, owners explicit.
// What is written here needs no builder, no daemon and no registry, and any runtime can import it.
import { createHash } from "node:crypto";
import { closeSync, createReadStream, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { constants, createGzip } from "node:zlib";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import { Failure } from "./failure.ts";

export type Entry = {
  /** Without a leading slash. Folders above it are made as needed, owned by root, mode 0755. */
  readonly path: string;
  readonly mode?: number;
  readonly owner?: number;
  readonly from:
    | { readonly file: string }
    | { readonly text: string | Uint8Array }
    | { readonly link: string }
    | { readonly folder: true };
  /** The value of the extended attribute security.capability. */
  readonly capability?: Uint8Array;
};

export type ImageConfig = {
  readonly user?: string;
  readonly entrypoint: readonly string[];
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly workingFolder?: string;
  readonly labels?: Readonly<Record<string, string>>;
};

const block = 512;
const padding = (size: number): Buffer => Buffer.alloc((block - (size % block)) % block);

const octal = (value: number, width: number): string => {
  const text = value.toString(8).padStart(width - 1, "0");
  if (text.length > width - 1) throw new Failure(`too large for a tar header: ${value}`);
  return `${text}\0`;
};

const header = (
  path: string,
  type: string,
  mode: number,
  owner: number,
  size: number,
  link: string,
): Buffer => {
  const bytes = Buffer.alloc(block);
  bytes.write(path.slice(0, 100), 0, "utf8");
  bytes.write(octal(mode, 8), 100, "ascii");
  bytes.write(octal(owner, 8), 108, "ascii");
  bytes.write(octal(owner, 8), 116, "ascii");
  bytes.write(octal(size, 12), 124, "ascii");
  bytes.write(octal(0, 12), 136, "ascii");
  bytes.write(" ".repeat(8), 148, "ascii");
  bytes.write(type, 156, "ascii");
  bytes.write(link.slice(0, 100), 157, "utf8");
  bytes.write("ustar\x0000", 257, "latin1");
  let sum = 0;
  for (const byte of bytes) sum += byte;
  bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "ascii");
  return bytes;
};

// The length of a pax record counts its own digits.
const paxRecord = (key: string, value: Uint8Array): Buffer => {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, "utf8"), value, Buffer.from("\n")]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
};

const withFolders = (entries: readonly Entry[]): Entry[] => {
  const all = new Map<string, Entry>();
  for (const entry of entries) {
    const parts = entry.path.split("/");
    if (parts.some((p) => p === "" || p === "." || p === ".."))
      throw new Failure(`not a path inside an image: \`${entry.path}\``);
    for (let i = 1; i < parts.length; i++) {
      const path = parts.slice(0, i).join("/");
      if (!all.has(path)) all.set(path, { path, from: { folder: true } });
    }
    const before = all.get(entry.path);
    if (before && !("folder" in before.from)) throw new Failure(`twice in one image: \`${entry.path}\``);
    all.set(entry.path, entry);
  }
  return [...all.values()].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
};

async function* tar(entries: readonly Entry[]): AsyncGenerator<Buffer> {
  for (const { path, from, owner = 0, mode, capability } of withFolders(entries)) {
    const pax: Buffer[] = [];
    const link = "link" in from ? from.link : "";
    if (Buffer.byteLength(path) > 99) pax.push(paxRecord("path", Buffer.from(path)));
    if (Buffer.byteLength(link) > 99) pax.push(paxRecord("linkpath", Buffer.from(link)));
    if (capability) pax.push(paxRecord("SCHILY.xattr.security.capability", capability));
    if (pax.length > 0) {
      const records = Buffer.concat(pax);
      yield Buffer.concat([
        header("pax", "x", 0o644, 0, records.length, ""),
        records,
        padding(records.length),
      ]);
    }
    if ("folder" in from) yield header(`${path}/`, "5", mode ?? 0o755, owner, 0, "");
    else if ("link" in from) yield header(path, "2", 0o777, owner, 0, link);
    else if ("text" in from) {
      const body = Buffer.from(from.text);
      yield Buffer.concat([
        header(path, "0", mode ?? 0o644, owner, body.length, ""),
        body,
        padding(body.length),
      ]);
    } else {
      const { size } = statSync(from.file);
      yield header(path, "0", mode ?? 0o644, owner, size, "");
      let read = 0;
      for await (const chunk of createReadStream(from.file, { highWaterMark: 1 << 20 })) {
        if (!Buffer.isBuffer(chunk)) throw new Failure(`${from.file}: text where bytes were asked for`);
        read += chunk.length;
        yield chunk;
      }
      if (read !== size) throw new Failure(`${from.file} changed while it was read`);
      yield padding(size);
    }
  }
  yield Buffer.alloc(2 * block);
}

export const sha256 = (bytes: Uint8Array | string): string =>
  createHash("sha256").update(bytes).digest("hex");

type Blob = {
  readonly digest: string;
  readonly size: number;
  readonly from: { text: string } | { file: string };
};
const textBlob = (value: unknown): Blob => {
  const text = JSON.stringify(value);
  return { digest: sha256(text), size: Buffer.byteLength(text), from: { text } };
};

/** Writes a layer beside `target` and says the digests of its two forms: the tar itself, and what is stored. */
const writeLayer = async (
  entries: readonly Entry[],
  file: string,
  compress: boolean,
): Promise<{ diff: string; blob: Blob }> => {
  const diff = createHash("sha256");
  const stored = createHash("sha256");
  let size = 0;
  const descriptor = openSync(file, "w", 0o600);
  const keep = async (source: AsyncIterable<Buffer>): Promise<void> => {
    for await (const chunk of source) {
      stored.update(chunk);
      size += chunk.length;
      for (let done = 0; done < chunk.length; ) done += writeSync(descriptor, chunk, done);
    }
  };
  const told = async function* (): AsyncGenerator<Buffer> {
    for await (const chunk of tar(entries)) {
      diff.update(chunk);
      yield chunk;
    }
  };
  try {
    if (compress)
      await pipeline(Readable.from(told()), createGzip({ level: constants.Z_BEST_COMPRESSION }), keep);
    else await keep(told());
  } finally {
    closeSync(descriptor);
  }
  return {
    diff: `sha256:${diff.digest("hex")}`,
    blob: { digest: stored.digest("hex"), size, from: { file } },
  };
};

export type Image = {
  /** NAME:TAG under which importers file it. */
  readonly reference: string;
  /** Digest of the manifest, `sha256:…`. */
  readonly digest: string;
  readonly bytes: number;
};

/** Writes an OCI image archive of these layers, which `ctr images import`, `buildah`, `podman` and `kind load` take. */
export async function writeImage(
  target: string,
  reference: string,
  layers: readonly (readonly Entry[])[],
  config: ImageConfig,
  options: { readonly compress?: boolean } = {},
): Promise<Image> {
  const written: { diff: string; blob: Blob }[] = [];
  for (const [index, entries] of layers.entries())
    written.push(await writeLayer(entries, `${target}.layer${index}`, options.compress ?? false));
  const epoch = "1970-01-01T00:00:00Z";
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  const configBlob = textBlob({
    architecture,
    os: "linux",
    created: epoch,
    config: {
      ...(config.user === undefined ? {} : { User: config.user }),
      ...(config.environment === undefined
        ? {}
        : { Env: Object.entries(config.environment).map(([name, value]) => `${name}=${value}`) }),
      Entrypoint: config.entrypoint,
      ...(config.command === undefined ? {} : { Cmd: config.command }),
      WorkingDir: config.workingFolder ?? "/",
      ...(config.labels === undefined ? {} : { Labels: config.labels }),
    },
    rootfs: { type: "layers", diff_ids: written.map((layer) => layer.diff) },
    history: written.map(() => ({ created: epoch, created_by: "atoll" })),
  });
  const descriptor = (mediaType: string, blob: Blob): object => ({
    mediaType,
    digest: `sha256:${blob.digest}`,
    size: blob.size,
  });
  const manifest = textBlob({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: descriptor("application/vnd.oci.image.config.v1+json", configBlob),
    layers: written.map((layer) =>
      descriptor(`application/vnd.oci.image.layer.v1.tar${options.compress ? "+gzip" : ""}`, layer.blob),
    ),
  });
  const index = textBlob({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [
      {
        ...descriptor("application/vnd.oci.image.manifest.v1+json", manifest),
        annotations: {
          "io.containerd.image.name": reference,
          "org.opencontainers.image.ref.name": reference.slice(reference.lastIndexOf(":") + 1),
        },
        platform: { architecture, os: "linux" },
      },
    ],
  });
  const blobs = [configBlob, manifest, ...written.map((l) => l.blob)].map((b) => ({
    path: `blobs/sha256/${b.digest}`,
    from: b.from,
  }));
  const descriptorOut = openSync(`${target}.new`, "w", 0o600);
  let bytes = 0;
  try {
    for await (const chunk of tar([
      { path: "oci-layout", from: { text: '{"imageLayoutVersion":"1.0.0"}' } },
      { path: "index.json", from: index.from },
      ...blobs,
    ])) {
      bytes += chunk.length;
      for (let done = 0; done < chunk.length; ) done += writeSync(descriptorOut, chunk, done);
    }
  } finally {
    closeSync(descriptorOut);
  }
  for (const index of layers.keys()) rmSync(`${target}.layer${index}`);
  renameSync(`${target}.new`, target);
  return { reference, digest: `sha256:${manifest.digest}`, bytes };
}

/**
 * A `security.capability` attribute, revision 2: these bits permitted, and effective at exec. Bit 12 is NET_ADMIN.
 */
export function fileCapability(...capabilities: readonly number[]): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt32LE(0x02000001, 0);
  let low = 0;
  for (const bit of capabilities) {
    if (bit > 31) throw new Failure(`capability ${bit} is beyond the first word`);
    low |= 1 << bit;
  }
  bytes.writeUInt32LE(low >>> 0, 4);
  return bytes;
}
