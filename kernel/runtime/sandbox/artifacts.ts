// Where modules lie, by hash: a directory (a mounted ConfigMap is one) or an OCI image layout. Whoever owns the place
// can withhold a module, never pass another off: what is read is hashed again.

import { hashFrom } from "../../contracts/contracts.ts";
import type { Hash } from "../../contracts/contracts.ts";
import { sha256 } from "../../crypto/crypto.ts";
import { LIMITS } from "./limits.ts";

/** Reading files is the caller's: the kernel does none. `undefined` where there is no such file. */
export interface ArtifactFiles {
  read(path: string): Promise<Uint8Array | undefined>;
  list(folder: string): Promise<readonly string[]>;
}

export interface ArtifactStore {
  fetch(hash: Hash): Promise<Uint8Array | undefined>;
}
type Place = (hash: Hash, files: ArtifactFiles) => Promise<Uint8Array | undefined>;

const hexOf = (hash: Hash): string => hash.slice("sha256:".length);

/** `<folder>/blobs/sha256/<hex>`, as an OCI image layout has it. */
export const ociLayout =
  (folder: string): Place =>
  (hash, files) =>
    files.read(`${folder}/blobs/sha256/${hexOf(hash)}`);

/** A folder of modules: one named by its hash is found at once, the others (`*.wasm`) by hashing each once. */
export function directory(folder: string): Place {
  const known = new Map<Hash, string>();
  const hashed = new Set<string>();
  return async (hash, files) => {
    for (const name of [`${hexOf(hash)}.wasm`, hexOf(hash)]) {
      const bytes = await files.read(`${folder}/${name}`);
      if (bytes !== undefined) return bytes;
    }
    for (const name of known.has(hash) ? [] : await files.list(folder)) {
      if (!name.endsWith(".wasm") || hashed.has(name)) continue;
      const bytes = await files.read(`${folder}/${name}`);
      hashed.add(name);
      if (bytes !== undefined && bytes.length <= LIMITS.moduleBytes) known.set(sha256(bytes), name);
    }
    const name = known.get(hash);
    return name === undefined ? undefined : files.read(`${folder}/${name}`);
  };
}

/** Asks each place in order; bytes under a wrong hash are as good as none. */
export function artifactStore(files: ArtifactFiles, ...places: readonly Place[]): ArtifactStore {
  return {
    async fetch(asked) {
      const hash = hashFrom(asked, "module");
      for (const place of places) {
        const bytes = await place(hash, files);
        if (bytes !== undefined && sha256(bytes) === hash) return bytes;
      }
      return undefined;
    },
  };
}
