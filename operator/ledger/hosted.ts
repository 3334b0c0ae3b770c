// The ledger inside the operator: behind the control stream's address, with the keys that guardians published there.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { LIMITS, isObject, parseJson } from "../../kernel/contracts/contracts.ts";
import { signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import type { Signer } from "../../kernel/crypto/crypto.ts";
import type { TrustedKey } from "../../kernel/trust/trust.ts";
import { createLedger, openStore } from "./ledger.ts";
import { createRegistrar } from "./registrar.ts";
import type { Registrar } from "./registrar.ts";
import { answerGuardian } from "./server.ts";

export interface HostOptions {
  /** A folder, or `postgres://…`. */
  readonly place: string;
  /** The ledger's key; "" = one in the folder, made when there is none. Its owner can sign as this ledger. */
  readonly keyFile: string;
  /** The registrar's key; "" = one in the folder, made when there is none. Its owner can invent guardians of this cluster. */
  readonly registrarKeyFile: string;
  /** Keys of people who may revoke a guardian's. */
  readonly roots: readonly TrustedKey[];
  /** The public keys, in hex, that a pod's guardian has published, the first one first. */
  readonly keysOf: (podUid: string) => Promise<readonly string[]>;
  readonly log: (message: string) => void;
  readonly checkpointMs?: number;
}
export interface HostedLedger {
  readonly keyId: string;
  /** Absent where no key is given to it: then nothing but our own copy says which keys there were. */
  readonly registrar: Registrar | undefined;
  readonly registrarId: string;
  /** Revokes a pod's key, honouring what of it lies here: by a root's act, or for a reason in words. */
  revoke(podUid: string, words: string): Promise<void>;
  readonly answer: (podUid: string, request: IncomingMessage, response: ServerResponse) => Promise<void>;
  stop(): Promise<void>;
}

export async function hostLedger(options: HostOptions): Promise<HostedLedger> {
  const signer = keyOf(options.place, options.keyFile, "ledger", "ATOLL_LEDGER_KEY");
  const elsewhere = /^postgres(ql)?:/.test(options.place);
  const by =
    elsewhere && options.registrarKeyFile === ""
      ? undefined
      : keyOf(options.place, options.registrarKeyFile, "registrar", "ATOLL_REGISTRAR_KEY");
  const store = await openStore(options.place);
  const ledger = createLedger({
    store,
    signer,
    keysOf: async (pod) => (await options.keysOf(pod)).map((key) => verifierFromRaw(Buffer.from(key, "hex"))),
    published: true,
    clock: Date.now,
    random: (n) => randomBytes(n),
  });
  const random = (n: number): Uint8Array => randomBytes(n);
  const registrar =
    by === undefined
      ? undefined
      : createRegistrar({ store, signer: by, roots: options.roots, clock: Date.now, random });
  const failed = (error: unknown): void =>
    options.log(error instanceof Error ? error.message : String(error));
  let turn = Promise.resolve();
  const timer = setInterval(() => {
    turn = turn
      .then(() => ledger.checkpoint())
      .then(() => undefined)
      .catch(failed);
  }, options.checkpointMs ?? 10_000);
  return {
    keyId: signer.keyId,
    registrar,
    registrarId: by?.keyId ?? "",
    async revoke(podUid, words) {
      const { checkpoint } = await ledger.status(podUid);
      const act = words.startsWith("{") ? parseJson(Buffer.from(words), LIMITS.args) : undefined;
      const honoured = checkpoint === "genesis" ? "" : checkpoint;
      await registrar?.revoke(podUid, honoured, words.slice(0, 500), isObject(act) ? act : undefined);
    },
    answer: (pod, request, response) => answerGuardian(ledger, pod, request, response),
    async stop() {
      clearInterval(timer);
      await turn;
      await ledger.checkpoint().catch(failed);
      await store.close();
    },
  };
}

function keyOf(place: string, file: string, name: "ledger" | "registrar", variable: string): Signer {
  if (file !== "") return signerFromPem(readFileSync(file, "utf8"));
  if (/^postgres(ql)?:/.test(place))
    throw new Error(`${variable}: a ledger in PostgreSQL needs a ${name}'s key of its own`);
  mkdirSync(place, { recursive: true, mode: 0o700 });
  const own = join(place, `${name}.pem`);
  if (!existsSync(own)) {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    writeFileSync(join(place, `${name}.pub`), publicKey.export({ type: "spki", format: "pem" }));
    writeFileSync(own, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o400, flag: "wx" });
  }
  return signerFromPem(readFileSync(own, "utf8"));
}
