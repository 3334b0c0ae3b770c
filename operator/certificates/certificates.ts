// Our own authority, kept in one Secret and shared by the replicas; leaves live in each replica's memory.
// A new authority is first published beside the old one and signs only later, so that no peer ever meets a leaf whose
// authority it has not yet been told.

import { isMap } from "../kinds/kinds.ts";
import type { JsonMap } from "../kinds/kinds.ts";
import { ApiError, notFound } from "../runtime/runtime.ts";
import type { Client } from "../runtime/runtime.ts";
import { beganAt, expiresAt, makeAuthority, makeLeaf } from "./x509.ts";
import type { Authority, Leaf } from "./x509.ts";

export type { Authority, Leaf, LeafNames } from "./x509.ts";
export { expiresAt, makeAuthority, makeLeaf } from "./x509.ts";

const DAY = 86_400_000;
export interface Lives {
  readonly authorityMs: number;
  readonly leafMs: number;
  /** How long a new authority is only published before it signs. */
  readonly overlapMs: number;
}
export const LIVES: Lives = { authorityMs: 365 * DAY, leafMs: 7 * DAY, overlapMs: 3_600_000 };

export interface Authorities {
  /** Oldest first; all of them are trusted. */
  readonly all: readonly Authority[];
}

/** What the Secret should hold now: expired ones dropped, a successor added when the newest is past two thirds. */
export function renewAuthorities(stored: Authorities, now: number, lives: Lives): Authorities {
  const living = stored.all.filter((a) => expiresAt(a.certificate) > now);
  const newest = living.at(-1);
  const due = newest === undefined || now > beganAt(newest.certificate) + (lives.authorityMs * 2) / 3;
  return due ? { all: [...living, makeAuthority(new Date(now), lives.authorityMs)] } : { all: living };
}

/** The authority that signs: the newest that has been published for long enough, else the oldest. */
export function signingAuthority(stored: Authorities, now: number, lives: Lives): Authority | undefined {
  const published = stored.all.filter((a) => now >= beganAt(a.certificate) + lives.overlapMs);
  return published.at(-1) ?? stored.all[0];
}
export const bundleOf = (stored: Authorities): string => stored.all.map((a) => a.certificate).join("");

/** Is another leaf due: none yet, another signer, or half of its life gone? */
export function leafIsDue(
  leaf: { readonly leaf: Leaf; readonly by: Authority } | undefined,
  by: Authority,
  now: number,
  lives: Lives,
): boolean {
  return (
    leaf === undefined ||
    leaf.by.certificate !== by.certificate ||
    now > beganAt(leaf.leaf.certificate) + lives.leafMs / 2
  );
}

export interface CertificateSource {
  /** The present leaf and the authorities that peers are to trust; renewed as needed. */
  refresh(): Promise<{
    readonly leaf: Leaf;
    /** The authority that signs now. */
    readonly authority: Authority;
    readonly bundle: string;
    readonly changed: boolean;
  }>;
}

const fromSecret = (secret: JsonMap): Authorities => {
  const data = isMap(secret["data"]) ? secret["data"] : {};
  const text = typeof data["authorities"] === "string" ? data["authorities"] : "";
  if (text === "") return { all: [] };
  const parsed: unknown = JSON.parse(Buffer.from(text, "base64").toString("utf8"));
  return { all: Array.isArray(parsed) ? (parsed as Authority[]) : [] };
};

export function certificateSource(
  client: Client,
  options: {
    readonly namespace: string;
    readonly secret: string;
    readonly dnsNames: readonly string[];
    readonly addresses?: readonly string[];
    readonly lives?: Lives;
    readonly now?: () => number;
  },
): CertificateSource {
  const lives = options.lives ?? LIVES;
  const now = options.now ?? Date.now;
  const collection = `/api/v1/namespaces/${options.namespace}/secrets`;
  let current: { leaf: Leaf; by: Authority } | undefined;
  let lastBundle = "";

  const load = async (): Promise<Authorities> => {
    // A lost race is read again: the Secret's resourceVersion lets one replica win.
    for (let attempt = 0; ; attempt++) {
      let secret: JsonMap | undefined;
      try {
        secret = await client.json(`${collection}/${options.secret}`);
      } catch (error) {
        if (!notFound(error)) throw error;
      }
      const stored = secret === undefined ? { all: [] } : fromSecret(secret);
      const wanted = renewAuthorities(stored, now(), lives);
      if (
        secret !== undefined &&
        wanted.all.length === stored.all.length &&
        wanted.all.every((a, i) => a.certificate === stored.all[i]?.certificate)
      )
        return stored;
      const body = {
        apiVersion: "v1",
        kind: "Secret",
        type: "Opaque",
        metadata: isMap(secret?.["metadata"])
          ? secret["metadata"]
          : { name: options.secret, namespace: options.namespace },
        data: { authorities: Buffer.from(JSON.stringify(wanted.all), "utf8").toString("base64") },
      };
      try {
        await client.json(secret === undefined ? collection : `${collection}/${options.secret}`, {
          method: secret === undefined ? "POST" : "PUT",
          body,
        });
        return wanted;
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 409) || attempt > 10) throw error;
      }
    }
  };

  return {
    async refresh() {
      const authorities = await load();
      const by = signingAuthority(authorities, now(), lives);
      if (by === undefined) throw new Error("no authority to sign with");
      const bundle = bundleOf(authorities);
      let changed = bundle !== lastBundle;
      lastBundle = bundle;
      if (current === undefined || leafIsDue(current, by, now(), lives)) {
        current = { leaf: makeLeaf(by, options, new Date(now()), lives.leafMs), by };
        changed = true;
      }
      return { leaf: current.leaf, authority: by, bundle, changed };
    },
  };
}
