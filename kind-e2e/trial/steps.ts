// The story's steps: each is a sentence that is true or not, with the twin that must not be true.
import { readFileSync } from "node:fs";
import { Failure } from "../failure.ts";
import type { Cluster } from "../backends.ts";
import type { Loaded, Keys } from "./install.ts";
import type { Kube, Output } from "./kube.ts";
import { TEAM, WORLD, trial } from "./manifests.ts";

export type Scene = {
  readonly name: string;
  readonly cluster: Cluster;
  readonly kube: Kube;
  readonly keys: Keys;
  images: Loaded;
  /** The chart that is installed; ours where nothing is said. */
  chart?: string;
  /** Address of the stand-ins' Service. */
  sink: string;
};

export type Part = {
  readonly name: string;
  readonly steps: readonly (readonly [sentence: string, run: (scene: Scene) => Promise<void>])[];
};

export const expect = (fact: boolean, otherwise: string | (() => string)): void => {
  if (!fact) throw new Failure(typeof otherwise === "string" ? otherwise : otherwise());
};
export const told = (done: Output): string => `${done.stdout}${done.stderr}`.trim();

/** What the API server refuses must be refused for the reason that is meant. */
export const refused = (done: Output, because: string | RegExp): void => {
  const text = told(done);
  expect(done.code !== 0, () => `it was accepted: ${text}`);
  expect(
    typeof because === "string" ? text.includes(because) : because.test(text),
    () => `refused for another reason: ${text}`,
  );
};
export const accepted = (done: Output): void => expect(done.code === 0, () => told(done));

/** The agent's own words: its SDKs against what it takes for its model and tools. */
export const asAgent = async (scene: Scene, pod: string, ...argv: readonly string[]): Promise<string> =>
  told(await scene.kube.exec(TEAM, pod, ...trial(...argv)));
export const inWorld = async (scene: Scene, ...argv: readonly string[]): Promise<string> =>
  told(
    await scene.kube.tryKubectl(
      "exec",
      "--namespace",
      WORLD,
      "deployment/stand-ins",
      "--",
      ...trial(...argv),
    ),
  );

/** How often the stand-ins really did something. */
export async function doneCount(scene: Scene, what: string): Promise<number> {
  const text: unknown = JSON.parse(await inWorld(scene, "get", "http://127.0.0.1:8082/"));
  const counts: Record<string, number> = JSON.parse(typeof text === "string" ? text : "{}");
  return counts[what] ?? 0;
}

export type Answer = {
  readonly text: string;
  readonly error: boolean;
  readonly receipt: string;
  readonly reason: string;
  readonly approval: string;
};
/** One MCP call and what came back. */
export async function mcp(scene: Scene, pod: string, tool: string, args: object): Promise<Answer> {
  const text = await asAgent(scene, pod, "mcp", tool, JSON.stringify(args));
  const one = (pattern: RegExp): string => pattern.exec(text)?.[1] ?? "";
  return {
    text,
    error: text.includes('"isError":true') || text.startsWith('{"error"'),
    receipt: one(/"dev\.atoll\/receipt":"(rcp_[0-9a-f]{32})"/u),
    reason: one(/"dev\.atoll\/reason":"([A-Z_]+)"/u),
    approval: one(/(apr_[0-9a-f]{32})/u),
  };
}

export const publicPem = (rawHex: string): string => {
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), Buffer.from(rawHex, "hex")]);
  return `-----BEGIN PUBLIC KEY-----\n${der.toString("base64")}\n-----END PUBLIC KEY-----\n`;
};
export const textOf = (path: string): string => readFileSync(path, "utf8");
