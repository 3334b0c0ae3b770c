// A test that fails without any mutant: planted, so that the measure of mutants can be seen to refuse it.

import { expect, test } from "vitest";

test("two is three", () => expect(2).toBe(3));
