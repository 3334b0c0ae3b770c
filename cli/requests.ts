// Where approvals are found and answers handed in: the admin socket of a guardian, or ApprovalRequests in a cluster. Of a
// cluster's object only the challenge is shown and signed; what else it says must agree, or nothing is signed.

import { ContractError, isId, isObject } from "../kernel/contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../kernel/contracts/contracts.ts";
import { hashJson } from "../kernel/crypto/crypto.ts";
import { parseChallenge } from "../kernel/guardian/guardian.ts";
import { isMap } from "../operator/kinds/kinds.ts";
import type { Json, JsonMap } from "../operator/kinds/kinds.ts";
import { ApiError } from "../operator/runtime/runtime.ts";
import { adminOrThrow } from "./admin.ts";
import { patch, within } from "./cluster.ts";
import type { Cluster } from "./cluster.ts";
import { visible } from "./visible.ts";

export interface Requests {
  /** For a sentence: `at PATH`, `in namespace N`. */
  readonly where: string;
  /** `{id, state, tool, expires_at, challenge, review_open, override, approved_by}`, and `fault` where an object was edited. */
  list(everywhere: boolean): Promise<JsonObject[]>;
  find(id: string): Promise<JsonObject | undefined>;
  /** What stands above what is signed. */
  lines(found: JsonObject): string[];
  /** The approval after the guardian has counted the signed object; throws with its reason when it did not. */
  hand(kind: "answer" | "review", id: string, signed: JsonObject, keyId: string): Promise<JsonObject>;
  close(): void;
}

const textIn = (o: JsonObject | JsonMap | undefined, key: string): string => {
  const v = o?.[key];
  return typeof v === "string" ? v : "";
};

export function socketRequests(path: string): Requests {
  const list = async (): Promise<JsonObject[]> => {
    const { approvals } = await adminOrThrow(path, "GET", "/approvals");
    return Array.isArray(approvals) ? approvals.filter((a: JsonValue) => isObject(a)) : [];
  };
  return {
    where: `at ${path}`,
    list,
    find: async (id) => (await list()).find((a) => a["id"] === id),
    lines: () => [],
    hand: (kind, id, signed) =>
      adminOrThrow(path, "POST", `/approvals/${id}${kind === "review" ? "/review" : ""}`, signed),
    close: () => undefined,
  };
}

const KINDS = "/apis/atoll.dev/v1alpha1";
const mapIn = (o: JsonMap, key: string): JsonMap => (isMap(o[key]) ? o[key] : {});
const listIn = (o: JsonMap, key: string): readonly Json[] => {
  const v = o[key];
  return Array.isArray(v) ? v : [];
};
/** The challenge as one of our own values: it came as JSON and stays what it was. */
const plain = (v: JsonMap): JsonObject => JSON.parse(JSON.stringify(v)) as JsonObject;

/** What an ApprovalRequest says, and whether it says one thing in all its members. */
export function requestFrom(object: JsonMap): JsonObject {
  const meta = mapIn(object, "metadata");
  const spec = mapIn(object, "spec");
  const status = mapIn(object, "status");
  const challenge = plain(mapIn(spec, "challenge"));
  const id = textIn(meta, "name").replace("-", "_");
  const key = textIn(status, "state").toLowerCase();
  const overrides = listIn(status, "assertions").filter(
    (a) => isMap(a) && a["type"] === "atoll.dev/override/v1",
  );
  const counted = listIn(status, "counted").filter((k) => typeof k === "string");
  const conditions = listIn(status, "conditions");
  const override = overrides.find(
    (o) => isMap(o) && o["challenge_hash"] === hashJson(challenge) && counted.includes(textIn(o, "key_id")),
  );
  return {
    id,
    namespace: textIn(meta, "namespace"),
    pod: textIn(spec, "pod"),
    state: key === "" ? "pending" : key,
    tool: textIn(challenge, "tool"),
    expires_at: textIn(challenge, "expires_at"),
    approved_by: counted,
    review_open: conditions.some((c) => isMap(c) && c["type"] === "ReviewDue" && c["status"] === "True"),
    override: isMap(override) ? plain(override) : null,
    challenge,
    fault: faultOf(id, spec, challenge),
  };
}

const wordOf = (v: Json | JsonValue | undefined): string =>
  visible(typeof v === "string" ? v : JSON.stringify(v ?? null)).slice(0, 200);
