// The command line of the cluster provider, parsed and nothing else.

export type Mode = "control-plane" | "node";
export type Backend = "embedded" | "kind";

export type Command =
  | { readonly verb: "help" }
  | {
      readonly verb: "up" | "hold";
      readonly name: string;
      readonly mode: Mode;
      readonly backend: Backend | "auto";
      readonly controllers: boolean;
      readonly staticPolicies: string | undefined;
    }
  | { readonly verb: "down" | "restart" | "kubeconfig" | "status"; readonly name: string }
  | { readonly verb: "build"; readonly mode: Mode }
  | { readonly verb: "load"; readonly name: string; readonly archive: string; readonly reference: string }
  | { readonly verb: "exec"; readonly name: string; readonly argv: readonly string[] };

export type Parsed = { readonly command: Command } | { readonly mistake: string };

export const usage = `usage: node kind-e2e/cluster.ts COMMAND [OPTIONS]

  up          bring a cluster up and leave it running
                --mode control-plane   etcd and kube-apiserver (3 s)
                --mode node            a whole single node that runs pods (default; root on Linux)
                --static-policies DIR  static admission policies (names *.static.k8s.io)
                --controllers          control-plane mode: kube-controller-manager too
                --backend embedded|kind  default: kind where a Docker engine and kind answer, else embedded
  down        end it and remove all it made
  restart     node mode: stop everything at once, as in a power cut, and start again with the data kept
  kubeconfig  print the path of the administrator's kubeconfig
  status      say whether it runs
  load ARCHIVE REFERENCE   load an OCI or Docker image archive; prints the reference by digest
  exec -- COMMAND …        run a command on the node
  build       build the programs of --mode, and keep them
  --name N    which cluster (default "atoll"); several run side by side

Environment: ATOLL_CLUSTER_BIN=DIR takes the programs from there; XDG_CACHE_HOME moves the cache.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such cluster is running.
`;

const modes: readonly string[] = ["control-plane", "node"];
const isMode = (text: string): text is Mode => modes.includes(text);
const backends: readonly string[] = ["auto", "embedded", "kind"];
const isBackend = (text: string): text is Backend | "auto" => backends.includes(text);

// A name becomes a folder, a host name and a part of an interface's name (which has 15 characters at most).
const validName = /^[a-z]([a-z0-9-]{0,9}[a-z0-9])?$/u;

const takes: Readonly<Record<string, readonly string[]>> = {
  up: ["--name", "--mode", "--backend", "--controllers", "--static-policies"],
  hold: ["--name", "--mode", "--backend", "--controllers", "--static-policies"],
  down: ["--name"],
  restart: ["--name"],
  kubeconfig: ["--name"],
  status: ["--name"],
  build: ["--mode"],
  load: ["--name"],
  exec: ["--name"],
};

export function parseArguments(argv: readonly string[]): Parsed {
  if (argv.length === 0) return { mistake: "no command given" };
  const end = argv.indexOf("--");
  const own = end === -1 ? argv : argv.slice(0, end);
  const rest = end === -1 ? [] : argv.slice(end + 1);
  if (own.includes("--help") || own.includes("-h") || own[0] === "help") return { command: { verb: "help" } };
  const [verb = "", ...words] = own;
  const allowed = Object.hasOwn(takes, verb) ? takes[verb] : undefined;
  if (!allowed) return { mistake: `unknown command \`${verb}\`` };

  const given = new Map<string, string>();
  const plain: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? "";
    if (!word.startsWith("-")) {
      plain.push(word);
      continue;
    }
    const [flag = "", inline] = word.split(/=(.*)/su);
    if (!allowed.includes(flag)) return { mistake: `\`${verb}\` has no option \`${flag}\`` };
    if (given.has(flag)) return { mistake: `\`${flag}\` is given twice` };
    if (flag === "--controllers") {
      if (inline !== undefined) return { mistake: "`--controllers` takes no value" };
      given.set(flag, "");
      continue;
    }
    const value = inline ?? words[++i];
    if (value === undefined || value === "") return { mistake: `\`${flag}\` needs a value` };
    given.set(flag, value);
  }

  const name = given.get("--name") ?? "atoll";
  if (!validName.test(name))
    return { mistake: `\`--name ${name}\`: up to 11 of a-z, 0-9 and -, beginning with a letter` };
  const mode = given.get("--mode") ?? "node";
  if (!isMode(mode)) return { mistake: `\`--mode ${mode}\`: one of ${modes.join(", ")}` };
  const backend = given.get("--backend") ?? "auto";
  if (!isBackend(backend)) return { mistake: `\`--backend ${backend}\`: one of ${backends.join(", ")}` };
  if (verb !== "load" && plain.length > 0) return { mistake: `unexpected \`${plain[0]}\`` };
  if (verb !== "exec" && rest.length > 0) return { mistake: `\`${verb}\` takes no command after \`--\`` };

  switch (verb) {
    case "up":
    case "hold": {
      const controllers = given.has("--controllers");
      if (controllers && mode === "node")
        return { mistake: "`--controllers` is for `--mode control-plane`; a node always has them" };
      if (backend === "kind" && mode === "control-plane")
        return { mistake: "`--backend kind` is for `--mode node`" };
      return {
        command: { verb, name, mode, backend, controllers, staticPolicies: given.get("--static-policies") },
      };
    }
    case "down":
    case "restart":
    case "kubeconfig":
    case "status":
      return { command: { verb, name } };
    case "build":
      return { command: { verb, mode } };
    case "load": {
      const [archive, reference, more] = plain;
      if (archive === undefined || reference === undefined || more !== undefined)
        return { mistake: "`load` takes an archive and a reference" };
      return { command: { verb, name, archive, reference } };
    }
    case "exec":
      if (rest.length === 0) return { mistake: "`exec` needs a command after `--`" };
      return { command: { verb, name, argv: rest } };
    default:
      return { mistake: `unknown command \`${verb}\`` };
  }
}
