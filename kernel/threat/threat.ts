// Signs of an attack in text that is not ours: instructions to a model, characters a reader does not see, keys, and
// encodings that hide any of these. A sign is a fact for the gates; it decides nothing by itself.

import type { Facts, JsonValue, ThreatLevel } from "../contracts/contracts.ts";
import { hiddenCharacters } from "./unicode.ts";

export type Scan = Facts["scan"];
type Finding = Scan["findings"][number];

export const CLEAN: Scan = { dataClasses: [], findings: [], level: "NONE" };
const ORDER: readonly ThreatLevel[] = ["NONE", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
const higher = (a: ThreatLevel, b: ThreatLevel): ThreatLevel =>
  ORDER.indexOf(a) >= ORDER.indexOf(b) ? a : b;

// What is read at most of one text, and how deep an encoding inside an encoding is followed.
const MOST = 1 << 20;
const DEPTH = 2;

interface Phrase {
  readonly level: ThreatLevel;
  readonly is: RegExp;
  readonly says: string;
}
// Every pattern is linear: fixed words with bounded gaps, no nested repetition.
const PHRASES: readonly Phrase[] = [
  {
    level: "HIGH",
    says: "asks to ignore earlier instructions",
    is: /\b(?:ignore|disregard|forget|override|bypass)\s+(?:[a-z]+\s+){0,4}(?:previous|prior|earlier|above|preceding|system|all|your)\s+(?:[a-z]+\s+){0,2}(?:instructions?|prompts?|rules?|directives?|guidelines?|context|messages?)\b/i,
  },
  {
    level: "HIGH",
    says: "asks for the system prompt",
    is: /\b(?:reveal|print|show|repeat|output|leak|disclose)\s+(?:[a-z]+\s+){0,3}(?:system|hidden|initial|developer)\s+(?:prompt|message|instructions?)\b/i,
  },
  {
    level: "HIGH",
    says: "imitates the markup of a conversation",
    is: /<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>|\[\/?INST\]|<<\/?SYS>>|(?:^|\n)\s*(?:###\s*)?(?:system|developer)\s*(?:prompt|message)?\s*:\s*you\s+(?:are|must|will|should)\b/i,
  },
  {
    level: "HIGH",
    says: "claims a new role without rules",
    is: /\byou\s+are\s+(?:now|no\s+longer)\s+(?:[a-z]+\s+){0,3}(?:DAN|jailbroken|unrestricted|unfiltered|bound|restricted)\b|\b(?:developer|god|admin|sudo|jailbreak)\s+mode\s+(?:is\s+)?(?:now\s+)?(?:enabled|activated|on)\b/i,
  },
  {
    level: "HIGH",
    says: "asks to keep an act from the user",
    is: /\b(?:do\s+not|don't|never|without)\s+(?:tell|telling|inform|informing|mention|mentioning|notify|notifying|alert|alerting)\s+(?:[a-z]+\s+){0,3}(?:user|human|operator|owner)\b/i,
  },
  {
    level: "HIGH",
    says: "asks to send data away",
    is: /\b(?:send|post|upload|forward|exfiltrate|transmit|email|leak)\s+(?:[a-z]+\s+){0,6}(?:passwords?|credentials?|secrets?|api\s*keys?|tokens?|private\s+keys?|env(?:ironment)?\s+variables?)\b[^\n]{0,80}(?:https?:\/\/|\bto\b)/i,
  },
  {
    level: "MEDIUM",
    says: "gives instructions in place of data",
    is: /\b(?:new|updated|important|urgent)\s+(?:system\s+)?instructions?\s*:|\binstead\s*,?\s+(?:call|invoke|run|execute|use)\s+the\s+[a-z_ ]{1,40}\s+(?:tool|function)\b/i,
  },
  {
    level: "HIGH",
    says: "asks (not in English) to ignore earlier instructions",
    is: /\b(?:ignoriere|vergiss)\s+(?:[a-zäöüß]+\s+){0,3}(?:vorherigen|bisherigen|obigen)\s+(?:anweisungen|regeln)|\bignor(?:a|e|ez)\s+(?:[a-zà-ÿ]+\s+){0,3}(?:instrucciones|instructions)\s+(?:anteriores|précédentes)|忽略(?:之前|以上|先前)的?(?:所有)?(?:指令|指示|说明)|игнорируй(?:те)?\s+(?:[а-яё]+\s+){0,2}(?:предыдущие|прежние)\s+(?:инструкции|указания)/i,
  },
];

interface Shape {
  readonly is: RegExp;
  readonly says: string;
}
const CREDENTIALS: readonly Shape[] = [
  { says: "a private key", is: /-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----/ },
  {
    says: "an OpenAI or Anthropic key",
    is: /\bsk-(?:proj-|ant-(?:api\d\d-)?|svcacct-)?[A-Za-z0-9_-]{20,200}/,
  },
  { says: "a GitHub token", is: /\b(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,255})\b/ },
  { says: "an AWS access key", is: /\b(?:AKIA|ASIA)[A-Z2-7]{16}\b/ },
  { says: "a Slack token", is: /\bxox[abeoprs]-[A-Za-z0-9-]{10,200}/ },
  { says: "a Google API key", is: /\bAIza[A-Za-z0-9_-]{35}\b/ },
  {
    says: "a JSON Web Token",
    is: /\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000}/,
  },
  { says: "a credential in an address", is: /\b[a-z][a-z0-9+.-]{1,20}:\/\/[^\s/:@]{1,100}:[^\s/@]{3,200}@/i },
];
const CLASSES: readonly (Shape & { readonly dataClass: string })[] = [
  {
    dataClass: "restricted",
    says: "marked restricted",
    is: /\b(?:classification|data-class)\s*[:=]\s*restricted\b/i,
  },
  {
    dataClass: "confidential",
    says: "marked confidential",
    is: /\b(?:classification|data-class)\s*[:=]\s*confidential\b/i,
  },
  {
    dataClass: "internal",
    says: "marked internal",
    is: /\b(?:classification|data-class)\s*[:=]\s*internal\b/i,
  },
];

/** Scans texts that cross the guardian. The same texts give the same scan. */
export function scanTexts(texts: Iterable<string>): Scan {
  const state: State = { level: "NONE", findings: new Map(), classes: new Set() };
  for (const text of texts) scanText(text.length > MOST ? text.slice(0, MOST) : text, state, 0, "");
  if (state.findings.size === 0 && state.classes.size === 0) return CLEAN;
  return {
    dataClasses: [...state.classes].sort(),
    findings: [...state.findings.values()],
    level: state.level,
  };
}

/** Every string of a value, the names of members included. */
export function textsOf(value: JsonValue, out: string[] = []): string[] {
  if (typeof value === "string") out.push(value);
  else if (Array.isArray(value)) for (const v of value) textsOf(v, out);
  else if (typeof value === "object" && value !== null)
    for (const [k, v] of Object.entries(value)) {
      out.push(k);
      textsOf(v, out);
    }
  return out;
}

interface State {
  level: ThreatLevel;
  readonly findings: Map<string, Finding>;
  readonly classes: Set<string>;
}

function note(state: State, level: ThreatLevel, code: Finding["code"], detail: string): void {
  state.level = higher(state.level, level);
  if (state.findings.size < 32) state.findings.set(`${code} ${detail}`, { code, detail });
}

/** Names, numbers and short paths, of which most arguments are made: every sign below is longer or has other characters. */
const HARMLESS = /^[\w./,:="'{}-]{0,15}$/;

function scanText(text: string, state: State, depth: number, via: string): void {
  if (text.length < 4 || (text.length < 16 && HARMLESS.test(text))) return;
  const hidden = hiddenCharacters(text);
  if (hidden !== null) note(state, hidden.level, "UNICODE_OBFUSCATION_DETECTED", hidden.says + via);
  const plain = hidden === null ? text : hidden.visible;
  for (const p of PHRASES)
    if (p.is.test(plain)) note(state, p.level, "PROMPT_INJECTION_DETECTED", p.says + via);
  for (const c of CREDENTIALS) if (c.is.test(plain)) note(state, "HIGH", "DATA_EGRESS_BLOCKED", c.says + via);
  for (const c of CLASSES) if (c.is.test(plain)) state.classes.add(c.dataClass);
  if (hidden !== null && hidden.smuggled !== "")
    scanText(hidden.smuggled, state, DEPTH, ", in hidden characters");
  if (depth >= DEPTH) return;
  for (const inner of decoded(plain)) scanText(inner.text, state, depth + 1, `${via}, inside ${inner.how}`);
}

const BASE64 = /[A-Za-z0-9+/_-]{24,}={0,2}/g;
const HEX = /(?:[0-9a-fA-F]{2}){16,}/g;
const PERCENT = /(?:%[0-9a-fA-F]{2}){4,}/;
const ESCAPES = /(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|&#x?[0-9a-fA-F]{1,6};){4,}/;
const PRINTABLE = /^[\t\n\r\x20-\x7e\u00a0-\uffff]{8,}$/;

function* decoded(text: string): Generator<{ readonly text: string; readonly how: string }> {
  let seen = 0;
  for (const [run] of text.matchAll(BASE64)) {
    if (++seen > 64) break;
    const bytes = Buffer.from(run.replaceAll("-", "+").replaceAll("_", "/"), "base64");
    const inner = bytes.toString("utf8");
    if (PRINTABLE.test(inner) && !inner.includes("\ufffd")) yield { text: inner, how: "base64" };
  }
  seen = 0;
  for (const [run] of text.matchAll(HEX)) {
    if (++seen > 64) break;
    const inner = Buffer.from(run, "hex").toString("utf8");
    if (PRINTABLE.test(inner) && !inner.includes("\ufffd")) yield { text: inner, how: "hexadecimal" };
  }
  if (PERCENT.test(text)) {
    const inner = text.replace(/(?:%[0-9a-fA-F]{2})+/g, (m) =>
      Buffer.from(m.replaceAll("%", ""), "hex").toString("utf8"),
    );
    yield { text: inner, how: "percent encoding" };
  }
  if (ESCAPES.test(text)) {
    const inner = text
      .replace(
        /\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})/g,
        (_, u: string | undefined, x: string | undefined) =>
          String.fromCharCode(parseInt(u ?? x ?? "20", 16)),
      )
      .replace(/&#(x?)([0-9a-fA-F]{1,6});/g, (_, x: string, n: string) => {
        const point = parseInt(n, x === "" ? 10 : 16);
        return point <= 0x10ffff ? String.fromCodePoint(point) : "";
      });
    yield { text: inner, how: "character escapes" };
  }
}
