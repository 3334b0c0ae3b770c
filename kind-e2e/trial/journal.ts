// A guardian's journal as whoever owns the node's disk sees it: a copy to read, to export and to verify.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hashJson } from "../../kernel/crypto/crypto.ts";
import { readEntry } from "../../kernel/evidence/evidence.ts";
import { readJournal } from "../../sidecar/journal/journal.ts";
import { Failure } from "../failure.ts";
import { must } from "./kube.ts";
import { TEAM } from "./manifests.ts";
import { publicPem, textOf, type Scene } from "./steps.ts";

const kubeletFolder = (scene: Scene): string =>
  scene.cluster.backend === "kind" ? "/var/lib/kubelet" : "/run/atoll/kubelet";

export const podUid = (scene: Scene, pod: string): Promise<string> =>
  scene.kube.kubectl("get", "pod", pod, "--namespace", TEAM, "--output", "jsonpath={.metadata.uid}");

/** Copies the journal of a pod's guardian; the folder is new. */
export async function copyJournal(scene: Scene, pod: string): Promise<string> {
  const uid = await podUid(scene, pod);
  const from = `${kubeletFolder(scene)}/pods/${uid}/volumes/kubernetes.io~empty-dir/atoll-journal/journal`;
  const done = await scene.cluster.execOnNode(["sh", "-c", `tar -C '${from}' -cf - . | base64 -w0`]);
  if (done.code !== 0 || done.stdout === "") throw new Failure(`the journal of ${pod}: ${done.stderr}`);
  const folder = join(scene.keys.folder, `journal-${pod}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(`${folder}.tar`, Buffer.from(done.stdout, "base64"));
  await must("tar", ["-C", folder, "-xf", `${folder}.tar`]);
  return folder;
}

export type SeenNode = {
  readonly kind: string;
  readonly hash: string;
  /** The hash of its body: the order, where the event is a freeze. */
  readonly order: string;
  readonly event: string;
  readonly code: string;
  readonly receipt: string;
  readonly name: string;
  readonly result: string;
  readonly session: string;
  readonly lamport: number;
};
const text = (value: unknown): string => (typeof value === "string" ? value : "");
export async function journalNodes(scene: Scene, pod: string): Promise<SeenNode[]> {
  const folder = await copyJournal(scene, pod);
  const nodes: SeenNode[] = [];
  for (const { line } of readJournal(folder).records()) {
    const entry = readEntry(line);
    if (entry.kind !== "node") continue;
    const { node, hash } = entry.sealed;
    nodes.push({
      kind: node.kind,
      hash,
      order: hashJson(node.body),
      event: text(node.body["event"]),
      code: text(node.body["reason_code"]),
      receipt: text(node.body["receipt_id"]),
      name: text(node.body["name"]),
      result: text(node.body["result"]),
      session: node.session_id,
      lamport: node.lamport,
    });
  }
  return nodes;
}

/** Trust for a verifier: the installer's roots, and the key that this pod published in the cluster. */
export async function trustFor(scene: Scene, pod: string): Promise<string> {
  const uid = await podUid(scene, pod);
  const key = await scene.kube.kubectl(
    "get",
    "configmap",
    `atoll-guardian-keys-${uid.slice(0, 1)}`,
    "--namespace",
    "atoll-system",
    "--output",
    `jsonpath={.data.${uid}}`,
  );
  if (!/^[0-9a-f]{64}$/u.test(key)) throw new Failure(`the pod ${pod} has published no key`);
  const file = join(scene.keys.folder, "believed.pem");
  writeFileSync(file, `${textOf(scene.keys.roots)}role: guardian\n${publicPem(key)}`);
  return file;
}
