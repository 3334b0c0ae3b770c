// The ledger inside the operator: behind the control stream's address, with the keys that guardians published there.

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { signerFromPem, verifierFromRaw } from "../../kernel/crypto/crypto.ts";
import { createLedger, openStore } from "./ledger.ts";
import { answerGuardian } from "./server.ts";

export interface HostOptions {
  /** A folder, or `postgres://…`. */
  readonly place: string;
  /** The ledger's key; "" = one in the folder, made when there is none. Its owner can sign as this ledger. */
  readonly keyFile: string;
  /** The public key, in hex, that a pod's guardian has published. */
  readonly keyOf: (podUid: string) => Promise<string | undefined>;
  readonly log: (message: string) => void;
  readonly checkpointMs?: number;
}
export interface HostedLedger {
  readonly keyId: string;
  readonly answer: (podUid: string, request: IncomingMessage, response: ServerResponse) => Promise<void>;
  stop(): Promise<void>;
}

export async function hostLedger(options: HostOptions): Promise<HostedLedger> {
  const signer = signerFromPem(readFileSync(keyFileOf(options), "utf8"));
  const store = await openStore(options.place);
  const ledger = createLedger({
    store,
    signer,
    keysOf: async (pod) => {
      const key = await options.keyOf(pod);
      return key === undefined ? [] : [verifierFromRaw(Buffer.from(key, "hex"))];
    },
    clock: Date.now,
    random: (n) => randomBytes(n),
  });
  let turn = Promise.resolve();
  const timer = setInterval(() => {
    turn = turn
      .then(() => ledger.checkpoint())
      .then(() => undefined)
      .catch((error: unknown) => options.log(error instanceof Error ? error.message : String(error)));
  }, options.checkpointMs ?? 10_000);
  return {
    keyId: signer.keyId,
    answer: (pod, request, response) => answerGuardian(ledger, pod, request, response),
    async stop() {
      clearInterval(timer);
      await turn;
      await ledger.checkpoint().catch(() => undefined);
      await store.close();
    },
  };
}

function keyFileOf({ place, keyFile }: HostOptions): string {
  if (keyFile !== "") return keyFile;
  if (/^postgres(ql)?:/.test(place))
    throw new Error("ATOLL_LEDGER_KEY: a ledger in PostgreSQL needs a key of its own");
  mkdirSync(place, { recursive: true, mode: 0o700 });
  const file = join(place, "ledger.pem");
  if (!existsSync(file)) {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    writeFileSync(join(place, "ledger.pub"), publicKey.export({ type: "spki", format: "pem" }));
    writeFileSync(file, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o400, flag: "wx" });
  }
  return file;
}
