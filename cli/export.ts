// `atoll export`: a journal as a pack that an auditor takes away.

import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { ContractError, hashFrom, idFrom, timestampFrom } from "../kernel/contracts/contracts.ts";
import type { SealedNode, SessionId } from "../kernel/contracts/contracts.ts";
import { condensable } from "../kernel/condense/condense.ts";
import type { CondenseOptions } from "../kernel/condense/condense.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";
import type { Signer } from "../kernel/crypto/crypto.ts";
import {
  TAR_END,
  createPack,
  linesOfFile,
  padding,
  readEntry,
  registryFiles,
  tarHeader,
  writeManifest,
} from "../kernel/evidence/evidence.ts";
import type { Entry, PackSummary } from "../kernel/evidence/evidence.ts";
import { readNode } from "../kernel/receipts/receipts.ts";
import { readJournal } from "../sidecar/journal/journal.ts";
import { openStore, registryEvents } from "../operator/ledger/ledger.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";
import { chunksOf } from "./pack.ts";

const USAGE = `usage: atoll export --journal DIR|--ledger PLACE --pod UID [--session S]… [--condense [--before TIME]]
                    [--registry FILE] [--key FILE] -o pack.tar
  --journal  a guardian's journal; it may be in use
  --ledger   the store of a ledger: a folder or \`postgres://…\`; \`--pod\` says whose records
  --registry the trust registry's events, as \`atoll ledger registry\` writes them; a ledger's own goes in by itself
  --session  only this session, each node with the proof that it is in the log (again for more)
  --condense E0 and E1 receipts under a checkpoint give way to the proof that they were there; their inputs go
  --before   with it E2 receipts issued before TIME too (\`2026-11-20T00:00:00.000Z\`); E3 and E4 never go
  --key      the Ed25519 key that signs the manifest; else \`guardian.pem\` in the journal's folder
exit 0 written, 1 the journal is damaged, 2 usage`;

