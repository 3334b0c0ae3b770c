#!/usr/bin/env node
// A real Kubernetes for tests and for trying Atoll out: as a program (see `--help`) and for tests to import.
import { parseArguments, usage, type Command } from "./arguments.ts";
import { startControlPlane } from "./control-plane.ts";
import { Failure } from "./failure.ts";
import {
  NotRunning,
  processBegan,
  readState,
  requireState,
  runFolder,
  startHolder,
  stopHolder,
  writeState,
} from "./holder.ts";
import { controlPlanePrograms, programs } from "./pins.ts";
import { removeWithProcess } from "./process.ts";
import { ensurePrograms, programPath } from "./programs.ts";

export { startControlPlane, type ControlPlane, type ControlPlaneOptions } from "./control-plane.ts";
export { ensurePrograms, programPath } from "./programs.ts";
export { Failure } from "./failure.ts";

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

const untilAskedToStop = (): Promise<void> =>
  new Promise((resolve) => {
    // A timer keeps the process alive; signals alone do not.
    const alive = setInterval(() => {}, 60_000);
    for (const signal of ["SIGTERM", "SIGINT"])
      process.once(signal, () => {
        clearInterval(alive);
        resolve();
      });
  });

const hold = async (command: Extract<Command, { verb: "up" | "hold" }>): Promise<number> => {
  const remains = removeWithProcess(runFolder(command.name));
  const stopped = untilAskedToStop();
  const state = {
    name: command.name,
    mode: command.mode,
    pid: process.pid,
    began: processBegan(process.pid) ?? "",
    phase: "starting" as const,
    message: "",
    kubeconfig: "",
    url: "",
  };
  writeState(state);
  const plane = await startControlPlane({
    name: command.name,
    controllers: command.controllers,
    report: say,
    ...(command.staticPolicies === undefined ? {} : { staticPolicies: command.staticPolicies }),
  });
  writeState({ ...state, phase: "ready", kubeconfig: plane.kubeconfig, url: plane.url });
  await stopped;
  await plane.stop();
  await remains.now();
  return 0;
};

const flags = (command: Extract<Command, { verb: "up" | "hold" }>): string[] => [
  `--name=${command.name}`,
  `--mode=${command.mode}`,
  ...(command.controllers ? ["--controllers"] : []),
  ...(command.staticPolicies === undefined ? [] : [`--static-policies=${command.staticPolicies}`]),
];

const perform = async (command: Command): Promise<number> => {
  switch (command.verb) {
    case "help":
      process.stdout.write(usage);
      return 0;
    case "up": {
      const began = Date.now();
      const state = await startHolder(command.name, flags(command), say);
      say(`cluster ${state.name} is up at ${state.url} after ${((Date.now() - began) / 1000).toFixed(1)} s`);
      process.stdout.write(`${state.kubeconfig}\n`);
      return 0;
    }
    case "hold":
      return hold(command);
    case "down":
      say(
        (await stopHolder(command.name))
          ? `cluster ${command.name} is gone`
          : `no cluster ${command.name} was running`,
      );
      return 0;
    case "kubeconfig":
      process.stdout.write(`${requireState(command.name).kubeconfig}\n`);
      return 0;
    case "status": {
      const state = readState(command.name);
      process.stdout.write(
        state ? `${state.name} ${state.mode} ${state.phase} ${state.url}\n` : `${command.name} not running\n`,
      );
      return state?.phase === "ready" ? 0 : 3;
    }
    case "build": {
      const wanted = command.mode === "node" ? programs.map((p) => p.name) : controlPlanePrograms;
      await ensurePrograms(wanted, say);
      for (const name of wanted) process.stdout.write(`${programPath(name)}\n`);
      return 0;
    }
    case "restart":
    case "load":
    case "exec":
      break;
  }
  throw new Failure(`\`${command.verb}\` is for node mode`);
};

const main = async (argv: readonly string[]): Promise<number> => {
  const parsed = parseArguments(argv);
  if ("mistake" in parsed) {
    process.stderr.write(`${parsed.mistake}\n\n${usage}`);
    return 2;
  }
  try {
    return await perform(parsed.command);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    say(error.message);
    return error instanceof NotRunning ? 3 : 1;
  }
};

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
