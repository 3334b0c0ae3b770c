// A bundle file: the PolicyBundle manifest, and behind it the ConfigMap of a content too large to stand inline.

import { readFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { Document, isScalar, visit } from "yaml";
import { canonicalize } from "../../kernel/canonicalize/canonicalize.ts";
import {
  ContractError,
  LIMITS,
  closed,
  objectFrom,
  parseJson,
  stringFrom,
} from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { INLINE_LIMIT, bundleManifest, parseBundle } from "../../kernel/policy/bundle.ts";
import type { Bundle, SignedBundle } from "../../kernel/policy/bundle.ts";
import { readYaml } from "../authoring/read.ts";

export interface BundleFile {
  readonly manifest: JsonObject;
  readonly bundle: Bundle;
  /** The content, wherever the file holds it; undefined when it lies outside. */
  readonly content: JsonObject | undefined;
}

const KEY = "policy.json.gz";
const CONFIG_MAP_LIMIT = 1 << 20;

export function readBundleFile(path: string): BundleFile {
  const [first = "", second, ...more] = new TextDecoder("utf-8", { fatal: true })
    .decode(readFileSync(path))
    .split(/^---\n/m)
    .filter((part) => part.trim() !== "");
  if (more.length > 0) throw new ContractError(path, "holds more than a PolicyBundle and its ConfigMap");
  const manifest = objectFrom(valueOf(first, path), "");
  const bundle = parseBundle(manifest);
  if (second === undefined) return { manifest, bundle, content: bundle.content };
  return { manifest, bundle, content: bundle.content ?? contentOf(valueOf(second, path), bundle) };
}

/** JSON is YAML too, and read as JSON it is read a hundred times faster. */
function valueOf(text: string, path: string): JsonValue {
  if (text.trimStart().startsWith("{"))
    try {
      return parseJson(text, LIMITS.policy);
    } catch {
      // What is wrong with it is said with a line and a column.
    }
  return readYaml(text, path).value;
}

function contentOf(value: JsonValue, bundle: Bundle): JsonObject {
  const map = closed(value, "", ["apiVersion", "kind", "metadata", "binaryData"]);
  const metadata = objectFrom(map["metadata"], "metadata");
  const source = bundle.source;
  if (
    source === undefined ||
    !("configMap" in source) ||
    metadata["name"] !== source.configMap.name ||
    metadata["namespace"] !== source.configMap.namespace
  )
    throw new ContractError("metadata", "is not the ConfigMap that the bundle refers to");
  const { key } = source.configMap;
  const packed = stringFrom(objectFrom(map["binaryData"], "binaryData")[key], `binaryData.${key}`, 2 << 20);
  const bytes = gunzipSync(Buffer.from(packed, "base64"), { maxOutputLength: LIMITS.policy.bytes });
  return objectFrom(parseJson(bytes, LIMITS.policy), "content");
}

/** The text of a bundle file, ready for `kubectl apply`. */
export function writeBundleFile(
  signed: SignedBundle,
  content: JsonObject,
  names: { readonly name: string; readonly namespace: string },
): string {
  const text = canonicalize(content);
  if (Buffer.byteLength(text) <= INLINE_LIMIT)
    return yamlOf(bundleManifest({ signed, content, source: undefined }, names.name));
  const packed = gzipSync(text, { level: 9 }).toString("base64");
  if (packed.length > CONFIG_MAP_LIMIT - 4096)
    throw new ContractError("content", `has ${packed.length} bytes packed and does not fit into a ConfigMap`);
  const configMap = { namespace: names.namespace, name: names.name, key: KEY };
  const manifest = bundleManifest({ signed, content: undefined, source: { configMap } }, names.name);
  const map = {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: names.name, namespace: names.namespace },
    binaryData: { [KEY]: packed },
  };
  return `${yamlOf(manifest)}---\n${yamlOf(map)}`;
}

// kubectl reads YAML 1.1 and we read 1.2: every string is quoted, and every key that is not a plain word.
const PLAIN_KEY = /^(?!(?:true|false|null|yes|no|on|off)$)[A-Za-z][A-Za-z0-9_]{2,}$|^id$/i;

function yamlOf(value: JsonObject): string {
  const document = new Document(value, { aliasDuplicateObjects: false });
  visit(document, {
    Pair(_, pair) {
      if (isScalar(pair.key) && typeof pair.key.value === "string")
        pair.key.type = PLAIN_KEY.test(pair.key.value) ? "PLAIN" : "QUOTE_DOUBLE";
    },
  });
  return document.toString({ defaultStringType: "QUOTE_DOUBLE", defaultKeyType: null, lineWidth: 0 });
}