/** "" or where the object contradicts the challenge that it carries. */
function faultOf(id: string, spec: JsonMap, challenge: JsonObject): string {
  try {
    if (!isId("apr", id)) return "its name is no approval's id";
    const terms = parseChallenge(challenge).ceremony;
    const told: readonly (readonly [
      member: string,
      spec: Json | undefined,
      challenge: JsonValue | undefined,
    ])[] = [
      ["approvalId", spec["approvalId"], id],
      ["challenge.approval_id", challenge["approval_id"], id],
      ["tool", spec["tool"], challenge["tool"]],
      ["principal", spec["principal"], challenge["principal"]],
      ["expiresAt", spec["expiresAt"], challenge["expires_at"]],
      ["quorum", spec["quorum"], terms["quorum"]],
      ["challengeHash", spec["challengeHash"], hashJson(challenge)],
    ];
    for (const [member, one, other] of told)
      if (one !== other)
        return `spec.${member} is \`${wordOf(one)}\`, and what would be signed says \`${wordOf(other)}\``;
    return "";
  } catch (error) {
    if (!(error instanceof ContractError)) throw error;
    return visible(error.message);
  }
}

export function clusterRequests(cluster: Cluster, seconds = 10): Requests {
  const folder = `${KINDS}/namespaces/${encodeURIComponent(cluster.namespace)}/approvalrequests`;
  const read = async (id: string): Promise<JsonMap | undefined> => {
    if (!isId("apr", id)) throw new Error(`\`${visible(id)}\` is no approval's id`);
    try {
      return await cluster.json(`${folder}/${id.replace("_", "-")}`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  };
  /** Puts a signed object in place of an earlier one of the same key, beside what others put there. */
  async function put(id: string, member: "assertions" | "reviews", signed: JsonObject): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const object = await read(id);
      if (object === undefined) throw new Error(`the approval \`${id}\` is gone`);
      const others = listIn(mapIn(object, "status"), member).filter(
        (o) => isMap(o) && o["key_id"] !== signed["key_id"],
      );
      const { resourceVersion } = mapIn(object, "metadata");
      try {
        await patch(cluster, `${folder}/${id.replace("_", "-")}/status`, {
          metadata: { resourceVersion },
          status: { [member]: [...others, signed] },
        });
        return;
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 409) || attempt > 20) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 100));
      }
    }
  }
  return {
    where: `in namespace ${visible(cluster.namespace)} of ${visible(cluster.name)}`,
    list: async (everywhere) => {
      const list = await cluster.json(everywhere ? `${KINDS}/approvalrequests` : folder);
      return listIn(list, "items").flatMap((o) => (isMap(o) ? [requestFrom(o)] : []));
    },
    async find(id) {
      const object = await read(id);
      if (object === undefined) return undefined;
      const found = requestFrom(object);
      if (found["id"] !== id) throw new Error("the API server gave another object than was asked for");
      if (found["state"] === "pending" && Date.now() >= Date.parse(textIn(found, "expires_at")))
        return { ...found, state: "expired" };
      return found;
    },
    lines: (found) => [
      `cluster      ${visible(cluster.name)}`,
      `pod          ${visible(`${textIn(found, "namespace")}/${textIn(found, "pod")}`)} (as the cluster says; not signed)`,
    ],
    async hand(kind, id, signed, keyId) {
      await put(id, kind === "review" ? "reviews" : "assertions", signed);
      // Only the guardian's word counts, and it comes back through the same object.
      const word = await within(seconds, async () => {
        const object = await read(id);
        if (object === undefined) return { fault: "the approval is gone" };
        const status = mapIn(object, "status");
        const refused = listIn(status, "refused").find((r) => isMap(r) && r["key_id"] === keyId);
        const found = requestFrom(object);
        const done =
          kind === "review" ? found["review_open"] !== true : listIn(status, "counted").includes(keyId);
        if (done) return { found };
        return isMap(refused)
          ? { fault: `the guardian refused it: ${visible(textIn(refused, "message"))}` }
          : undefined;
      });
      if (word === undefined)
        throw new Error(
          `handed in, but the guardian has not said within ${seconds} s that it counts; look at it with atoll approvals --all`,
        );
      if (word.found === undefined) throw new Error(word.fault);
      return word.found;
    },
    close: () => cluster.close(),
  };
}
