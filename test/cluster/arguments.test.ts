import { expect, test } from "vitest";
import { parseArguments } from "../../kind-e2e/arguments.ts";

const parse = (line: string): unknown => {
  const parsed = parseArguments(line.split(" ").filter((w) => w !== ""));
  return "mistake" in parsed ? parsed.mistake : parsed.command;
};

test("up takes a node under the default name unless told otherwise", () => {
  expect(parse("up")).toEqual({
    verb: "up",
    name: "atoll",
    mode: "node",
    backend: "auto",
    controllers: false,
    staticPolicies: undefined,
  });
  expect(parse("up --mode control-plane --name=two --static-policies ./p --controllers")).toMatchObject({
    mode: "control-plane",
    name: "two",
    staticPolicies: "./p",
    controllers: true,
  });
});

test("what stands after -- belongs to the command that is run", () => {
  expect(parse("exec --name n -- ip --help")).toEqual({ verb: "exec", name: "n", argv: ["ip", "--help"] });
});

test("help is given wherever it is asked for", () => {
  for (const line of ["--help", "help", "up -h", "down --help"])
    expect(parse(line)).toEqual({ verb: "help" });
});

test.each([
  ["", "no command given"],
  ["upp", "unknown command `upp`"],
  ["constructor", "unknown command `constructor`"],
  ["up --mod node", "`up` has no option `--mod`"],
  ["up --mode", "`--mode` needs a value"],
  ["up --mode=", "`--mode` needs a value"],
  ["up --mode cp", "`--mode cp`: one of control-plane, node"],
  ["up --backend k3s", "`--backend k3s`: one of auto, embedded, kind"],
  ["up --name a --name b", "`--name` is given twice"],
  ["up --controllers=yes --mode control-plane", "`--controllers` takes no value"],
  ["up --controllers", "`--controllers` is for `--mode control-plane`; a node always has them"],
  ["up --backend kind --mode control-plane", "`--backend kind` is for `--mode node`"],
  ["up now", "unexpected `now`"],
  ["up -- x", "`up` takes no command after `--`"],
  ["down --mode node", "`down` has no option `--mode`"],
  ["down --name ../x", "`--name ../x`: up to 11 of a-z, 0-9 and -, beginning with a letter"],
  ["down --name abcdefghijkl", "`--name abcdefghijkl`: up to 11 of a-z, 0-9 and -, beginning with a letter"],
  ["load a.tar", "`load` takes an archive and a reference"],
  ["load a.tar x y", "`load` takes an archive and a reference"],
  ["exec", "`exec` needs a command after `--`"],
])("refuses `%s` and says why", (line, why) => {
  expect(parse(line)).toBe(why);
});
