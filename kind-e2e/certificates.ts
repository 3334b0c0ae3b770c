// Certificates of a throw-away cluster, so that it needs no openssl: a day of slack before, for a virtual machine whose clock
// was just set back; a year after.
import { makeAuthority as authorityOf, makeLeaf as leafOf } from "../operator/certificates/certificates.ts";
import type { Authority, Leaf, LeafNames } from "../operator/certificates/certificates.ts";

export type { Authority } from "../operator/certificates/certificates.ts";
export type LeafRequest = LeafNames & { readonly commonName: string };

const HOUR_MS = 3_600_000;
// The operator's certificates begin an hour before the moment that they are told.
const EARLY_MS = 23 * HOUR_MS;
const LIFE_MS = 366 * 24 * HOUR_MS + EARLY_MS;
const early = (now: Date): Date => new Date(now.getTime() - EARLY_MS);

export const makeAuthority = (name: string, now: Date = new Date()): Authority =>
  authorityOf(early(now), LIFE_MS, name);

/** A leaf for servers and clients alike; Kubernetes takes a user's name from the CN and groups from the Os. */
export const makeLeaf = (authority: Authority, request: LeafRequest, now: Date = new Date()): Leaf =>
  leafOf(authority, { ...request, client: true }, early(now), LIFE_MS);
