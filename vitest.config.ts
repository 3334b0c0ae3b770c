// Suites by file name, so that a reader sees from a name what a test needs:
//   *.test.ts       in process, no root, no sockets beyond loopback, each file within seconds
//   *.proc.test.ts  the built programs as processes
//   *.netns.test.ts root on Linux: real network namespaces
//   *.kube.test.ts  a real kube-apiserver (control-plane mode of kind-e2e)
import { defineConfig } from "vitest/config";

const project = (name: string, include: string[], exclude: string[] = [], more: object = {}) => ({
  test: { name, include, exclude: ["node_modules/**", ...exclude], ...more },
});

// The limits end what hangs; they are no measure of speed, which is for bench/.
export default defineConfig({
  test: {
    projects: [
      project("unit", ["test/**/*.test.ts"], ["test/**/*.{proc,netns,kube}.test.ts"], {
        testTimeout: 300_000,
        hookTimeout: 300_000,
      }),
      project("proc", ["test/**/*.proc.test.ts"], [], { testTimeout: 600_000, hookTimeout: 300_000 }),
      project("netns", ["test/**/*.netns.test.ts"], [], { testTimeout: 600_000, hookTimeout: 300_000 }),
      project("kube", ["test/**/*.kube.test.ts"], [], { testTimeout: 300_000, hookTimeout: 1_800_000 }),
    ],
  },
});
