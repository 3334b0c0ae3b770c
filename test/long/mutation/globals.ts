// What the mutated sources ask: which mutant is meant, and whether a loop has gone on for too long.

interface Mutation {
  active: number;
  readonly hits: Set<number>;
  ticks: number;
  limit: number;
}
const mutation: Mutation = { active: 0, hits: new Set(), ticks: 0, limit: Number.POSITIVE_INFINITY };
Object.assign(globalThis, {
  __mutation: mutation,
  __mutant(id: number): boolean {
    mutation.hits.add(id);
    return mutation.active === id;
  },
  __tick(): void {
    if (++mutation.ticks > mutation.limit) throw new Error("a loop without end");
  },
});
