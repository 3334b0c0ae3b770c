// `atoll freeze | unfreeze`: stop agents now, on this machine or in a cluster, and let them go on with an approver's key.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { isObject, timestampOf } from "../kernel/contracts/contracts.ts";
import type { Hash, JsonObject, JsonValue } from "../kernel/contracts/contracts.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";
import type { Signer } from "../kernel/crypto/crypto.ts";
import { freezeOrderFrom, orderHash, signAct } from "../kernel/trust/trust.ts";
import type { FreezeOrder } from "../kernel/trust/trust.ts";
import {
  ANNOTATION_FREEZE,
  ANNOTATION_UNFREEZE,
  FREEZES,
  LABEL_SIDECAR,
  SYSTEM_NAMESPACE,
  isMap,
} from "../operator/kinds/kinds.ts";
import type { Json, JsonMap } from "../operator/kinds/kinds.ts";
import { ApiError } from "../operator/runtime/runtime.ts";
import { adminOrThrow } from "./admin.ts";
import { PLACE_OPTIONS, PLACE_USAGE, patch, placeOf, within } from "./cluster.ts";
import type { Cluster } from "./cluster.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";
import { question, shownTo } from "./screen.ts";
import { visible } from "./visible.ts";

const TARGETS = `  TARGET             gs/NAME = every agent of that GuardianSidecar, pod/NAME = one agent, in namespace -n
  --all              every GuardianSidecar
  -l, --selector L   the governed pods with these labels, in namespace -n`;
const FREEZE = `usage: atoll freeze --reason R [TARGET… | --all | -l LABELS] [options]
Stops agents until an approver lets them go on; whoever may edit the object, or open the socket, may do it.
${TARGETS}
  --wait SECONDS     how long to wait for the operator to take it up (10)
${PLACE_USAGE}
exit 0 frozen, 1 not (no cluster, no right, not found, not taken up in time), 2 wrong use`;
const UNFREEZE = `usage: atoll unfreeze --key FILE [--reason R] [TARGET… | --all | -l LABELS] [options]
Lifts the freezes in force, by the private key FILE of an approver; the key does not leave this machine. In a cluster it shows
what it would lift, asks for the target, and one signature lifts the freeze in all guardians that obey it.
${TARGETS}
  --yes-to TARGET    answers the question beforehand (\`all\` where there are several); what is shown is the same
  --wait SECONDS     how long to wait for the operator to take it up (10)
${PLACE_USAGE}
exit 0 nothing is frozen any more, 1 it still is, 2 wrong use`;

const OPTIONS = {
  ...PLACE_OPTIONS,
  reason: { type: "string" },
  all: { type: "boolean" },
  selector: { type: "string", short: "l" },
  wait: { type: "string" },
} as const;

const textIn = (o: JsonMap | JsonObject | undefined, key: string): string => {
  const v = o?.[key];
  return typeof v === "string" ? v : "";
};
const mapIn = (o: JsonMap | undefined, key: string): JsonMap => (isMap(o?.[key]) ? o[key] : {});
const secondsOf = (text: string | undefined, usage: string): number => {
  const n = Number(text ?? "10");
  if (!(n >= 0 && n <= 3600)) throw new UsageError("--wait is a number of seconds", usage);
  return n;
};

interface Asked {
  readonly targets: readonly string[];
  readonly all: boolean;
  readonly selector: string | undefined;
}
const namesCluster = (a: Asked): boolean => a.targets.length > 0 || a.all || a.selector !== undefined;

