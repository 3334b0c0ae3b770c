// The latest so many of something, each found at once. The order is kept in a ring, because a set that loses its oldest
// member each time is slow to find the next one.

export interface Remembered<T> {
  has(value: T): boolean;
  add(value: T): void;
  clear(): void;
}

export function createRemembered<T>(most: number): Remembered<T> {
  const known = new Set<T>();
  const ring: T[] = [];
  let place = 0;
  return {
    has: (value) => known.has(value),
    add(value) {
      const oldest = ring[place];
      if (oldest !== undefined) known.delete(oldest);
      ring[place] = value;
      place = (place + 1) % most;
      known.add(value);
    },
    clear() {
      known.clear();
      ring.length = 0;
      place = 0;
    },
  };
}
