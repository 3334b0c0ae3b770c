// Where a bundle's content lies, and getting it from there. The hash decides what is accepted, not the place.

import { gunzipSync } from "node:zlib";
import { LIMITS, parseJson } from "../../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../../kernel/contracts/contracts.ts";
import { isMap } from "../kinds/kinds.ts";
import type { PolicyBundle } from "../kinds/kinds.ts";
import { notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import type { Fetched } from "./bundle.ts";
import { RemoteError, fromRegistry, fromUrl } from "./remote.ts";
import type { RemoteOptions } from "./remote.ts";

export type { RemoteOptions } from "./remote.ts";

const INLINE_LIMIT = 128 * 1024;
const CONTENT_LIMIT = 16 << 20;

function contentFrom(packed: Buffer, from: "ConfigMap" | "Url" | "Oci"): Fetched {
  try {
    // Compressed or not, as its first two bytes say.
    const bytes =
      packed[0] === 0x1f && packed[1] === 0x8b
        ? gunzipSync(packed, { maxOutputLength: CONTENT_LIMIT })
        : packed;
    const value: JsonValue = parseJson(bytes, LIMITS.policy);
    return isMap(value)
      ? { ok: true, content: value, from }
      : { ok: false, reason: "Malformed", message: "the content is no object" };
  } catch (error) {
    return { ok: false, reason: "Malformed", message: error instanceof Error ? error.message : "" };
  }
}

async function fromConfigMap(
  client: Client,
  at: { readonly namespace: string; readonly name: string; readonly key: string },
): Promise<Fetched> {
  const map = await client.json(`/api/v1/namespaces/${at.namespace}/configmaps/${at.name}`);
  const [data, binary] = [map["data"], map["binaryData"]];
  const packed = isMap(binary) ? binary[at.key] : undefined;
  const plain = isMap(data) ? data[at.key] : undefined;
  if (typeof packed === "string") return contentFrom(Buffer.from(packed, "base64"), "ConfigMap");
  if (typeof plain === "string") return contentFrom(Buffer.from(plain, "utf8"), "ConfigMap");
  return {
    ok: false,
    reason: "NotFound",
    message: `ConfigMap ${at.namespace}/${at.name} has no key ${at.key}`,
    again: true,
  };
}

export async function fetchContent(
  client: Client,
  bundle: PolicyBundle,
  remote: RemoteOptions = {},
): Promise<Fetched> {
  const { content, source } = bundle.spec;
  if (content !== undefined)
    return Buffer.byteLength(JSON.stringify(content)) > INLINE_LIMIT
      ? { ok: false, reason: "TooLarge", message: "inline content above 128 KiB: put it into a ConfigMap" }
      : { ok: true, content: content as JsonObject, from: "Inline" };
  try {
    if (source?.configMap !== undefined) return await fromConfigMap(client, source.configMap);
    if (source?.url !== undefined) return contentFrom(await fromUrl(source.url.url, remote), "Url");
    if (source?.oci !== undefined)
      return contentFrom(await fromRegistry(source.oci.reference, remote), "Oci");
    return { ok: false, reason: "NoSource", message: "there is neither content nor source" };
  } catch (error) {
    const message = (error instanceof Error ? error.message : String(error)).slice(0, 500);
    if (error instanceof RemoteError) return { ok: false, reason: error.reason, message, again: error.again };
    return { ok: false, reason: notFound(error) ? "NotFound" : "Unreachable", message, again: true };
  }
}
