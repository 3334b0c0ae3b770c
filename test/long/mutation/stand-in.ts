// What `vitest` is for the tests while mutants are tried.

import { STAND_IN } from "./shim.ts";

export const { describe, expect, it, test } = STAND_IN;
