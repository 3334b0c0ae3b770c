// What `fast-check` is for the tests while mutants are tried: fewer runs, and no search for the smallest counterexample,
// which is for people.

import * as fc from "fast-check";

export * from "fast-check";

const MOST = 150;
export const assert = <Ts>(property: fc.IRawProperty<Ts>, parameters: fc.Parameters<Ts> = {}): unknown =>
  fc.assert(property, {
    ...parameters,
    numRuns: Math.min(parameters.numRuns ?? MOST, MOST),
    endOnFailure: true,
  });
