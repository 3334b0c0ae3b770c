import { describe, expect, test } from "vitest";
import { typed } from "../cli/typed.ts";
import {
  generationOf,
  lockDifferences,
  lockMarks,
  lockRules,
  nextGeneration,
  readListing,
} from "../../sidecar/lock/lock.ts";

describe("the rule set", () => {
  test("drops by default in both directions and names no protocol that needs /etc/protocols", () => {
    const rules = lockRules();
    expect(rules.match(/policy drop;/g)).toHaveLength(2);
    expect(rules).not.toMatch(/policy accept|l4proto (\{ )?[a-z]/);
  });

  test("accepts no UDP and no established connection in general", () => {
    for (const line of lockRules()
      .split("\n")
      .filter((each) => each.includes("accept")))
      expect(line).not.toMatch(/l4proto 17|udp|established/);
  });

  test("has a counter and a comment on every rule", () => {
    const rules = lockRules()
      .split("\n")
      .filter((line) => line.startsWith("    ") && !line.includes("type filter"));
    expect(rules.length).toBeGreaterThan(25);
    for (const rule of rules)
      expect(rule).toMatch(
        / counter (accept|drop|jump loopback|ct mark set 0x[0-9a-f]{8} accept) comment "[^"]+"$/,
      );
  });

  test("marks differ from generation to generation and can be read back", () => {
    for (const generation of [0, 1, 77, 4095]) {
      const { border, loopback } = lockMarks(generation);
      expect(border).not.toBe(loopback);
      expect([generationOf(border), generationOf(loopback)]).toEqual([generation, generation]);
    }
    expect(lockRules({ generation: 1 })).not.toContain("0x0a700001");
    expect(generationOf(0)).toBeUndefined();
    expect(generationOf(64_523)).toBeUndefined();
    expect(nextGeneration(undefined)).toBe(0);
    expect(nextGeneration(4095)).toBe(0);
    expect(() => lockRules({ generation: 4096 })).toThrow("is not an integer from 0 to 4095");
  });
});

describe("reading a loaded lock", () => {
  const rule = (comment: string, packets: number, verdict: string) => ({
    rule: {
      chain: "out",
      comment,
      expr: [
        { match: { op: "==", left: { ct: { key: "mark" } }, right: lockMarks(3).border } },
        { counter: { packets, bytes: packets * 60 } },
        { [verdict]: null },
      ],
    },
  });
  const listing = (...rules: object[]) =>
    JSON.stringify({
      nftables: [{ metainfo: {} }, { chain: { name: "out", hook: "output", policy: "drop" } }, ...rules],
    });

  test("tells counters, verdicts and the generation", () => {
    const loaded = readListing(listing(rule("flows", 7, "accept")));
    expect(loaded.rules).toMatchObject([
      { chain: "out", comment: "flows", packets: 7, bytes: 420, verdict: "accept" },
    ]);
    expect(loaded.generation).toBe(3);
  });

  test("counters make no difference; a changed verdict, a missing rule, an added rule and another policy do", () => {
    const expected = readListing(listing(rule("flows", 0, "drop"), rule("rest", 0, "drop")));
    const differences = (json: string) => lockDifferences(readListing(json), expected);
    expect(differences(listing(rule("flows", 9, "drop"), rule("rest", 1, "drop")))).toEqual([]);
    expect(differences(listing(rule("flows", 9, "accept"), rule("rest", 1, "drop")))).toEqual([
      "rule 1 of chain `out` is not `flows`",
    ]);
    expect(differences(listing(rule("flows", 0, "drop")))).toEqual(["rule 2 of chain `out` is not `rest`"]);
    expect(
      differences(listing(rule("flows", 0, "drop"), rule("rest", 0, "drop"), rule("more", 0, "accept"))),
    ).toEqual(["rule 3 of chain `out` is not `there`"]);
    expect(
      differences(
        listing(rule("flows", 0, "drop"), rule("rest", 0, "drop")).replace(
          '"policy":"drop"',
          '"policy":"accept"',
        ),
      ),
    ).toEqual(["chain `out` has hook `output`, policy `accept`"]);
  });

  test("refuses what is no listing", () => {
    expect(() => readListing("{}")).toThrow("not a listing");
  });
});

describe("atoll lock", () => {
  test("rules prints exactly the rule set", async () => {
    expect(await typed(["lock", "rules"])).toEqual({ code: 0, out: lockRules(), err: "" });
  });

  test.each([
    [[], "rules, apply or status is needed"],
    [["open"], "`open` is none of rules, apply and status"],
    [["rules", "--generation", "x"], "`--generation` is a whole number up to 4095"],
    [["rules", "--generation", "5000"], "`--generation` is a whole number up to 4095"],
    [["status", "--what"], "Unknown option '--what'; `atoll lock --help`"],
  ])("%j is wrong use", async (argv, words) => {
    expect(await typed(["lock", ...argv])).toMatchObject({
      code: 2,
      out: "",
      err: expect.stringContaining(`atoll lock: ${words}`),
    });
  });

  test("a namespace that cannot be read is exit 1, with the words of what tried", async () => {
    expect(await typed(["lock", "status", "--pid", "4194304"])).toMatchObject({
      code: 1,
      out: "",
      err: expect.stringMatching(/^atoll lock: .*(nsenter|4194304)/),
    });
  });
});
