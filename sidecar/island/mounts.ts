// What the command sees of the machine's files: a shell script that runs as the first process of its mount and PID
// namespaces. A network namespace does not contain unix sockets in the file system, so the folders where they live are
// replaced by empty ones, and those elsewhere are covered one by one. Pure: text from what is known at the start.

export type View = {
  readonly cwd: string;
  /** Folders that must stay visible (our own program), also where they lie in a replaced one. */
  readonly keep: readonly string[];
  /** Files and folders of the guardian's own, shown empty. */
  readonly hide: readonly string[];
  /** Unix sockets with a path that somebody on this machine listens on. */
  readonly sockets: readonly string[];
};

/** Replaced by empty memory: services keep their sockets here, and other users their files. */
const EMPTIED = ["/run", "/tmp", "/var/tmp"];
const DEVICES = ["null", "zero", "full", "random", "urandom", "tty"];
/** Descriptors that hold kept folders while their parents are covered; a POSIX shell has nine. */
const HOLDERS = [4, 5, 6, 7, 8];

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const inEmptied = (path: string): boolean => EMPTIED.some((folder) => path.startsWith(`${folder}/`));

/** The paths of listening unix sockets in `/proc/net/unix`; abstract ones (`@…`) belong to the network namespace. */
export const listeningSockets = (table: string): string[] => {
  const paths = table.split("\n").flatMap((line) => {
    const [, , , flags, , , , ...path] = line.trim().split(/ +/);
    const name = path.join(" ");
    // Datagram sockets do not listen and take messages all the same, so every bound one counts.
    return flags !== undefined && name.startsWith("/") ? [name] : [];
  });
  return [...new Set(paths)].sort();
};

export const viewScript = (view: View): string => {
  const held = [...new Set([view.cwd, ...view.keep])].filter(inEmptied);
  if (held.length > HOLDERS.length)
    throw new Error(`more than ${HOLDERS.length} folders to keep in ${EMPTIED.join(", ")}`);
  const holders = held.map((path, at) => ({ path: quote(path), fd: HOLDERS[at] ?? 0 }));
  return [
    "set -eu",
    "umask 022",
    ...holders.map(({ path, fd }) => `exec ${fd}<${path}`),
    "mount -t proc -o nosuid,nodev,noexec,hidepid=2 proc /proc",
    "mount -t sysfs -o ro,nosuid,nodev,noexec sysfs /sys",
    ...EMPTIED.map(
      (folder) =>
        `[ -L ${folder} ] || [ ! -d ${folder} ] || mount -t tmpfs -o mode=${folder === "/run" ? "755" : "1777"},nosuid,nodev tmpfs ${folder}`,
    ),
    // Devices: none but the harmless ones, and terminals of its own.
    "mkdir /tmp/.dev",
    "mount -t tmpfs -o mode=755,nosuid,noexec tmpfs /tmp/.dev",
    "cd /tmp/.dev",
    "mkdir pts shm",
    ...DEVICES.map((name) => `: > ${name}; mount --bind /dev/${name} ${name}`),
    "mount -t devpts -o newinstance,ptmxmode=0666,mode=620,nosuid,noexec devpts pts",
    "mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmpfs shm",
    "ln -s pts/ptmx ptmx; ln -s /proc/self/fd fd; ln -s fd/0 stdin; ln -s fd/1 stdout; ln -s fd/2 stderr",
    "cd /",
    "mount --move /tmp/.dev /dev",
    "rmdir /tmp/.dev",
    ...holders.map(
      ({ path, fd }) =>
        `mkdir -p ${path}; mount --no-canonicalize --bind /proc/self/fd/${fd} ${path}; exec ${fd}<&-`,
    ),
    ...view.hide
      .map(quote)
      .map(
        (path) =>
          `if [ -d ${path} ]; then mount -t tmpfs -o mode=000,ro tmpfs ${path}; elif [ -e ${path} ]; then mount --bind /dev/null ${path}; fi`,
      ),
    ...view.sockets.map(quote).map((path) => `[ ! -S ${path} ] || mount --bind /dev/null ${path}`),
    // Left by mount itself.
    "rm -rf /run/mount",
    // Entered by its path: a folder entered before would still lead out through `..`.
    `cd ${quote(view.cwd)}`,
    // First process: reaps orphans, passes signals on, ends with the command. A shell gives a background command no
    // standard input unless it is handed over by another descriptor.
    "exec 3<&0",
    "trap 'kill -TERM \"$child\" 2>/dev/null || :' TERM INT HUP",
    '"$@" <&3 3<&- &',
    "child=$!",
    "exec 3<&-",
    "code=0",
    'while :; do if wait "$child"; then code=0; else code=$?; fi; kill -0 "$child" 2>/dev/null || break; done',
    'exit "$code"',
    "",
  ].join("\n");
};
