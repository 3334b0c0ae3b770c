import { expect, test } from "vitest";
import { oneOf, read, someOf, text, amount } from "../../kind-e2e/asked.ts";

const options = {
  rounds: 3,
  jobs: amount(2, 1),
  json: false,
  name: text("a"),
  plant: oneOf("leak", "stall"),
  kinds: someOf("x", "y"),
} as const;

test("what is not said is as the script has it", () => {
  expect(read([], options)).toEqual({
    rounds: 3,
    jobs: 2,
    json: false,
    name: "a",
    plant: "",
    kinds: ["x", "y"],
  });
});
test("what is said is read into its kind", () => {
  const words = ["--rounds=0", "--jobs", "4", "--json", "--name", "b", "--plant", "stall", "--kinds", "y"];
  expect(read(words, options)).toEqual({
    rounds: 0,
    jobs: 4,
    json: true,
    name: "b",
    plant: "stall",
    kinds: ["y"],
  });
  expect(read(["-h"], options)).toBe("help");
});
test.each([
  [["--rounds", "many"], "`--rounds` is a whole number from 0, not `many`"],
  [["--rounds=-1"], "`--rounds` is a whole number from 0, not `-1`"],
  [["--rounds", "1e3"], "not `1e3`"],
  [["--jobs", "0"], "`--jobs` is a whole number from 1, not `0`"],
  [["--plant", "stal"], "`--plant` is leak or stall, not `stal`"],
  [["--kinds", "x,z"], "`--kinds` is some of x,y, not `x,z`"],
  [["--name="], "`--name` is a text"],
  [["--nonsense"], "Unknown option '--nonsense'"],
  [["extra"], "Unexpected argument 'extra'"],
])("%j is wrong use and says what is allowed", (words, message) => {
  expect(() => read(words, options)).toThrow(message);
});