/** One object of the cluster that can be frozen. */
interface Target {
  /** As a person names it. */
  readonly name: string;
  /** As an order names it. */
  readonly scope: string;
  readonly path: string;
  readonly object: JsonMap;
}
const SIDECARS = "/apis/atoll.dev/v1alpha1/guardiansidecars";
const podsOf = (namespace: string): string => `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
const itemsOf = (list: JsonMap): JsonMap[] =>
  (Array.isArray(list["items"]) ? list["items"] : []).filter((i: Json) => isMap(i));

const sidecarTarget = (object: JsonMap): Target => {
  const name = textIn(mapIn(object, "metadata"), "name");
  return { name: `gs/${name}`, scope: `gs/${name}`, path: `${SIDECARS}/${encodeURIComponent(name)}`, object };
};
function podTarget(object: JsonMap, namespace: string): Target {
  const meta = mapIn(object, "metadata");
  const name = textIn(meta, "name");
  if (textIn(mapIn(meta, "labels"), LABEL_SIDECAR) === "")
    throw new Error(`the pod ${namespace}/${visible(name)} has no guardian: there is nobody to stop it`);
  return {
    name: `pod/${name}`,
    scope: `pod/${textIn(meta, "uid")}`,
    path: `${podsOf(namespace)}/${encodeURIComponent(name)}`,
    object,
  };
}

async function targetsOf(cluster: Cluster, asked: Asked, usage: string): Promise<Target[]> {
  const ways = [asked.targets.length > 0, asked.all, asked.selector !== undefined].filter(Boolean).length;
  if (ways !== 1)
    throw new UsageError("name what is meant: TARGET, --all or -l LABELS, and only one of them", usage);
  if (asked.all) return itemsOf(await cluster.json(SIDECARS)).map(sidecarTarget);
  if (asked.selector !== undefined) {
    const labels = encodeURIComponent(`${LABEL_SIDECAR},${asked.selector}`);
    const found = itemsOf(await cluster.json(`${podsOf(cluster.namespace)}?labelSelector=${labels}`));
    if (found.length === 0)
      throw new Error(`no governed pod in namespace ${cluster.namespace} has \`${visible(asked.selector)}\``);
    return found.map((pod) => podTarget(pod, cluster.namespace));
  }
  const out: Target[] = [];
  for (const target of asked.targets) {
    const [, kind, name = ""] = /^(gs|pod)\/([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)$/.exec(target) ?? [];
    if (kind === undefined)
      throw new UsageError(`\`${visible(target)}\` is no target: gs/NAME or pod/NAME`, usage);
    out.push(
      kind === "gs"
        ? sidecarTarget(await cluster.json(`${SIDECARS}/${name}`))
        : podTarget(await cluster.json(`${podsOf(cluster.namespace)}/${name}`), cluster.namespace),
    );
  }
  return out;
}

