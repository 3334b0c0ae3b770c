// Where the third-party vectors lie: beside the checkout (also for a linked work tree), or where ATOLL_VECTORS says.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

export function vectorsFolder(): string | undefined {
  const common = execFileSync("git", ["rev-parse", "--path-format=absolute", "--git-common-dir"], {
    encoding: "utf8",
  }).trim();
  const places = [process.env["ATOLL_VECTORS"], join(dirname(dirname(common)), "shared", "vectors")];
  const found = places.find((p) => p !== undefined && existsSync(p));
  if (found === undefined)
    console.log(
      "third-party vectors are absent: beside the checkout, ../shared/vectors is expected; nothing was checked against them",
    );
  return found;
}
