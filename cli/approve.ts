// `atoll approvals | approve | reject | override | review`: a person sees what would happen, and signs exactly that.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { isObject } from "../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../kernel/contracts/contracts.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";
import type { Signer } from "../kernel/crypto/crypto.ts";
import { signAssertion, signOverride, signReview } from "../kernel/escalation/ceremony/ceremony.ts";
import { DEFAULT_SOCKET, adminOrThrow } from "./admin.ts";
import { UsageError } from "./io.ts";
import type { Command, Io } from "./io.ts";
import { hiddenIn, visible } from "./visible.ts";

const LIST = `usage: atoll approvals [--all] [--json] [--socket PATH]
What waits for a person, and overrides that nobody has reviewed. --all also lists what is over.`;

export async function approvals(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      socket: { type: "string" },
      all: { type: "boolean" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${LIST}\n`);
    return 0;
  }
  const list = await known(values.socket ?? DEFAULT_SOCKET);
  const shown =
    values.all === true
      ? list
      : list.filter((a) => a["state"] === "pending" || a["state"] === "granted" || a["review_open"] === true);
  if (values.json === true) {
    io.stdout.write(`${JSON.stringify(shown)}\n`);
    return 0;
  }
  for (const a of shown)
    io.stdout.write(
      `${textIn(a, "id")}  ${textIn(a, "state").padEnd(8)}  ${visible(textIn(a, "tool"))}  until ${textIn(a, "expires_at")}${a["review_open"] === true ? "  overridden, review is open" : ""}\n`,
    );
  if (shown.length === 0) io.stdout.write("nothing waits for a person\n");
  return 0;
}

type Act = "approve" | "reject" | "override" | "review";
const WHAT: Readonly<Record<Act, string>> = {
  approve:
    "Shows what would happen, asks for the tool's name, and signs with the approver's private key FILE.",
  reject:
    "Shows what would happen, asks for the tool's name, and ends the approval with the approver's key FILE.",
  override: `For an emergency: grants at once, without quorum and timelock, with an override key FILE and a --reason.
The ceiling still holds, and a review stays open until an approver signs it with \`atoll review\`.`,
  review:
    "Closes the review of an override with an approver's private key FILE, after showing what was overridden.",
};
const usageOf = (act: Act): string =>
  `usage: atoll ${act} ID --key FILE${act === "override" ? " --reason R" : ""} [--socket PATH] [--yes-to TOOL]
${WHAT[act]}
--yes-to TOOL answers the question beforehand; what is shown is the same.`;

export const approve: Command = (argv, io) => act("approve", argv, io);
export const reject: Command = (argv, io) => act("reject", argv, io);
export const override: Command = (argv, io) => act("override", argv, io);
export const review: Command = (argv, io) => act("review", argv, io);

async function act(what: Act, argv: readonly string[], io: Io): Promise<number> {
  const usage = usageOf(what);
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      socket: { type: "string" },
      key: { type: "string" },
      reason: { type: "string" },
      "yes-to": { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${usage}\n`);
    return 0;
  }
  const [id, ...more] = positionals;
  if (id === undefined || more.length > 0) throw new UsageError("one approval id is needed", usage);
  if (values.key === undefined) throw new UsageError("--key is missing", usage);
  const reason = values.reason ?? "";
  if (what === "override" && reason === "") throw new UsageError("--reason is missing", usage);
  const signer = signerFromPem(readFileSync(values.key, "utf8"));
  const socket = values.socket ?? DEFAULT_SOCKET;
  const found = (await known(socket)).find((a) => a["id"] === id);
  const challenge = found?.["challenge"];
  if (found === undefined || !isObject(challenge) || challenge["approval_id"] !== id)
    throw new Error(`there is no approval \`${id}\``);
  const shown = challenge["shown"];
  if (
    !isObject(shown) ||
    shown["tool"] !== challenge["tool"] ||
    shown["principal"] !== challenge["principal"]
  )
    throw new Error("the challenge shows another call than it is for");
  const state = textIn(found, "state");
  if (what === "review" ? found["review_open"] !== true : state !== "pending" && state !== "granted")
    throw new Error(what === "review" ? "there is no override to review" : `the approval is ${state}`);
  const interactive = values["yes-to"] === undefined;
  if (!(await shownTo(io, screen(what, found, challenge, shown), interactive))) {
    io.stderr.write("not everything was shown; nothing was signed\n");
    return 1;
  }
  const shownAt = Date.now();
  const tool = textIn(shown, "tool");
  const typed = values["yes-to"] ?? (await question(io, `To ${what}, type the tool's name: `));
  if (typed.trim() !== tool) {
    io.stderr.write(`that is not \`${tool}\`; nothing was signed\n`);
    return 1;
  }
  if (what === "approve") await hold(io, challenge, shownAt);
  const { path, body } = signed(what, { id, found, challenge, reason, shownAt, signer });
  const result = await adminOrThrow(socket, "POST", path, body);
  io.stdout.write(`${DONE[what]} by ${signer.keyId}; the approval is ${textIn(result, "state")}\n`);
  return 0;
}
const DONE: Readonly<Record<Act, string>> = {
  approve: "approved",
  reject: "rejected",
  override: "overridden",
  review: "reviewed",
};

function signed(
  what: Act,
  a: {
    readonly id: string;
    readonly found: JsonObject;
    readonly challenge: JsonObject;
    readonly reason: string;
    readonly shownAt: number;
    readonly signer: Signer;
  },
): { readonly path: string; readonly body: JsonObject } {
  const at = Date.now();
  const path = `/approvals/${a.id}`;
  if (what === "override") return { path, body: signOverride(a.challenge, a.reason, at, a.signer) };
  if (what === "review") {
    const taken = a.found["override"];
    if (!isObject(taken)) throw new Error("there is no override to review");
    return { path: `${path}/review`, body: signReview(taken, at, a.signer) };
  }
  return { path, body: signAssertion(a.challenge, { decision: what, shownAt: a.shownAt, at }, a.signer) };
}

/** The hold is part of what was agreed: a yes before it is over is not valid. */
async function hold(io: Io, challenge: JsonObject, shownAt: number): Promise<void> {
  const terms = challenge["ceremony"];
  const seconds = isObject(terms) && typeof terms["hold_seconds"] === "number" ? terms["hold_seconds"] : 0;
  const left = shownAt + seconds * 1000 - Date.now();
  if (left <= 0) return;
  io.stdout.write(`holding for ${Math.ceil(left / 1000)} s\n`);
  await new Promise((resolve) => setTimeout(resolve, left));
}

async function known(socket: string): Promise<JsonObject[]> {
  const body = await adminOrThrow(socket, "GET", "/approvals");
  const list = body["approvals"];
  return Array.isArray(list) ? list.filter((a: JsonValue) => isObject(a)) : [];
}
const textIn = (o: JsonObject, key: string): string => (typeof o[key] === "string" ? o[key] : "");
const numberIn = (o: JsonObject, key: string): number => (typeof o[key] === "number" ? o[key] : 0);

/** What a person judges, line by line; nothing of it but the state comes from outside the challenge that is signed. */
function screen(what: Act, found: JsonObject, challenge: JsonObject, shown: JsonObject): string[] {
  const line = (name: string, text: string): string => `${name.padEnd(13)}${visible(text)}`;
  const terms = isObject(challenge["ceremony"]) ? challenge["ceremony"] : {};
  const args = JSON.stringify(shown["arguments"] ?? null, null, 2);
  const approved = Array.isArray(found["approved_by"]) ? found["approved_by"] : [];
  const hidden = hiddenIn(args.replaceAll("\n", ""));
  const over = found["override"];
  return [
    line("approval", `${textIn(challenge, "approval_id")} (${textIn(found, "state")})`),
    line("who asks", textIn(shown, "principal")),
    line("session", textIn(challenge, "session_id")),
    line("tool", textIn(shown, "tool")),
    "arguments",
    ...args.split("\n").map((l) => `  ${visible(l)}`),
    ...(hidden === 0
      ? []
      : [line("take care", `${hidden} hidden characters in the arguments are written as \\u{…}`)]),
    line("if yes", textIn(shown, "consequence")),
    line("policy", `${textIn(shown, "policy")} ${textIn(challenge, "policy_bundle_hash")}`),
    line(
      "ceremony",
      `${textIn(terms, "name")}: ${numberIn(terms, "quorum")} approver(s) needed, ${approved.length} so far`,
    ),
    ...(numberIn(terms, "timelock_seconds") > 0
      ? [line("not before", textIn(challenge, "eligible_at"))]
      : []),
    line("asked at", textIn(challenge, "created_at")),
    line("holds until", textIn(challenge, "expires_at")),
    ...(what === "review" && isObject(over)
      ? [
          line("overridden", `by ${textIn(over, "key_id")} at ${textIn(over, "at")}`),
          line("reason", textIn(over, "reason")),
        ]
      : []),
  ];
}

/** Shows the lines, a page at a time where a person sits at a terminal. False when they did not read to the end. */
async function shownTo(io: Io, lines: readonly string[], interactive: boolean): Promise<boolean> {
  const terminal = interactive && io.stdout === process.stdout && process.stdout.isTTY;
  const width = terminal ? Math.max(20, process.stdout.columns || 80) : 0;
  // A line wider than the terminal is broken here, so that a page is what fits on the screen.
  const rows = terminal ? lines.flatMap((l) => pieces(l, width)) : lines;
  const page = terminal ? Math.max(5, (process.stdout.rows || 24) - 2) : rows.length;
  for (let at = 0; at < rows.length; at += page) {
    io.stdout.write(`${rows.slice(at, at + page).join("\n")}\n`);
    const left = rows.length - at - page;
    if (
      left > 0 &&
      !/^$/.test((await question(io, `-- ${left} more lines: Enter goes on, q ends -- `)).trim())
    )
      return false;
  }
  return true;
}
function pieces(text: string, width: number): string[] {
  const characters = Array.from(text);
  const out: string[] = [];
  for (let at = 0; at === 0 || at < characters.length; at += width)
    out.push(characters.slice(at, at + width).join(""));
  return out;
}

async function question(io: Io, text: string): Promise<string> {
  if (io.stdin !== process.stdin) return "";
  const reader = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return await reader.question(text);
  } finally {
    reader.close();
  }
}
