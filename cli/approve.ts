// `atoll approvals | approve | reject`: a person sees what would happen, and signs exactly that.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { isObject } from "../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../kernel/contracts/contracts.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";
import { signAssertion } from "../kernel/escalation/ceremony/ceremony.ts";
import { DEFAULT_SOCKET, adminOrThrow } from "./admin.ts";
import { UsageError } from "./io.ts";
import type { Command, Io } from "./io.ts";

const LIST = `usage: atoll approvals [--all] [--socket PATH]`;

export async function approvals(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { socket: { type: "string" }, all: { type: "boolean" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help === true) {
    io.stdout.write(`${LIST}\n`);
    return 0;
  }
  const list = await pending(values.socket ?? DEFAULT_SOCKET);
  const shown = values.all === true ? list : list.filter((a) => a["state"] === "pending");
  for (const a of shown)
    io.stdout.write(
      `${textIn(a, "id")}  ${textIn(a, "state")}  ${visible(textIn(a, "tool"))}  until ${textIn(a, "expires_at")}\n`,
    );
  if (shown.length === 0) io.stdout.write("nothing waits for a person\n");
  return 0;
}

const usageOf = (name: string): string => `usage: atoll ${name} ID --key FILE [--socket PATH] [--yes-to TOOL]
Shows what would happen, asks for the tool's name, and signs with the approver's private key FILE.
--yes-to TOOL answers the question beforehand; what is shown is the same.`;

export const approve: Command = (argv, io) => answer("approve", argv, io);
export const reject: Command = (argv, io) => answer("reject", argv, io);

async function answer(decision: "approve" | "reject", argv: readonly string[], io: Io): Promise<number> {
  const usage = usageOf(decision);
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      socket: { type: "string" },
      key: { type: "string" },
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
  const signer = signerFromPem(readFileSync(values.key, "utf8"));
  const socket = values.socket ?? DEFAULT_SOCKET;
  const found = (await pending(socket)).find((a) => a["id"] === id);
  const challenge = found?.["challenge"];
  if (found === undefined || !isObject(challenge)) throw new Error(`there is no approval \`${id}\``);
  const shown = challenge["shown"];
  if (!isObject(shown)) throw new Error("the challenge shows nothing");
  io.stdout.write(screen(challenge, shown, textIn(found, "state")));
  const shownAt = Date.now();
  const tool = textIn(shown, "tool");
  const typed = values["yes-to"] ?? (await question(io, `To ${decision}, type the tool's name: `));
  if (typed.trim() !== tool) {
    io.stderr.write(`that is not \`${tool}\`; nothing was signed\n`);
    return 1;
  }
  // The hold is part of what was agreed: a yes before it is over is not valid.
  const ceremony = challenge["ceremony"];
  const hold =
    isObject(ceremony) && typeof ceremony["hold_seconds"] === "number" ? ceremony["hold_seconds"] * 1000 : 0;
  const left = shownAt + hold - Date.now();
  if (left > 0 && decision === "approve") {
    io.stdout.write(`holding for ${Math.ceil(left / 1000)} s\n`);
    await new Promise((resolve) => setTimeout(resolve, left));
  }
  const assertion = signAssertion(challenge, { decision, shownAt, at: Date.now() }, signer);
  const result = await adminOrThrow(socket, "POST", `/approvals/${id}`, assertion);
  io.stdout.write(
    `${decision === "approve" ? "approved" : "rejected"} by ${signer.keyId}; the approval is ${textIn(result, "state")}\n`,
  );
  return 0;
}

async function pending(socket: string): Promise<JsonObject[]> {
  const body = await adminOrThrow(socket, "GET", "/approvals");
  const list = body["approvals"];
  return Array.isArray(list) ? list.filter((a: JsonValue) => isObject(a)) : [];
}
const textIn = (o: JsonObject, key: string): string => (typeof o[key] === "string" ? o[key] : "");

function screen(challenge: JsonObject, shown: JsonObject, state: string): string {
  const line = (name: string, text: string): string => `${name.padEnd(13)}${visible(text)}\n`;
  const terms = challenge["ceremony"];
  return [
    line("approval", `${textIn(challenge, "approval_id")} (${state})`),
    line("who asks", textIn(shown, "principal")),
    line("tool", textIn(shown, "tool")),
    `arguments\n${indented(visible(JSON.stringify(shown["arguments"] ?? null, null, 2)))}\n`,
    line("if yes", textIn(shown, "consequence")),
    line("policy", `${textIn(shown, "policy")} ${textIn(challenge, "policy_bundle_hash")}`),
    line(
      "ceremony",
      isObject(terms) ? `${textIn(terms, "name")}, ${JSON.stringify(terms["quorum"] ?? 0)} approver(s)` : "",
    ),
    line("holds until", textIn(challenge, "expires_at")),
  ].join("");
}
const indented = (text: string): string =>
  text
    .split("\n")
    .map((l) => `  ${l}`)
    .join("\n");

const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]/gu;
/** Nothing in an argument may move the cursor, hide a character or turn the direction of what a person reads. */
export const visible = (text: string): string =>
  text.replace(HIDDEN, (c) => (c === "\n" ? c : `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`));

async function question(io: Io, text: string): Promise<string> {
  if (io.stdin !== process.stdin) return "";
  const reader = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return await reader.question(text);
  } finally {
    reader.close();
  }
}
