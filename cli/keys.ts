// `atoll keys`: the key of a guardian that runs on this machine, followed by another or revoked.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { hashFrom, keyIdFrom, timestampOf } from "../kernel/contracts/contracts.ts";
import { signerFromPem } from "../kernel/crypto/crypto.ts";
import { signAct } from "../kernel/trust/trust.ts";
import { DEFAULT_SOCKET, adminOrThrow, textIn } from "./admin.ts";
import { UsageError } from "./io.ts";
import type { Io } from "./io.ts";

const USAGE = `usage: atoll keys rotate [--socket PATH] [--json]
       atoll keys revoke --key FILE --id KEY_ID --reason R [--honoured HASH] [--socket PATH | --print] [--json]
  rotate      the guardian's key names the next one in the log and is not used again
  revoke      the guardian signs nothing any more, after a restart neither: it has to be replaced
  --key       the private key of a registrar, or of a root of role guardian that is not the guardian's own
  --id        the key to be revoked
  --honoured  its last checkpoint that is honoured; else nothing that it signed is
  --print     write the signed act instead of sending it, for a registry
  --socket    ${DEFAULT_SOCKET} when not given
  --json      what the guardian answered, on one line
exit 0 done, 1 the guardian refused or does not answer, 2 wrong use`;

export async function keys(argv: readonly string[], io: Io): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      socket: { type: "string", default: DEFAULT_SOCKET },
      key: { type: "string" },
      id: { type: "string" },
      reason: { type: "string" },
      honoured: { type: "string" },
      print: { type: "boolean" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const [what, ...more] = positionals;
  if ((what !== "rotate" && what !== "revoke") || more.length > 0)
    throw new UsageError("rotate or revoke is needed", USAGE);
  if (what === "rotate") {
    const told = await adminOrThrow(values.socket, "POST", "/keys/rotate", {});
    io.stdout.write(
      values.json === true
        ? `${JSON.stringify(told)}\n`
        : `${textIn(told, "old")} has handed over to ${textIn(told, "key")}\n`,
    );
    return 0;
  }
  if (values.key === undefined || values.id === undefined || (values.reason ?? "") === "")
    throw new UsageError("`--key`, `--id` and `--reason` are needed", USAGE);
  const act = signAct(
    {
      type: "atoll.dev/key-revocation/v1",
      key: keyIdFrom(values.id, "--id"),
      reason: values.reason ?? "",
      honoured: values.honoured === undefined ? "" : hashFrom(values.honoured, "--honoured"),
    },
    timestampOf(Date.now()),
    signerFromPem(readFileSync(values.key, "utf8")),
  );
  if (values.print === true) {
    io.stdout.write(`${JSON.stringify(act)}\n`);
    return 0;
  }
  const told = await adminOrThrow(values.socket, "POST", "/keys/revoke", act);
  io.stdout.write(
    values.json === true
      ? `${JSON.stringify(told)}\n`
      : `${values.id} is revoked: the guardian signs nothing any more\n`,
  );
  return 0;
}
