// What a script is asked for. A number is a number and a name one that is known: a wrong one ends the script with its
// usage before anything is started, and is never a run of nothing that passes.

import { parseArgs } from "node:util";

/** One option that takes a value: what it is when absent, and what a text means (undefined: nothing). */
export interface Option<T> {
  readonly absent: T;
  readonly is: string;
  readonly read: (text: string) => T | undefined;
}
/** A number stands for a whole number from zero, false for a flag. */
export type Options = Readonly<Record<string, number | false | Option<unknown>>>;
export type Asked<O extends Options> = {
  readonly [K in keyof O]: O[K] extends Option<infer T> ? T : O[K] extends number ? number : boolean;
};

export const amount = (absent: number, least = 0): Option<number> => ({
  absent,
  is: `a whole number from ${least}`,
  read: (text) => (/^\d{1,12}$/.test(text) && Number(text) >= least ? Number(text) : undefined),
});
export const text = (absent: string): Option<string> => ({
  absent,
  is: "a text",
  read: (given) => (given === "" ? undefined : given),
});
/** One of these names; "" when absent. */
export const oneOf = <N extends string>(...names: readonly N[]): Option<N | ""> => ({
  absent: "",
  is: names.join(" or "),
  read: (given) => names.find((name) => name === given),
});
/** Some of these names, by commas; all when absent. */
export const someOf = <N extends string>(...names: readonly N[]): Option<readonly N[]> => ({
  absent: names,
  is: `some of ${names.join(",")}`,
  read: (given) => {
    const parts = given.split(",");
    return parts.every((part) => names.some((name) => name === part))
      ? names.filter((name) => parts.includes(name))
      : undefined;
  },
});

export class WrongUse extends Error {}

/** What these words ask for; "help" when that is what they do. */
export function read<O extends Options>(argv: readonly string[], options: O): Asked<O> | "help" {
  const known = Object.entries(options).map(
    ([name, o]) => [name, { type: o === false ? "boolean" : "string" }] as const,
  );
  const { values } = parsed(
    argv,
    Object.fromEntries([...known, ["help", { type: "boolean", short: "h" }] as const]),
  );
  if (values["help"] === true) return "help";
  const found = Object.entries(options).map(([name, o]) => {
    const given = values[name];
    if (o === false) return [name, given === true];
    const option: Option<unknown> = typeof o === "number" ? amount(o) : o;
    if (typeof given !== "string") return [name, option.absent];
    const value = option.read(given);
    if (value === undefined) throw new WrongUse(`\`--${name}\` is ${option.is}, not \`${given}\``);
    return [name, value];
  });
  return Object.fromEntries(found) as Asked<O>;
}

type Known = Readonly<Record<string, { readonly type: "boolean" | "string"; readonly short?: string }>>;
function parsed(argv: readonly string[], options: Known) {
  try {
    return parseArgs({ args: [...argv], options });
  } catch (error) {
    // Node goes on with advice about `--` that is wrong for a misspelt option.
    throw new WrongUse(error instanceof Error ? (error.message.split(/\.\s/, 1)[0] ?? "") : String(error));
  }
}

/** What this process is asked for. Help ends it with 0, wrong use with 2, each with the usage. */
export function asked<O extends Options>(usage: string, options: O): Asked<O> {
  try {
    const found = read(process.argv.slice(2), options);
    if (found !== "help") return found;
    process.stdout.write(`${usage.trimEnd()}\n`);
    process.exit(0);
  } catch (error) {
    if (!(error instanceof WrongUse)) throw error;
    process.stderr.write(`${error.message}\n${usage.trimEnd()}\n`);
    process.exit(2);
  }
}
