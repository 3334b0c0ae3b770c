// YAML as policies may use it: the part of YAML 1.2 that means one thing to every reader. What is ambiguous
// (aliases, tags, merge keys, `no`, `017`, several documents) is refused with the place and the way to say it.

import { readFileSync, readdirSync, statSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { isAlias, isMap, isPair, isScalar, isSeq, LineCounter, parseAllDocuments } from "yaml";
import type { JsonValue } from "../../kernel/contracts/contracts.ts";

export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Something wrong at a place, said the way a good compiler says it. */
export interface Finding {
  readonly place: Place;
  readonly path: string;
  readonly message: string;
  readonly hint: string;
}

export class SourceError extends Error {
  readonly findings: readonly Finding[];
  constructor(findings: readonly Finding[]) {
    super(findings.map(show).join("\n"));
    this.name = "SourceError";
    this.findings = findings;
  }
}

export const show = (f: Finding): string =>
  `${f.place.file}:${f.place.line}:${f.place.column}: ${f.path === "" ? "" : `${f.path}: `}${f.message}${f.hint === "" ? "" : `\n  hint: ${f.hint}`}`;

/** A value together with the place of each of its parts, by JSON path such as `rules[2].when`. */
export interface Source {
  readonly value: JsonValue;
  readonly place: (path: string) => Place;
}

const BYTES = 16 << 20;
const AMBIGUOUS = /^(y|yes|n|no|on|off|~|null|Null|NULL|True|TRUE|False|FALSE)$/i;
const PLAIN_INTEGER = /^-?(0|[1-9][0-9]*)$/;
const PLAIN_NUMBER = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$/;
const NUMBER_LIKE = /^[-+]?(\.?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+|\.(inf|nan))$/i;

export function readYaml(text: string, file: string): Source {
  const lines = new LineCounter();
  const findings: Finding[] = [];
  const places = new Map<string, Place>();
  const at = (offset: number | undefined): Place => {
    const p = lines.linePos(offset ?? 0);
    return { file, line: Math.max(p.line, 1), column: Math.max(p.col, 1) };
  };
  const refuse = (offset: number | undefined, path: string, message: string, hint: string): null => {
    findings.push({ place: at(offset), path, message, hint });
    return null;
  };
  if (Buffer.byteLength(text) > BYTES)
    refuse(0, "", `the file has more than ${BYTES} bytes`, "split the policy");
  if (text.startsWith("\uFEFF"))
    refuse(0, "", "the file starts with a byte order mark", "save it as UTF-8 without BOM");
  if (findings.length > 0) throw new SourceError(findings);

  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    version: "1.2",
    schema: "core",
    merge: false,
    uniqueKeys: true,
    strict: true,
    prettyErrors: false,
  });
  if (!Array.isArray(documents) || documents[0] === undefined) {
    throw new SourceError([
      {
        place: { file, line: 1, column: 1 },
        path: "",
        message: "the file is empty",
        hint: "start with `apiVersion: atoll.dev/policy/v1`",
      },
    ]);
  }
  if (documents.length > 1) {
    refuse(
      documents[1]?.range[0],
      "",
      "the file has a second document after `---`",
      "one policy per file; a folder is merged",
    );
  }
  const first = documents[0];
  if (text.startsWith("%"))
    refuse(0, "", "directives (`%YAML`, `%TAG`) are not allowed", "remove the line; this is YAML 1.2");
  for (const e of [...first.errors, ...first.warnings]) {
    const hint =
      e.code === "DUPLICATE_KEY"
        ? "keep one of the two"
        : e.code === "TAB_AS_INDENT"
          ? "indent with spaces"
          : "";
    refuse(
      e.pos[0],
      "",
      e.message.toLowerCase().startsWith("map keys must be unique")
        ? "the key stands twice in one map"
        : lower(e.message),
      hint,
    );
  }

  const walk = (node: unknown, path: string, depth: number): JsonValue => {
    if (node === null || node === undefined)
      return refuse(undefined, path, "the value is missing", "write a value or remove the key");
    if (depth > 64) return refuse(undefined, path, "the document is nested deeper than 64 levels", "");
    if (isAlias(node))
      return refuse(node.range?.[0], path, "aliases (`*name`) are not allowed", "write the value out");
    if (!isMap(node) && !isSeq(node) && !isScalar(node))
      return refuse(undefined, path, "this is no plain value", "");
    const offset = node.range?.[0];
    places.set(path, at(offset));
    if (node.anchor !== undefined)
      return refuse(
        offset,
        path,
        "anchors (`&name`) are not allowed",
        "write the value out where it is used",
      );
    if (node.tag !== undefined)
      return refuse(offset, path, `the tag \`${node.tag}\` is not allowed`, "remove it");
    if (isScalar(node)) return scalar(node.value, node.source, node.type === "PLAIN", offset, path);
    if (isSeq(node)) return node.items.map((item, i) => walk(item, `${path}[${i}]`, depth + 1));
    const members: [string, JsonValue][] = [];
    for (const pair of node.items) {
      if (!isPair(pair) || !isScalar(pair.key) || typeof pair.key.value !== "string") {
        refuse(
          isScalar(pair.key) ? pair.key.range?.[0] : offset,
          path,
          "a key that is no string",
          "write the key in quotes",
        );
        continue;
      }
      const key = pair.key.value;
      if (!key.isWellFormed()) {
        refuse(pair.key.range?.[0], path, "a key with a lone surrogate", "");
        continue;
      }
      const inner =
        path === ""
          ? key
          : /^[A-Za-z0-9_-]+$/.test(key)
            ? `${path}.${key}`
            : `${path}[${JSON.stringify(key)}]`;
      if (key === "<<" && pair.key.type === "PLAIN") {
        refuse(pair.key.range?.[0], inner, "merge keys (`<<`) are not allowed", "write the members out");
        continue;
      }
      if (pair.value === null)
        refuse(pair.key.range?.[1], inner, "the value is missing", "write a value or remove the key");
      else members.push([key, walk(pair.value, inner, depth + 1)]);
      if (pair.key.range) places.set(inner, at(pair.key.range[0]));
    }
    return Object.fromEntries(members);
  };

  const scalar = (
    value: unknown,
    source: string | undefined,
    plain: boolean,
    offset: number | undefined,
    path: string,
  ): JsonValue => {
    if (plain && source !== undefined && source !== "true" && source !== "false") {
      if (AMBIGUOUS.test(source)) {
        return refuse(
          offset,
          path,
          `\`${source}\` means different things to different readers`,
          `write \`true\` or \`false\`, or "${source}" in quotes for the text`,
        );
      }
      if (NUMBER_LIKE.test(source) && !PLAIN_NUMBER.test(source)) {
        return refuse(
          offset,
          path,
          `\`${source}\` is no plain decimal number`,
          `write it in decimal, or "${source}" in quotes for the text`,
        );
      }
      if (PLAIN_INTEGER.test(source) && !Number.isSafeInteger(Number(source))) {
        return refuse(
          offset,
          path,
          `\`${source}\` is beyond the integers that every reader holds exactly`,
          "at most 9007199254740991",
        );
      }
    }
    if (typeof value === "string") {
      return value.isWellFormed() ? value : refuse(offset, path, "the text has a lone surrogate", "");
    }
    if (typeof value === "number" && !Number.isFinite(value))
      return refuse(offset, path, `\`${source ?? ""}\` is beyond the numbers that every reader holds`, "");
    if (typeof value === "boolean" || typeof value === "number") return value;
    return refuse(offset, path, "the value is missing", "write a value or remove the key");
  };

  const value = first.errors.length === 0 ? walk(first.contents, "", 0) : null;
  if (findings.length > 0) throw new SourceError(findings);
  return { value, place: (path) => nearest(places, path, file) };
}

