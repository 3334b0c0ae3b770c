#!/usr/bin/env node
// `npm run down`: ends the cluster of `npm run up` and removes all that it made.
import { parseArgs } from "node:util";
import { openCluster } from "./backends.ts";
import { Failure } from "./failure.ts";

const { values } = parseArgs({ options: { name: { type: "string" } } });
const name = values.name ?? "atoll";
try {
  const was = await openCluster(name).down();
  process.stderr.write(was ? `cluster ${name} is gone\n` : `no cluster ${name} was running\n`);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
