// The latest so many of something, each found at once. The order is kept in a ring, because a set that loses its oldest
// member each time is slow to find the next one.

export interface Remembered<T> {
  has(value: T): boolean;
  add(value: T, size?: number): void;
  clear(): void;
}

/** `mostSize`: what they may be together, by the sizes that they are added with. */
export function createRemembered<T>(most: number, mostSize = Number.POSITIVE_INFINITY): Remembered<T> {
  const known = new Set<T>();
  const ring: { readonly value: T; readonly size: number }[] = [];
  let oldest = 0;
  let total = 0;
  const forget = (): void => {
    const gone = ring[oldest];
    oldest = (oldest + 1) % most;
    if (gone === undefined) return;
    known.delete(gone.value);
    total -= gone.size;
  };
  const full = (more: number): boolean => known.size === most || (known.size > 0 && total + more > mostSize);
  return {
    has: (value) => known.has(value),
    add(value, size = 0) {
      if (known.has(value)) return;
      while (full(size)) forget();
      ring[(oldest + known.size) % most] = { value, size };
      known.add(value);
      total += size;
    },
    clear() {
      known.clear();
      ring.length = 0;
      oldest = 0;
      total = 0;
    },
  };
}
