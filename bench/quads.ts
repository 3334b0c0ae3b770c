// Two ways compared on a machine whose speed drifts: in turns by fours (first, second, second, first), so that what drifts
// burdens both alike. Each four gives one ratio; said are their median and the middle half of them.

export interface Took {
  readonly wall: number;
  readonly processor: number;
  /** Processors that were busy with something else meanwhile. */
  readonly others?: number;
}
/** Beyond this the turn is no measurement. */
const DISTURBED = 0.15;

export interface Compared<T> {
  /** What the first took, to what the second took, of each four: below 1 when the second is the slower one. */
  readonly ratios: readonly Took[];
  readonly first: readonly T[];
  readonly second: readonly T[];
}
/** A four in which something else ran is made again, up to three times as many as wanted; so fewer come back from a busy machine. */
export async function compare<T extends Took>(
  count: number,
  one: () => Promise<T>,
  other: () => Promise<T>,
): Promise<Compared<T>> {
  const ratios: Took[] = [];
  const first: T[] = [];
  const second: T[] = [];
  for (let quad = 0; quad < 4 * count && ratios.length < count; quad++) {
    const [a, b, c, d] = [await one(), await other(), await other(), await one()];
    if ([a, b, c, d].some(({ others = 0 }) => others > DISTURBED)) continue;
    const ratio = (by: "wall" | "processor"): number => (a[by] + d[by]) / (b[by] + c[by]);
    ratios.push({ wall: ratio("wall"), processor: ratio("processor") });
    first.push(a, d);
    second.push(b, c);
  }
  return { ratios, first, second };
}

/** A quantile, between its two neighbours where it falls between them. */
export function at(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = (sorted.length - 1) * part;
  const [low = Number.NaN, high = low] = sorted.slice(Math.floor(place), Math.floor(place) + 2);
  return low + (high - low) * (place - Math.floor(place));
}
/** The median with the middle half. */
export const shown = (values: readonly number[], digits = 3): string => {
  const [low, half, high] = [0.25, 0.5, 0.75].map((part) => at(values, part).toFixed(digits));
  return `${half} (${low} to ${high})`;
};
