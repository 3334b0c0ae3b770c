// `atoll approvals | approve | reject | override | review`: a person sees what would happen, and signs exactly that.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { isObject } from "../kernel/contracts/contracts.ts";
import type { JsonObject } from "../kernel/contracts/contracts.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";
import type { Signer } from "../kernel/crypto/crypto.ts";
import { signAssertion, signOverride, signReview } from "../kernel/escalation/ceremony/ceremony.ts";
import { PLACE_OPTIONS, PLACE_USAGE, placeOf } from "./cluster.ts";
import { UsageError } from "./io.ts";
import type { Command, Io } from "./io.ts";
import { clusterRequests, socketRequests } from "./requests.ts";
import type { Requests } from "./requests.ts";
import { question, shownTo } from "./screen.ts";
import { hiddenIn, visible } from "./visible.ts";

const LIST = `usage: atoll approvals [--all] [-A] [options]
What waits for a person, and overrides that nobody has reviewed.
  --all              also what is over
  -A, --all-namespaces
${PLACE_USAGE}
exit 0 listed, also when nothing waits; 1 not (no cluster, no right); 2 wrong use`;

export async function approvals(argv: readonly string[], io: Io): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      ...PLACE_OPTIONS,
      all: { type: "boolean" },
      "all-namespaces": { type: "boolean", short: "A" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${LIST}\n`);
    return 0;
  }
  const everywhere = values["all-namespaces"] === true;
  const place = await placeOf(values, everywhere, LIST);
  const requests = place.kind === "socket" ? socketRequests(place.path) : clusterRequests(place.cluster);
  try {
    const list = await requests.list(everywhere);
    const shown =
      values.all === true
        ? list
        : list.filter(
            (a) => a["state"] === "pending" || a["state"] === "granted" || a["review_open"] === true,
          );
    if (values.json === true) {
      io.stdout.write(`${JSON.stringify(shown)}\n`);
      return 0;
    }
    for (const a of shown) {
      const where = textIn(a, "namespace") === "" ? "" : `${visible(textIn(a, "namespace"))}  `;
      const review = a["review_open"] === true ? "  overridden, review is open" : "";
      const edited = textIn(a, "fault") === "" ? "" : "  EDITED: it cannot be answered";
      io.stdout.write(
        `${where}${visible(textIn(a, "id"))}  ${visible(textIn(a, "state")).padEnd(8)}  ${visible(textIn(a, "tool"))}  until ${visible(textIn(a, "expires_at"))}${review}${edited}\n`,
      );
    }
    if (shown.length === 0) io.stdout.write("nothing waits for a person\n");
    return 0;
  } finally {
    requests.close();
  }
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
  `usage: atoll ${act} ID --key FILE${act === "override" ? " --reason R" : ""} [--yes-to TOOL] [options]
${WHAT[act]}
The key does not leave this machine. What is signed is the hash of what is shown, so that nobody in between can have another
call answered.
  --yes-to TOOL      answers the question beforehand; what is shown is the same
  --wait SECONDS     how long to wait for the guardian's word, in a cluster (10)
${PLACE_USAGE}
exit 0 counted by the guardian, 1 not (refused, not found, over, not confirmed in time), 2 wrong use`;

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
      ...PLACE_OPTIONS,
      key: { type: "string" },
      reason: { type: "string" },
      "yes-to": { type: "string" },
      wait: { type: "string" },
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
  const seconds = Number(values.wait ?? "10");
  if (!(seconds >= 0 && seconds <= 3600)) throw new UsageError("--wait is a number of seconds", usage);
  const signer = signerFromPem(readFileSync(values.key, "utf8"));
  const place = await placeOf(values, false, usage);
  const requests =
    place.kind === "socket" ? socketRequests(place.path) : clusterRequests(place.cluster, seconds);
  try {
    return await answer(what, id.replace(/^apr-/, "apr_"), {
      io,
      requests,
      signer,
      reason,
      yesTo: values["yes-to"],
      json: values.json === true,
    });
  } finally {
    requests.close();
  }
}

/** Shows one request, asks, signs, hands in. */
export async function answer(
  what: Act,
  id: string,
  o: {
    readonly io: Io;
    readonly requests: Requests;
    readonly signer: Signer;
    readonly reason: string;
    readonly yesTo: string | undefined;
    readonly json: boolean;
  },
): Promise<number> {
  const { io, requests, signer } = o;
  const found = await requests.find(id);
  if (found === undefined) throw new Error(`there is no approval \`${visible(id)}\` ${requests.where}`);
  const fault = textIn(found, "fault");
  if (fault !== "") throw new Error(`the request was edited: ${fault}; nothing was signed`);
  const challenge = found["challenge"];
  if (!isObject(challenge) || challenge["approval_id"] !== id)
    throw new Error("the challenge is of another approval; nothing was signed");
  const shown = challenge["shown"];
  if (
    !isObject(shown) ||
    shown["tool"] !== challenge["tool"] ||
    shown["principal"] !== challenge["principal"]
  )
    throw new Error("the challenge shows another call than it is for");
  const state = textIn(found, "state");
  if (what === "review" ? found["review_open"] !== true : state !== "pending" && state !== "granted")
    throw new Error(
      what === "review" ? "there is no override to review" : `the approval is ${visible(state)}`,
    );
  const interactive = o.yesTo === undefined;
  const out = o.json ? io.stderr : io.stdout;
  const lines = [...requests.lines(found), ...screen(what, found, challenge, shown)];
  if (!(await shownTo(io, lines, interactive, out))) {
    io.stderr.write("not everything was shown; nothing was signed\n");
    return 1;
  }
  const shownAt = Date.now();
  const tool = textIn(shown, "tool");
  const typed = o.yesTo ?? (await question(io, `To ${what}, type the tool's name: `));
  if (typed.trim() !== tool) {
    io.stderr.write(`that is not \`${visible(tool)}\`; nothing was signed\n`);
    return 1;
  }
  if (what === "approve") await hold(out, challenge, shownAt);
  const body = signed(what, { found, challenge, reason: o.reason, shownAt, signer });
  const result = await requests.hand(what === "review" ? "review" : "answer", id, body, signer.keyId);
  const after = textIn(result, "state");
  if (o.json) io.stdout.write(`${JSON.stringify({ id, act: what, key_id: signer.keyId, state: after })}\n`);
  else io.stdout.write(`${DONE[what]} by ${signer.keyId}; the approval is ${visible(after)}\n`);
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
    readonly found: JsonObject;
    readonly challenge: JsonObject;
    readonly reason: string;
    readonly shownAt: number;
    readonly signer: Signer;
  },
): JsonObject {
  const at = Date.now();
  if (what === "override") return signOverride(a.challenge, a.reason, at, a.signer);
  if (what !== "review")
    return signAssertion(a.challenge, { decision: what, shownAt: a.shownAt, at }, a.signer);
  const taken = a.found["override"];
  if (!isObject(taken)) throw new Error("there is no override to review");
  return signReview(taken, at, a.signer);
}

/** The hold is part of what was agreed: a yes before it is over is not valid. */
async function hold(out: Io["stdout"], challenge: JsonObject, shownAt: number): Promise<void> {
  const terms = challenge["ceremony"];
  const seconds = isObject(terms) && typeof terms["hold_seconds"] === "number" ? terms["hold_seconds"] : 0;
  const left = shownAt + seconds * 1000 - Date.now();
  if (left <= 0) return;
  out.write(`holding for ${Math.ceil(left / 1000)} s\n`);
  await new Promise((resolve) => setTimeout(resolve, left));
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