export async function exportPack(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      journal: { type: "string" },
      ledger: { type: "string" },
      pod: { type: "string" },
      session: { type: "string", multiple: true },
      key: { type: "string" },
      registry: { type: "string" },
      condense: { type: "boolean" },
      before: { type: "string" },
      output: { type: "string", short: "o" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (values.output === undefined || (values.journal === undefined) === (values.ledger === undefined))
    throw new UsageError("`-o` and one of `--journal` and `--ledger` are needed", USAGE);
  if ((values.ledger === undefined) !== (values.pod === undefined))
    throw new UsageError("`--pod` goes with `--ledger`", USAGE);
  const keyFile =
    values.key ?? (values.journal === undefined ? undefined : join(values.journal, "guardian.pem"));
  if (keyFile === undefined) throw new UsageError("`--key` is needed with `--ledger`", USAGE);
  if (values.before !== undefined && values.condense !== true)
    throw new UsageError("`--before` goes with `--condense`", USAGE);
  const before = values.before === undefined ? undefined : timestampFrom(values.before, "--before");
  const signer = signerFromPem(readFileSync(keyFile, "utf8"));
  const only = values.session?.map((s) => idFrom("ses", s, "--session"));
  const registry =
    values.registry === undefined
      ? undefined
      : readFileSync(values.registry, "utf8")
          .split("\n")
          .flatMap((line) => (line === "" ? [] : [readNode(line)]));
  const common = {
    ...(registry === undefined ? {} : { registry }),
    signer,
    file: values.output,
    ...(only === undefined ? {} : { sessions: only }),
    ...(values.condense === true ? { condense: before === undefined ? {} : { before } } : {}),
  };
  const summary = await (values.journal === undefined
    ? writeLedgerPack(values.ledger ?? "", values.pod ?? "", common)
    : writeJournalPack({ ...common, dir: values.journal }));
  const left = summary.leftOut === 0 ? "" : `, ${summary.leftOut} left out until a checkpoint covers them`;
  const gone = summary.condensed === 0 ? "" : ` (${summary.condensed} condensed)`;
  io.stdout.write(
    `${values.output}: ${summary.nodes} nodes${gone} of ${summary.sessions.length} sessions${left}, root ${summary.root_hash}\n`,
  );
  return 0;
}

export interface ExportOptions {
  readonly dir: string;
  readonly signer: Signer;
  readonly file: string;
  readonly sessions?: readonly SessionId[];
  readonly condense?: CondenseOptions;
  /** The events of the registry that published the guardian's key. */
  readonly registry?: readonly SealedNode[];
}

/** Writes the pack of a journal's folder; its file appears under its name only when it is whole. */
export async function writeJournalPack(options: ExportOptions): Promise<PackSummary> {
  const reading = readJournal(options.dir);
  const most = reading.live?.record ?? Number.POSITIVE_INFINITY;
  return writePack({
    ...options,
    own: reading.meta.session_id,
    *entries() {
      for (const { line, number } of reading.records()) {
        if (number >= most) return;
        yield readEntry(line);
      }
    },
  });
}

/** The same out of a ledger's store. Its records are spooled first: they are read more than once. */
async function writeLedgerPack(
  place: string,
  pod: string,
  more: Omit<ExportOptions, "dir">,
): Promise<PackSummary> {
  const store = await openStore(place);
  const folder = mkdtempSync(
    join(dirname(more.file) === "" ? tmpdir() : dirname(more.file), ".atoll-export-"),
  );
  const spool = join(folder, "records");
  try {
    const fd = openSync(spool, "w", 0o600);
    try {
      for (let at = 0; ; ) {
        const lines = await store.lines(pod, at, 1000);
        if (lines.length === 0) break;
        writeAll(fd, Buffer.from(`${lines.join("\n")}\n`, "utf8"));
        at += lines.length;
      }
    } finally {
      closeSync(fd);
    }
    const file = {
      path: spool,
      size: statSync(spool).size,
      chunks: (from?: number) => chunksOf(spool, from),
    };
    function* entries(): Generator<Entry> {
      for (const { bytes } of linesOfFile(file)) yield readEntry(bytes);
    }
    const own = ownSession(entries());
    if (own === undefined) throw new ContractError("--pod", `the ledger has no checkpoint of \`${pod}\``);
    const registry = more.registry ?? (await registryEvents(store));
    return await writePack({ ...more, registry, own, entries });
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await store.close();
  }
}
/** A guardian's own session is the one that its checkpoints are in. */
function ownSession(entries: Iterable<Entry>): SessionId | undefined {
  for (const entry of entries)
    if (entry.kind === "node" && entry.sealed.node.kind === "CHECKPOINT") return entry.sealed.node.session_id;
  return undefined;
}

export interface PackSource extends Omit<ExportOptions, "dir"> {
  readonly own: SessionId;
  /** The records in their order; asked for again where some sessions are exported. */
  entries(): Iterable<Entry>;
}

export async function writePack(source: PackSource): Promise<PackSummary> {
  const spool = createSpool(dirname(source.file));
  try {
    const { own, sessions } = source;
    const pack = createPack({
      emit: (path, text) => spool.append(path, text),
      ...(sessions === undefined ? {} : { only: { sessions, own } }),
      ...(source.condense === undefined ? {} : { condense: condensable(source.entries(), source.condense) }),
    });
    for (const { path, text } of registryFiles(source.registry ?? [])) spool.append(path, text);
    for (const entry of source.entries()) pack.add(entry);
    const summary = pack.finish();
    pack.addNamed(() => source.entries());
    const entries = spool.entries();
    const { json, sig } = writeManifest({ ...summary, entries }, source.signer);
    spool.append("manifest.json", json);
    spool.append("manifest.sig", sig);
    spool.writeTar(source.file);
    return summary;
  } finally {
    spool.remove();
  }
}

const BUFFERED = 1 << 18;

/** Files of a pack on their way: in memory while small, beside the target when not. */
function createSpool(near: string) {
  interface Spooled {
    readonly hash: ReturnType<typeof createHash>;
    size: number;
    parts: Buffer[];
    held: number;
    spilled: string | undefined;
  }
  const files = new Map<string, Spooled>();
  let folder: string | undefined;
  const spill = (file: Spooled): void => {
    folder ??= mkdtempSync(join(near === "" ? tmpdir() : near, ".atoll-export-"));
    file.spilled ??= join(folder, String(files.size) + "-" + String(Math.trunc(performance.now() * 1e6)));
    const fd = openSync(file.spilled, "a", 0o600);
    try {
      for (const part of file.parts) writeAll(fd, part);
    } finally {
      closeSync(fd);
    }
    file.parts = [];
    file.held = 0;
  };
  return {
    append(path: string, text: string): void {
      let file = files.get(path);
      if (file === undefined)
        files.set(
          path,
          (file = { hash: createHash("sha256"), size: 0, parts: [], held: 0, spilled: undefined }),
        );
      const bytes = Buffer.from(text, "utf8");
      file.hash.update(bytes);
      file.size += bytes.byteLength;
      file.parts.push(bytes);
      file.held += bytes.byteLength;
      if (file.held > BUFFERED) spill(file);
    },
    entries: () =>
      [...files]
        .map(([path, file]) => ({
          path,
          sha256: hashFrom(`sha256:${file.hash.copy().digest("hex")}`, path),
          size: file.size,
        }))
        .sort((a, b) => (a.path < b.path ? -1 : 1)),
    writeTar(target: string): void {
      const draft = `${target}.draft`;
      const fd = openSync(draft, "w", 0o644);
      try {
        for (const path of [...files.keys()].sort()) {
          const file = files.get(path);
          if (file === undefined) continue;
          writeAll(fd, tarHeader(path, file.size));
          if (file.spilled !== undefined) copyInto(fd, file.spilled);
          for (const part of file.parts) writeAll(fd, part);
          writeAll(fd, new Uint8Array(padding(file.size)));
        }
        writeAll(fd, TAR_END);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(draft, target);
    },
    remove(): void {
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}

function copyInto(fd: number, path: string): void {
  const from = openSync(path, "r");
  try {
    const buffer = Buffer.alloc(1 << 20);
    for (;;) {
      const got = readSync(from, buffer);
      if (got === 0) return;
      writeAll(fd, buffer.subarray(0, got));
    }
  } finally {
    closeSync(from);
  }
}
function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength; ) done += writeSync(fd, bytes, done);
}
