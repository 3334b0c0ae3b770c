#!/usr/bin/env node
// `npm run down`: ends the cluster of `npm run up` and removes all that it made.
import { asked, text } from "./asked.ts";
import { openCluster } from "./backends.ts";
import { Failure } from "./failure.ts";

const { name } = asked(
  `usage: npm run down [-- --name NAME]
Ends the cluster that \`npm run up\` brought up and removes all that it made. Exit 0 also when none was running.`,
  { name: text("atoll") },
);
try {
  const was = await openCluster(name).down();
  process.stderr.write(was ? `cluster ${name} is gone\n` : `no cluster ${name} was running\n`);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
