// The door of the evidence: records, the pack that an auditor takes away, and what can be checked with nothing but
// it and keys of one's own.

export { createPack } from "./build.ts";
export type { PackBuilder, PackOptions, PackSummary } from "./build.ts";
export { packContents } from "./contents.ts";
export type { NumberedInput, PackContents, PackLine } from "./contents.ts";
export { PackInvalid, broken } from "./finding.ts";
export type { Finding } from "./finding.ts";
export { NOT_PROVED } from "./limits.ts";
export { WINDOW, apart, argsTextOf, isModelCall, messagesNamed } from "./messages.ts";
export { inputShelf } from "./shelf.ts";
export type { Shelf } from "./shelf.ts";
export { SPEC, writeManifest } from "./manifest.ts";
export type { Manifest, ManifestEntry } from "./manifest.ts";
export { linesOfFile } from "./lines.ts";
export { inputText, readEntry } from "./record.ts";
export type { Entry, InputEntry } from "./record.ts";
export { registeredBy, registryFiles, snapshotText } from "./registered.ts";
export type { Registered } from "./registered.ts";
export { createStoreCheck, verifyStore } from "./store.ts";
export type { StoreCheck, StoreRecord, StoreReport } from "./store.ts";
export { BLOCK, TAR_END, isPackPath, padding, readTar, tarHeader } from "./tar.ts";
export type { PackFile, Source } from "./tar.ts";
export { verifyPack } from "./verify.ts";
export type { CheckedBy, KnownTree, PackReport } from "./verify.ts";
