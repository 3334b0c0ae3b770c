// Where a bundle's content lies, and getting it from there. The hash decides what is accepted, not the place.

import { gunzipSync } from "node:zlib";
import { LIMITS, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { isMap } from "../kinds/kinds.ts";
import type { PolicyBundle } from "../kinds/kinds.ts";
import { notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import type { Fetched } from "./bundle.ts";

const INLINE_LIMIT = 128 * 1024;
const CONTENT_LIMIT = 16 << 20;

export async function fetchContent(client: Client, bundle: PolicyBundle): Promise<Fetched> {
  const { content, source } = bundle.spec;
  if (content !== undefined)
    return Buffer.byteLength(JSON.stringify(content)) > INLINE_LIMIT
      ? { ok: false, reason: "TooLarge", message: "inline content above 128 KiB: put it into a ConfigMap" }
      : { ok: true, content: content as JsonObject, from: "Inline" };
  const at = source?.configMap;
  if (at === undefined)
    return {
      ok: false,
      reason: "SourceUnsupported",
      message: "this source cannot be fetched here: use content or source.configMap",
    };
  try {
    const map = await client.json(`/api/v1/namespaces/${at.namespace}/configmaps/${at.name}`);
    const [data, binary] = [map["data"], map["binaryData"]];
    const packed = isMap(binary) ? binary[at.key] : undefined;
    const plain = isMap(data) ? data[at.key] : undefined;
    const bytes =
      typeof packed === "string"
        ? gunzipSync(Buffer.from(packed, "base64"), { maxOutputLength: CONTENT_LIMIT })
        : typeof plain === "string"
          ? Buffer.from(plain, "utf8")
          : undefined;
    if (bytes === undefined)
      return {
        ok: false,
        reason: "NotFound",
        message: `ConfigMap ${at.namespace}/${at.name} has no key ${at.key}`,
      };
    const value: JsonValue = parseJson(bytes, LIMITS.policy);
    return isMap(value)
      ? { ok: true, content: value, from: "ConfigMap" }
      : { ok: false, reason: "Malformed", message: "the content is no object" };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { ok: false, reason: notFound(error) ? "NotFound" : "Unreachable", message };
  }
}
