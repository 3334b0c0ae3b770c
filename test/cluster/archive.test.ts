import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { fileCapability, sha256, writeImage, type Entry } from "../../kind-e2e/archive.ts";

const folder = mkdtempSync(join(tmpdir(), "atoll-archive-"));
afterAll(() => rmSync(folder, { recursive: true }));

const entries = (text = "hello"): Entry[] => [
  { path: "usr/bin/run", mode: 0o755, owner: 64523, from: { text } },
  { path: `deep/${"a".repeat(120)}/file`, from: { text: "long" } },
  { path: "lib", from: { link: "usr/lib" } },
  { path: "tmp", mode: 0o1777, from: { folder: true } },
];
const config = { entrypoint: ["/usr/bin/run"], user: "64523:64523" };
const write = async (
  name: string,
  list: readonly Entry[],
  compress = false,
): Promise<{ file: string; digest: string }> => {
  const file = join(folder, name);
  return { file, ...(await writeImage(file, "localhost/t:1", [list], config, { compress })) };
};

test("the same files give the same bytes, in any order and at any time; other files give others", async () => {
  for (const compress of [false, true]) {
    const one = await write("one.tar", entries(), compress);
    const two = await write("two.tar", entries().toReversed(), compress);
    const other = await write("other.tar", entries("hallo"), compress);
    expect(sha256(readFileSync(one.file))).toBe(sha256(readFileSync(two.file)));
    expect(one.digest).toBe(two.digest);
    expect(other.digest).not.toBe(one.digest);
  }
});

test("every blob lies under the digest of its bytes, and tar reads modes, owners, links and long names back", async () => {
  const { file, digest } = await write("image.tar", entries());
  const out = join(folder, "out");
  mkdirSync(out);
  expect(spawnSync("tar", ["-xf", file, "-C", out]).status).toBe(0);
  const blobs = join(out, "blobs/sha256");
  for (const name of readdirSync(blobs)) expect(sha256(readFileSync(join(blobs, name)))).toBe(name);
  const manifest = JSON.parse(readFileSync(join(blobs, digest.slice(7)), "utf8"));
  const listing = spawnSync(
    "tar",
    ["-tvf", join(blobs, manifest.layers[0].digest.slice(7)), "--numeric-owner"],
    { encoding: "utf8" },
  );
  expect(listing.stderr).toBe("");
  expect(listing.stdout).toMatch(/-rwxr-xr-x 64523\/64523 +5 1970-01-01 00:00 usr\/bin\/run/u);
  expect(listing.stdout).toMatch(/lrwxrwxrwx 0\/0 .* lib -> usr\/lib/u);
  expect(listing.stdout).toMatch(/drwxrwxrwt .* tmp\//u);
  expect(listing.stdout).toContain(`${"a".repeat(120)}/file`);
});

test("a path out of the image, or one written twice, is refused", async () => {
  await expect(write("bad", [{ path: "../x", from: { text: "" } }])).rejects.toThrow(
    "not a path inside an image",
  );
  await expect(write("bad", [{ path: "/x", from: { text: "" } }])).rejects.toThrow(
    "not a path inside an image",
  );
  const twice: Entry = { path: "x", from: { text: "" } };
  await expect(write("bad", [twice, twice])).rejects.toThrow("twice in one image");
});

test("the capability attribute is the one that setcap writes for cap_net_admin+ep", () => {
  expect(fileCapability(12).toString("hex")).toBe("0100000200100000000000000000000000000000");
  expect(() => fileCapability(40)).toThrow("beyond the first word");
});

test("a file that vanished is an error, not an empty entry", async () => {
  const file = join(folder, "gone");
  writeFileSync(file, "x");
  rmSync(file);
  await expect(write("bad", [{ path: "x", from: { file } }])).rejects.toThrow("ENOENT");
});