const lower = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

/** The place of a path, or of the closest ancestor that stands in the text. */
function nearest(places: ReadonlyMap<string, Place>, path: string, file: string): Place {
  for (let p = path; ; ) {
    const found = places.get(p);
    if (found !== undefined) return found;
    const cut = Math.max(p.lastIndexOf("."), p.lastIndexOf("["));
    if (p === "") return { file, line: 1, column: 1 };
    p = cut <= 0 ? "" : p.slice(0, cut);
  }
}

/** One file, or every `.yaml` and `.yml` of a folder in the order of their paths, but tests and ceilings (`*.test.yaml`, `*.p0.yaml`). */
export function readPolicySource(path: string): Source {
  if (!statSync(path).isDirectory()) return readYaml(decode(path), path);
  const files = readdirSync(path, { recursive: true, encoding: "utf8" })
    .map((f) => f.split(sep).join("/"))
    .filter((f) => /\.ya?ml$/.test(f) && !/\.(test|p0)\.ya?ml$/.test(f) && statSync(join(path, f)).isFile())
    .sort((a, b) => (a < b ? -1 : 1));
  if (files.length === 0) {
    throw new SourceError([
      {
        place: { file: path, line: 1, column: 1 },
        path: "",
        message: "the folder has no .yaml file",
        hint: "write policy.yaml there",
      },
    ]);
  }
  return mergeSources(files.map((f) => readYaml(decode(join(path, f)), relative("", join(path, f)) || f)));
}

