// The evidence page in a real browser, from file://.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { viewerPage } from "../../cli/viewer/viewer.ts";
import { signerFromPem } from "../../kernel/crypto/crypto.ts";
import { NOT_PROVED } from "../../kernel/evidence/evidence.ts";
import { journalOf, packOf, rootsFile } from "../evidence/packs.ts";
import { newPem } from "../journal/scene.ts";

const folder = mkdtempSync(join(tmpdir(), "atoll-viewer-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The document after its scripts have run. */
function rendered(html: string): string {
  const file = join(mkdtempSync(join(folder, "page-")), "evidence.html");
  writeFileSync(file, html);
  return execFileSync(
    "chromium",
    [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--user-data-dir=${join(folder, "profile")}`,
      "--virtual-time-budget=60000",
      "--dump-dom",
      `file://${file}`,
    ],
    { encoding: "utf8", maxBuffer: 64 << 20, stdio: ["ignore", "pipe", "ignore"] },
  );
}
const banner = (dom: string): string => /<div id="banner"[^>]*>([^<]*)</.exec(dom)?.[1] ?? "no banner";
const scene = await journalOf(20);
const pack = readFileSync(await packOf(scene));
const trust = readFileSync(rootsFile(scene.signer), "utf8");
const page = async (bytes: Buffer, roots: string, name = "pack.tar"): Promise<string> =>
  rendered(await viewerPage({ name, pack: bytes.toString("base64"), trust: roots }));

describe("the page", () => {
  test("says that a whole pack is valid, draws its nodes and says what is not proved", async () => {
    const dom = await page(pack, trust);
    expect(banner(dom)).toBe("VALID: pack.tar");
    expect(dom).toContain(scene.signer.keyId);
    expect([...dom.matchAll(/<circle/g)].length).toBeGreaterThanOrEqual(20);
    expect([...dom.matchAll(/<tr tabindex/g)].length).toBeGreaterThanOrEqual(20);
    expect(NOT_PROVED.filter((line) => !dom.includes(`<li>${line}</li>`))).toEqual([]);
  });
  test("says of a pack with one changed byte what failed", async () => {
    const changed = Buffer.from(pack);
    const at = changed.indexOf('"verdict":"ALLOW"');
    changed.write('"verdict":"DENY" ', at);
    expect(banner(await page(changed, trust))).toMatch(/^NOT VALID: nodes\/ses_[0-9a-f]{32}\.jsonl/);
  });
  test("believes no key but those it is given", async () => {
    const dom = await page(pack, readFileSync(rootsFile(signerFromPem(newPem())), "utf8"));
    expect(banner(dom)).toContain("TRUST_KEY_UNKNOWN");
    expect(dom).toContain("is not to be believed");
  });
  test("takes a hostile name as text", async () => {
    const dom = await page(pack, trust, "</script><img src=x onerror=document.title='taken'>\u202e.tar");
    expect(dom).not.toContain("<img");
    expect(dom).not.toContain("<title>taken");
    expect(banner(dom)).toContain("&lt;/script&gt;");
    expect(banner(dom)).toContain("\\u202e.tar");
  });
  test("asks for files where it holds none", async () => {
    expect(banner(rendered(await viewerPage(null)))).toContain("Choose a pack");
  });
});
