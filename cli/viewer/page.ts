// The page's own program: verify first, then show. Nothing of the pack reaches the document but as text.

import { LIMITS, parseJson } from "../../kernel/contracts/contracts.ts";
import type { Hash, Node } from "../../kernel/contracts/contracts.ts";
import { NOT_PROVED, PackInvalid, readTar, verifyPack } from "../../kernel/evidence/evidence.ts";
import type { PackFile, PackReport } from "../../kernel/evidence/evidence.ts";
import { readNode } from "../../kernel/receipts/receipts.ts";
import { parseTrustRoots } from "../../kernel/trust/trust.ts";

declare global {
  interface Window {
    atollPack: { readonly name: string; readonly pack: string; readonly trust: string } | null;
  }
}

interface Row {
  readonly node: Node;
  readonly hash: Hash;
  readonly colour: string;
  readonly label: string;
}

const get = (id: string): HTMLElement => {
  const e = document.getElementById(id);
  if (e === null) throw new Error(`the page has no #${id}`);
  return e;
};
function add(
  parent: Element,
  tag: string,
  text = "",
  attributes: Readonly<Record<string, string>> = {},
): HTMLElement {
  const e = document.createElement(tag);
  e.textContent = text;
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  parent.append(e);
  return e;
}
function draw(
  parent: Element,
  tag: string,
  attributes: Readonly<Record<string, string | number>>,
): SVGElement {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, String(v));
  parent.append(e);
  return e;
}
/** What a reader cannot see is made visible: control characters and those that turn the direction of text. */
const visible = (s: string): string =>
  s.replace(
    /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
const textOf = (v: unknown): string => (typeof v === "string" ? visible(v) : "");

function show(name: string, pack: Uint8Array, trust: string): void {
  for (const id of ["facts", "limits", "graph", "rows", "detail"]) get(id).replaceChildren();
  const banner = get("banner");
  let files: readonly PackFile[] = [];
  try {
    files = readTar({ size: pack.byteLength, read: (at, n) => pack.subarray(at, at + n) });
    const report = verifyPack(files, parseTrustRoots(trust));
    banner.textContent = `VALID: ${name}`;
    banner.className = "valid";
    facts(report);
  } catch (e) {
    banner.className = "invalid";
    banner.textContent =
      e instanceof PackInvalid
        ? `NOT VALID: ${e.finding.file}${e.finding.line > 0 ? ` line ${e.finding.line}` : ""}: ${e.finding.code}: ${e.finding.reason}`
        : `NOT VALID: ${e instanceof Error ? e.message : String(e)}`;
    add(get("facts"), "p", "What follows is what the pack says, and is not to be believed.");
  }
  for (const line of NOT_PROVED) add(get("limits"), "li", line);
  const rows = rowsOf(files);
  graph(rows);
  table(rows);
}

function facts(r: PackReport): void {
  const lines: readonly (readonly [string, string])[] = [
    ["signed by", r.signer],
    [
      "nodes",
      `${r.nodes} in ${r.sessions.length} sessions${r.condensed > 0 ? `, ${r.condensed} condensed` : ""}`,
    ],
    ["checkpoints", `${r.checkpoints}, ${r.uncovered} nodes after the last`],
    ["inputs", `${r.inputs}, ${r.redacted} redacted`],
    ["tree", `${r.tree_size} leaves, root ${r.root_hash}`],
  ];
  for (const [k, v] of lines) {
    add(get("facts"), "dt", k);
    add(get("facts"), "dd", v);
  }
}

function rowsOf(files: readonly PackFile[]): readonly Row[] {
  const rows: Row[] = [];
  for (const file of files.filter((f) => f.path.startsWith("nodes/"))) {
    const bytes = new Uint8Array(file.size);
    let at = 0;
    for (const chunk of file.chunks()) {
      bytes.set(chunk, at);
      at += chunk.byteLength;
    }
    for (const line of new TextDecoder().decode(bytes).split("\n")) {
      if (line === "") continue;
      try {
        const raw = new TextEncoder().encode(line);
        parseJson(raw, LIMITS.node);
        const sealed = readNode(raw);
        rows.push({ node: sealed.node, hash: sealed.hash, ...look(sealed.node) });
      } catch {
        // A condensed place, or a broken line: the verdict above says which.
      }
    }
  }
  return rows.sort((a, b) =>
    a.node.issued_at < b.node.issued_at
      ? -1
      : a.node.issued_at > b.node.issued_at
        ? 1
        : a.node.lamport - b.node.lamport,
  );
}

function look(node: Node): { readonly colour: string; readonly label: string } {
  const status = textOf(node.body["status"]);
  const code = textOf(node.body["reason_code"]);
  const colour =
    node.kind === "CHECKPOINT"
      ? "#8a94a6"
      : node.kind === "TRUST_EVENT"
        ? "#7a5fb0"
        : status === "DENIED"
          ? "#c0392b"
          : status === "ESCALATED"
            ? "#d98e04"
            : status === "FAILED" || status === "UNKNOWN"
              ? "#b36b6b"
              : node.kind === "ATTESTATION" && status === ""
                ? "#2f7f9f"
                : "#2e8b57";
  return { colour, label: [node.kind, status, code].filter((s) => s !== "").join(" ") };
}

/** One lane a session, one dot a node, a line to each node it depends on. */
function graph(all: readonly Row[]): void {
  const rows = all.slice(0, 400);
  const lanes = [...new Set(rows.map((r) => r.node.session_id))];
  const [step, lane, left] = [26, 44, 20];
  const svg = draw(get("graph"), "svg", {
    width: left * 2 + rows.length * step,
    height: lanes.length * lane + 20,
    role: "img",
    "aria-label": "the graph of nodes",
  });
  const spots = new Map<string, readonly [number, number]>();
  rows.forEach((r, i) => spots.set(r.hash, [left + i * step, 24 + lanes.indexOf(r.node.session_id) * lane]));
  for (const r of rows) {
    const to = spots.get(r.hash);
    for (const from of [r.node.prev_hash, ...r.node.parents].map((h) => spots.get(h))) {
      if (from === undefined || to === undefined) continue;
      const mid = (from[0] + to[0]) / 2;
      const bend = from[1] === to[1] ? from[1] - (to[0] - from[0] > step ? 14 : 0) : (from[1] + to[1]) / 2;
      draw(svg, "path", {
        d: `M${from[0]} ${from[1]}Q${mid} ${bend} ${to[0]} ${to[1]}`,
        fill: "none",
        stroke: "#c3cad5",
      });
    }
  }
  for (const r of rows) {
    const [x, y] = spots.get(r.hash) ?? [0, 0];
    const dot = draw(
      svg,
      r.node.kind === "CHECKPOINT" ? "rect" : "circle",
      r.node.kind === "CHECKPOINT"
        ? { x: x - 5, y: y - 5, width: 10, height: 10, fill: r.colour }
        : { cx: x, cy: y, r: 7, fill: r.colour },
    );
    draw(dot, "title", {}).textContent = `${r.label} ${textOf(r.node.body["tool"])}`;
    dot.addEventListener("click", () => detail(r));
  }
  if (all.length > rows.length)
    add(get("graph"), "p", `the first ${rows.length} of ${all.length} nodes are drawn; all are in the table`);
}

let refill = new AbortController();

function table(rows: readonly Row[]): void {
  const filter = get("filter");
  const fill = (): void => {
    const wanted = filter instanceof HTMLInputElement ? filter.value.toLowerCase() : "";
    const body = get("rows");
    body.replaceChildren();
    let shown = 0;
    for (const r of rows) {
      const cells = [
        r.node.issued_at,
        String(r.node.lamport),
        r.label,
        textOf(r.node.body["tool"]),
        textOf(r.node.body["rule_id"]),
        textOf(r.node.body["receipt_id"]),
      ];
      if (!cells.join(" ").toLowerCase().includes(wanted)) continue;
      shown += 1;
      if (shown > 2000) continue;
      const tr = add(body, "tr", "", { tabindex: "0" });
      tr.style.setProperty("--mark", r.colour);
      for (const c of cells) add(tr, "td", c);
      tr.addEventListener("click", () => detail(r));
    }
    get("count").textContent = `${shown} of ${rows.length} nodes`;
  };
  refill.abort();
  refill = new AbortController();
  filter.addEventListener("input", fill, { signal: refill.signal });
  fill();
}

function detail(r: Row): void {
  get("detail").textContent =
    `${r.hash}\n${visible(JSON.stringify(r.node, null, 2)).replaceAll("\\u000a", "\n")}`;
}

async function chosen(): Promise<void> {
  const [pack, trust] = ["pack", "trust"].map((id) => {
    const e = get(id);
    return e instanceof HTMLInputElement ? e.files?.[0] : undefined;
  });
  if (pack === undefined || trust === undefined) return;
  show(visible(pack.name), new Uint8Array(await pack.arrayBuffer()), await trust.text());
}

for (const id of ["pack", "trust"]) get(id).addEventListener("change", () => void chosen());
const data = window.atollPack;
if (data !== null)
  show(
    visible(data.name),
    Uint8Array.from(atob(data.pack), (c) => c.charCodeAt(0)),
    data.trust,
  );