function decode(path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readFileSync(path));
  } catch (e) {
    if (!(e instanceof TypeError)) throw e;
    throw new SourceError([
      {
        place: { file: path, line: 1, column: 1 },
        path: "",
        message: "the file is not UTF-8",
        hint: "save it as UTF-8",
      },
    ]);
  }
}

/** Maps are united, lists appended in the order of the files; a single value that two files state is refused. */
export function mergeSources(sources: readonly Source[]): Source {
  const origin = new Map<string, { readonly source: Source; readonly path: string }>();
  const findings: Finding[] = [];
  let merged: JsonValue | undefined;
  const merge = (
    a: JsonValue | undefined,
    b: JsonValue,
    path: string,
    source: Source,
    own: string,
  ): JsonValue => {
    if (!origin.has(path)) origin.set(path, { source, path: own });
    if (a === undefined) return record(b, path, source, own);
    if (isList(a) && isList(b))
      return [...a, ...b.map((v, i) => record(v, `${path}[${a.length + i}]`, source, `${own}[${i}]`))];
    if (isRecord(a) && isRecord(b)) {
      const out = new Map<string, JsonValue>(Object.entries(a));
      for (const [k, v] of Object.entries(b)) {
        const step = path === "" ? k : `${path}.${k}`;
        const merged = merge(
          Object.hasOwn(a, k) ? a[k] : undefined,
          v,
          step,
          source,
          own === "" ? k : `${own}.${k}`,
        );
        out.set(k, merged);
      }
      return Object.fromEntries(out);
    }
    if (a !== b) {
      const first = origin.get(path);
      const where = first?.source.place(first.path);
      findings.push({
        place: source.place(own),
        path,
        message: `already stated in ${where?.file ?? "another file"}:${where?.line ?? 1}`,
        hint: "state it once",
      });
    }
    return a;
  };
  const record = (v: JsonValue, path: string, source: Source, own: string): JsonValue => {
    origin.set(path, { source, path: own });
    if (isList(v)) v.forEach((x, i) => record(x, `${path}[${i}]`, source, `${own}[${i}]`));
    else if (isRecord(v))
      for (const [k, x] of Object.entries(v))
        record(x, path === "" ? k : `${path}.${k}`, source, own === "" ? k : `${own}.${k}`);
    return v;
  };
  for (const source of sources) merged = merge(merged, source.value, "", source, "");
  if (findings.length > 0) throw new SourceError(findings);
  return {
    value: merged ?? null,
    place: (path) => {
      for (let p = path; ; ) {
        const found = origin.get(p);
        if (found !== undefined) return found.source.place(found.path + path.slice(p.length));
        if (p === "") return sources[0]?.place(path) ?? { file: "", line: 1, column: 1 };
        const cut = Math.max(p.lastIndexOf("."), p.lastIndexOf("["));
        p = cut <= 0 ? "" : p.slice(0, cut);
      }
    },
  };
}

const isList = (v: JsonValue): v is readonly JsonValue[] => Array.isArray(v);
const isRecord = (v: JsonValue): v is { readonly [k: string]: JsonValue } =>
  typeof v === "object" && v !== null && !Array.isArray(v);
