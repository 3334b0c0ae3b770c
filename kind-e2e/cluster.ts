#!/usr/bin/env node
// A real Kubernetes for tests and for trying Atoll out: as a program (see `--help`) and for tests to import.
import { parseArguments, usage, type Command } from "./arguments.ts";
import { openCluster, restartCluster } from "./backends.ts";
import { Failure } from "./failure.ts";
import { hold, NotRunning, readState, requireState, startHolder, stopHolder } from "./holder.ts";
import { controlPlanePrograms, programs } from "./pins.ts";
import { ensurePrograms, programPath } from "./programs.ts";

export { startControlPlane, type ControlPlane, type ControlPlaneOptions } from "./control-plane.ts";
export { openCluster, restartCluster, type Cluster, type UpOptions } from "./backends.ts";
export { fileCapability, writeImage, type Entry, type Image, type ImageConfig } from "./archive.ts";
export { ensurePrograms, programPath, cacheFolder, type Report } from "./programs.ts";
export { Failure } from "./failure.ts";

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

const up = async (command: Extract<Command, { verb: "up" | "hold" }>): Promise<number> => {
  const began = Date.now();
  const { name, mode, staticPolicies } = command;
  if (mode === "control-plane") await startHolder(command, say, false);
  else
    await openCluster(name, command.backend).up({
      report: say,
      ...(staticPolicies === undefined ? {} : { staticPolicies }),
    });
  say(`cluster ${name} is up after ${((Date.now() - began) / 1000).toFixed(1)} s`);
  process.stdout.write(
    `${mode === "control-plane" ? requireState(name).kubeconfig : openCluster(name, command.backend).kubeconfig()}\n`,
  );
  return 0;
};

const status = (name: string): number => {
  const state = readState(name);
  if (state) {
    process.stdout.write(`${name} ${state.mode} ${state.phase} ${state.url}\n`);
    return state.phase === "ready" ? 0 : 3;
  }
  const other = openCluster(name);
  const running = other.backend === "kind" && other.running();
  process.stdout.write(running ? `${name} kind ready\n` : `${name} not running\n`);
  return running ? 0 : 3;
};

const perform = async (command: Command): Promise<number> => {
  switch (command.verb) {
    case "help":
      process.stdout.write(usage);
      return 0;
    case "up":
      return up(command);
    case "hold":
      await hold(command, say);
      return 0;
    case "down": {
      const own = await stopHolder(command.name);
      const was = own || (await openCluster(command.name).down());
      say(was ? `cluster ${command.name} is gone` : `no cluster ${command.name} was running`);
      return 0;
    }
    case "restart":
      await restartCluster(command.name);
      say(`cluster ${command.name} started again`);
      return 0;
    case "kubeconfig":
      process.stdout.write(`${openCluster(command.name).kubeconfig()}\n`);
      return 0;
    case "status":
      return status(command.name);
    case "load":
      process.stdout.write(
        `${await openCluster(command.name).loadImage(command.archive, command.reference)}\n`,
      );
      return 0;
    case "exec": {
      const done = await openCluster(command.name).execOnNode(command.argv);
      process.stdout.write(done.stdout);
      process.stderr.write(done.stderr);
      return done.code;
    }
    case "build": {
      const wanted = command.mode === "node" ? programs.map((p) => p.name) : controlPlanePrograms;
      await ensurePrograms(wanted, say);
      for (const name of wanted) process.stdout.write(`${programPath(name)}\n`);
      break;
    }
  }
  return 0;
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