/** The freezes of a scope that the operator keeps and nobody has lifted. */
async function ordersOf(cluster: Cluster): Promise<(scope: string) => readonly FreezeOrder[]> {
  let data: JsonMap = {};
  try {
    data = mapIn(await cluster.json(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${FREEZES}`), "data");
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
  }
  return (scope) => {
    const text = textIn(data, scope.replace("/", "."));
    const kept: unknown = text === "" ? {} : JSON.parse(text);
    const orders = isMap(kept) && Array.isArray(kept["orders"]) ? kept["orders"] : [];
    return orders.flatMap((one: Json) => {
      if (!isMap(one) || one["lifted"] !== undefined) return [];
      // Read as strictly as a guardian would: what is signed is the hash of these words and of nothing else.
      const order = freezeOrderFrom(one["order"] as JsonValue, "order");
      return order.scope === scope ? [order] : [];
    });
  };
}
const wordsOf = (target: Target): { readonly reason: string; readonly by: string } => {
  if (!target.scope.startsWith("gs/"))
    return {
      reason: textIn(mapIn(mapIn(target.object, "metadata"), "annotations"), ANNOTATION_FREEZE),
      by: "",
    };
  const freeze = mapIn(mapIn(target.object, "spec"), "freeze");
  return { reason: textIn(freeze, "reason"), by: textIn(freeze, "by") };
};
const written = (target: Target, reason: string | null, by: string, unfreeze: string | null): JsonMap =>
  target.scope.startsWith("gs/")
    ? {
        metadata: { annotations: { [ANNOTATION_UNFREEZE]: unfreeze } },
        spec: { freeze: reason === null ? null : { reason, ...(by === "" ? {} : { by }) } },
      }
    : { metadata: { annotations: { [ANNOTATION_FREEZE]: reason, [ANNOTATION_UNFREEZE]: unfreeze } } };

export async function freeze(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...argv], allowPositionals: true, options: OPTIONS });
  if (values.help === true) {
    io.stdout.write(`${FREEZE}\n`);
    return 0;
  }
  const { reason = "" } = values;
  if (reason === "") throw new UsageError("--reason is missing", FREEZE);
  if (reason.length > 500) throw new UsageError("--reason is longer than 500 characters", FREEZE);
  const seconds = secondsOf(values.wait, FREEZE);
  const asked = { targets: positionals, all: values.all === true, selector: values.selector };
  const place = await placeOf(values, namesCluster(asked), FREEZE);
  const by = (io.env["USER"] ?? "").slice(0, 200);
  if (place.kind === "socket") {
    const body = await adminOrThrow(place.path, "POST", "/freeze", { reason, by });
    io.stdout.write(
      values.json === true
        ? `${JSON.stringify([{ target: place.path, reason, by, node: textIn(body, "node"), frozen: true }])}\n`
        : `frozen by node ${textIn(body, "node")}\n`,
    );
    return 0;
  }
  const { cluster } = place;
  try {
    const targets = await targetsOf(cluster, asked, FREEZE);
    const inForce = async (scope: string) => (await ordersOf(cluster))(scope);
    const told: {
      target: string;
      scope: string;
      reason: string;
      order: string;
      at: string;
      frozen: boolean | null;
    }[] = [];
    for (const target of targets) {
      const before = wordsOf(target);
      // The same words, left over from a freeze that was lifted, would be no change and stop nobody.
      if (before.reason === reason) await patch(cluster, target.path, written(target, null, "", null));
      await patch(cluster, target.path, written(target, reason, by, null));
    }
    for (const { name, scope } of targets) {
      let order: FreezeOrder | undefined;
      let frozen: boolean | null = false;
      try {
        order = await within(seconds, async () =>
          (await inForce(scope)).findLast(
            (o) => o.reason === reason && (scope.startsWith("pod/") || o.by === by),
          ),
        );
        frozen = order !== undefined;
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 403)) throw error;
        // Not ours to see; it is written all the same.
        frozen = null;
      }
      told.push({
        target: name,
        scope,
        reason,
        order: order === undefined ? "" : orderHash(order),
        at: order?.at ?? "",
        frozen,
      });
    }
    if (values.json === true) io.stdout.write(`${JSON.stringify(told)}\n`);
    for (const t of told)
      if (t.frozen === true) {
        if (values.json !== true) io.stdout.write(`frozen: ${t.target} since ${t.at}, order ${t.order}\n`);
      } else if (t.frozen === null) {
        io.stderr.write(
          `written: ${t.target}; whether the operator has taken it up is in ConfigMap ${SYSTEM_NAMESPACE}/${FREEZES}, which you may not read\n`,
        );
      } else
        io.stderr.write(
          `NOT FROZEN YET: ${t.target}: written, but the operator has not taken it up; guardians without its heartbeat deny with POLICY_STALE when their policy says so\n`,
        );
    return told.some((t) => t.frozen === false) ? 1 : 0;
  } finally {
    cluster.close();
  }
}

interface Lift {
  readonly target: Target;
  readonly orders: readonly FreezeOrder[];
}
const sign = (freeze: Hash, reason: string, signer: Signer): JsonObject =>
  signAct({ type: "atoll.dev/unfreeze/v1", freeze, reason }, timestampOf(Date.now()), signer);

export async function unfreeze(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { ...OPTIONS, key: { type: "string" }, "yes-to": { type: "string" } },
  });
  if (values.help === true) {
    io.stdout.write(`${UNFREEZE}\n`);
    return 0;
  }
  if (values.key === undefined) throw new UsageError("--key is missing", UNFREEZE);
  const seconds = secondsOf(values.wait, UNFREEZE);
  const reason = (values.reason ?? "").slice(0, 500);
  const signer = signerFromPem(readFileSync(values.key, "utf8"));
  const asked = { targets: positionals, all: values.all === true, selector: values.selector };
  const place = await placeOf(values, namesCluster(asked), UNFREEZE);
  if (place.kind === "socket") return await onSocket(place.path, reason, signer, values.json === true, io);
  const { cluster } = place;
  const out = values.json === true ? io.stderr : io.stdout;
  try {
    const targets = await targetsOf(cluster, asked, UNFREEZE);
    const ordersIn = await ordersOf(cluster);
    const lifts: Lift[] = targets
      .map((target) => ({ target, orders: ordersIn(target.scope) }))
      .filter(({ orders }) => orders.length > 0);
    if (lifts.length === 0) {
      io.stdout.write(values.json === true ? "[]\n" : "nothing is frozen\n");
      return 0;
    }
    const interactive = values["yes-to"] === undefined;
    if (
      !(await shownTo(
        io,
        [`cluster      ${visible(cluster.name)}`, ...lifts.flatMap(linesOf)],
        interactive,
        out,
      ))
    ) {
      io.stderr.write("not everything was shown; nothing was signed\n");
      return 1;
    }
    const [first] = lifts;
    const wanted = lifts.length === 1 && first !== undefined ? first.target.name : "all";
    const typed =
      values["yes-to"] ??
      (await question(io, `To let ${wanted === "all" ? "them" : "it"} go on, type \`${wanted}\`: `));
    if (typed.trim() !== wanted) {
      io.stderr.write(`that is not \`${wanted}\`; nothing was signed\n`);
      return 1;
    }
    for (const { target, orders } of lifts) {
      const signed = orders.map((order) => sign(orderHash(order), reason, signer));
      const [only] = signed;
      await patch(
        cluster,
        target.path,
        written(target, null, "", JSON.stringify(signed.length === 1 ? only : signed)),
      );
    }
    const left = await within(seconds, async () => {
      const now = await ordersOf(cluster);
      const still = lifts.filter(({ target, orders }) => {
        const names = new Set(now(target.scope).map(orderHash));
        return orders.some((o) => names.has(orderHash(o)));
      });
      return still.length === 0 ? [] : undefined;
    });
    if (values.json === true)
      io.stdout.write(
        `${JSON.stringify(
          lifts.map(({ target, orders }) => ({
            target: target.name,
            scope: target.scope,
            orders: orders.map(orderHash),
            key_id: signer.keyId,
            lifted: left !== undefined,
          })),
        )}\n`,
      );
    if (left === undefined) {
      io.stderr.write(
        `STILL FROZEN: the operator has not taken the signature of ${signer.keyId}: is it an approver's, in the installer's trust roots, and does the operator run?\n`,
      );
      return 1;
    }
    if (values.json !== true)
      for (const { target } of lifts) io.stdout.write(`unfrozen: ${target.name} by ${signer.keyId}\n`);
    return 0;
  } finally {
    cluster.close();
  }
}

