// The commands, in the order in which a reader meets them. A command's code is loaded when it is called.

import type { Command } from "./io.ts";

export interface Entry {
  readonly summary: string;
  readonly load: () => Promise<Command>;
}

export const COMMANDS: Readonly<Record<string, Entry>> = {
  keygen: {
    summary: "make an Ed25519 key pair in PEM",
    load: async () => (await import("./keygen.ts")).keygen,
  },
  canonicalize: {
    summary: "write the canonical form (RFC 8785) of the JSON on standard input",
    load: async () => (await import("./canonicalize.ts")).canonicalizeStdin,
  },
  bundle: {
    summary: "build, verify, lint, test and compare policy bundles",
    load: async () => (await import("./bundle/bundle.ts")).bundle,
  },
  export: {
    summary: "write a journal as an evidence pack",
    load: async () => (await import("./export.ts")).exportPack,
  },
  verify: {
    summary: "check an evidence pack or a journal with keys of one's own",
    load: async () => (await import("./verify.ts")).verify,
  },
  replay: {
    summary: "decide every recorded call of a pack again",
    load: async () => (await import("./replay.ts")).replayPack,
  },
  ledger: {
    summary: "keep what guardians ship, and check it with keys of one's own",
    load: async () => (await import("./ledger.ts")).ledger,
  },
  view: {
    summary: "write a page that verifies and shows a pack in a browser",
    load: async () => (await import("./viewer/viewer.ts")).view,
  },
  guard: {
    summary: "govern a command on this machine: guardian and agent in one go",
    load: async () => (await import("./guard.ts")).guard,
  },
  status: {
    summary: "what a guardian on this machine says of itself",
    load: async () => (await import("./admin.ts")).status,
  },
  freeze: {
    summary: "stop agents now, here or in a cluster",
    load: async () => (await import("./freeze.ts")).freeze,
  },
  unfreeze: {
    summary: "let stopped agents go on, with an approver's key",
    load: async () => (await import("./freeze.ts")).unfreeze,
  },
  keys: {
    summary: "have a guardian's key followed by another, or revoke it",
    load: async () => (await import("./keys.ts")).keys,
  },
  approvals: {
    summary: "what waits for a person",
    load: async () => (await import("./approve.ts")).approvals,
  },
  approve: {
    summary: "say yes to exactly one call",
    load: async () => (await import("./approve.ts")).approve,
  },
  reject: {
    summary: "say no to a call that waits",
    load: async () => (await import("./approve.ts")).reject,
  },
  override: {
    summary: "in an emergency: say yes at once, and leave a review open",
    load: async () => (await import("./approve.ts")).override,
  },
  review: {
    summary: "close the review of an override",
    load: async () => (await import("./approve.ts")).review,
  },
  decide: {
    summary: "judge one call from files",
    load: async () => (await import("./decide.ts")).decideCall,
  },
  wasm: {
    summary: "run a WASM module in the sandbox, or say why it would be refused",
    load: async () => (await import("./wasm.ts")).wasm,
  },
  check: {
    summary: "what stands between this cluster and governed agents, with a hint for each",
    load: async () => (await import("./check/check.ts")).check,
  },
  explain: {
    summary: "what happened to a pod, or would happen to a manifest, and why",
    load: async () => (await import("./check/check.ts")).explain,
  },
  "bug-report": {
    summary: "the checks and what they looked at, without secrets",
    load: async () => (await import("./check/check.ts")).bugReport,
  },
  lock: {
    summary: "the egress lock of a network namespace",
    load: async () => (await import("./lock.ts")).lock,
  },
};