/** What is signed, word for word: an order is its scope, its reason, who gave it and when. */
const linesOf = ({ target, orders }: Lift): string[] =>
  orders.flatMap((order) => [
    "",
    `freeze       ${visible(target.name)}`,
    `scope        ${visible(order.scope)}`,
    `reason       ${visible(order.reason)}`,
    `by           ${order.by === "" ? "not said" : visible(order.by)}`,
    `since        ${order.at}`,
    `order        ${orderHash(order)}`,
    `if yes       every guardian in this scope goes on that no other freeze stops`,
  ]);

async function onSocket(
  socket: string,
  reason: string,
  signer: Signer,
  json: boolean,
  io: Io,
): Promise<number> {
  const status = await adminOrThrow(socket, "GET", "/status");
  const list = Array.isArray(status["freezes"])
    ? status["freezes"].filter((f: JsonValue) => isObject(f))
    : [];
  const told: JsonObject[] = [];
  for (const frozen of list) {
    const node = textIn(frozen, "node");
    await adminOrThrow(socket, "POST", "/unfreeze", sign(node as Hash, reason, signer));
    const body = isObject(frozen["body"]) ? frozen["body"] : {};
    told.push({ target: socket, node, reason: body["reason"] ?? "", key_id: signer.keyId, lifted: true });
    if (!json) io.stdout.write(`unfrozen (it was: ${visible(textIn(body, "reason"))})\n`);
  }
  if (json) io.stdout.write(`${JSON.stringify(told)}\n`);
  else if (list.length === 0) io.stdout.write("nothing is frozen\n");
  return 0;
}
