// Ten kernels of different make, in AssemblyScript: each prints a checksum.

export interface Kernel {
  readonly kind: "int" | "float" | "call" | "memory";
  readonly source: string;
}

export const KERNELS: Readonly<Record<string, Kernel>> = {
  sieve: {
    kind: "int",
    source: `export function _start(): void {
      const n = 1000000; const flags = new StaticArray<u8>(n + 1); let count: u64 = 0;
      for (let round = 0; round < 16; round++) { memory.fill(changetype<usize>(flags), 0, n);
      for (let i = 2; i <= n; i++) { if (unchecked(flags[i]) == 0) { count++;
        for (let j = i + i; j <= n; j += i) unchecked(flags[j] = 1); } } }
      print(count); }`,
  },
  crc32: {
    kind: "int",
    source: `export function _start(): void {
      const table = new StaticArray<u32>(256);
      for (let i: u32 = 0; i < 256; i++) { let c = i;
        for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1; unchecked(table[i] = c); }
      let crc: u32 = 0xffffffff;
      for (let i: u32 = 0; i < 20000000; i++) crc = unchecked(table[(crc ^ i) & 255]) ^ (crc >>> 8);
      print(crc); }`,
  },
  sha256: {
    kind: "int",
    source: `const K = new StaticArray<u32>(64); const w = new StaticArray<u32>(64);
      function rotr(x: u32, n: u32): u32 { return (x >>> n) | (x << (32 - n)); }
      export function _start(): void {
        for (let i = 0; i < 64; i++) K[i] = 0x428a2f98 * (i + 1);
        let a0: u32 = 1, b0: u32 = 2, c0: u32 = 3, d0: u32 = 4, e0: u32 = 5, f0: u32 = 6, g0: u32 = 7, h0: u32 = 8;
        for (let block: u32 = 0; block < 200000; block++) {
          for (let i: u32 = 0; i < 16; i++) unchecked(w[i] = block * i);
          for (let i = 16; i < 64; i++) { const x = unchecked(w[i - 15]), y = unchecked(w[i - 2]);
            unchecked(w[i] = w[i - 16] + (rotr(x, 7) ^ rotr(x, 18) ^ (x >>> 3)) + w[i - 7]
              + (rotr(y, 17) ^ rotr(y, 19) ^ (y >>> 10))); }
          let a = a0, b = b0, c = c0, d = d0, e = e0, f = f0, g = g0, h = h0;
          for (let i = 0; i < 64; i++) {
            const t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g))
              + unchecked(K[i]) + unchecked(w[i]);
            const t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g; g = f; f = e; e = d + t1; d = c; c = b; b = a; a = t1 + t2; }
          a0 += a; b0 += b; c0 += c; d0 += d; e0 += e; f0 += f; g0 += g; h0 += h; }
        print((<u64>a0 << 32) | h0); }`,
  },
  quicksort: {
    kind: "int",
    source: `const n = 600000; const a = new StaticArray<i32>(n);
      function sort(lo: i32, hi: i32): void {
        while (lo < hi) { const p = unchecked(a[(lo + hi) >> 1]); let i = lo, j = hi;
          while (i <= j) { while (unchecked(a[i]) < p) i++; while (unchecked(a[j]) > p) j--;
            if (i <= j) { const t = unchecked(a[i]); unchecked(a[i] = a[j]); unchecked(a[j] = t); i++; j--; } }
          if (j - lo < hi - i) { sort(lo, j); lo = i; } else { sort(i, hi); hi = j; } } }
      export function _start(): void { let x: u32 = 12345;
        for (let i = 0; i < n; i++) { x ^= x << 13; x ^= x >>> 17; x ^= x << 5; a[i] = x; }
        sort(0, n - 1); let h: u64 = 0; for (let i = 0; i < n; i++) h = h * 31 + <u64>unchecked(a[i]); print(h); }`,
  },
  hashing: {
    kind: "memory",
    source: `export function _start(): void {
      const size = 1 << 16; const keys = new StaticArray<u64>(size), values = new StaticArray<u64>(size);
      let x: u64 = 88172645463325252, sum: u64 = 0;
      for (let i = 0; i < 8000000; i++) { x ^= x << 13; x ^= x >>> 7; x ^= x << 17; const key = (x >>> 20) % 40000 + 1;
        let at = <i32>((key * 0x9e3779b97f4a7c15) >>> 48);
        while (unchecked(keys[at]) != 0 && unchecked(keys[at]) != key) at = (at + 1) & (size - 1);
        unchecked(keys[at] = key); unchecked(values[at] += x); sum += unchecked(values[at]); }
      print(sum); }`,
  },
  interpreter: {
    kind: "memory",
    source: `export function _start(): void { const code = new StaticArray<u8>(16);
      const program: StaticArray<u8> = [0, 1, 2, 3, 4, 0, 2, 5, 1, 3, 0, 4, 2, 1, 5, 6];
      for (let i = 0; i < 16; i++) code[i] = program[i];
      let pc = 0; let a: u64 = 1, b: u64 = 2, n: u64 = 0;
      while (n < 24000000) { n++;
        switch (unchecked(code[pc])) { case 0: a += b; break; case 1: b ^= a; break;
          case 2: a = (a << 3) | (a >>> 61); break; case 3: b -= a; break; case 4: a ^= n; break;
          case 5: b += n; break; default: a = b * 31; }
        pc = (pc + 1) & 15; }
      print(a ^ b); }`,
  },
  matmul: {
    kind: "float",
    source: `export function _start(): void {
      const n = 200;
      const a = new StaticArray<f64>(n * n), b = new StaticArray<f64>(n * n), c = new StaticArray<f64>(n * n);
      for (let i = 0; i < n * n; i++) { a[i] = <f64>i * 0.5; b[i] = <f64>(i % 7); }
      for (let round = 0; round < 8; round++)
        for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) { let s: f64 = 0;
        for (let k = 0; k < n; k++) s += unchecked(a[i * n + k]) * unchecked(b[k * n + j]);
        unchecked(c[i * n + j] = s); }
      print(reinterpret<u64>(c[n + 3])); }`,
  },
  nbody: {
    kind: "float",
    source: `const B = 5;
      const px = new StaticArray<f64>(B), py = new StaticArray<f64>(B), pz = new StaticArray<f64>(B);
      const vx = new StaticArray<f64>(B), vy = new StaticArray<f64>(B), vz = new StaticArray<f64>(B);
      const m = new StaticArray<f64>(B);
      export function _start(): void {
        for (let i = 0; i < B; i++) { px[i] = <f64>i * 1.7; py[i] = <f64>i * 0.3 + 1; pz[i] = <f64>(i * i) * 0.1;
          m[i] = 1.0 / <f64>(i + 1); }
        for (let step = 0; step < 600000; step++) {
          for (let i = 0; i < B; i++) for (let j = i + 1; j < B; j++) {
            const dx = unchecked(px[i] - px[j]), dy = unchecked(py[i] - py[j]), dz = unchecked(pz[i] - pz[j]);
            const d2 = dx * dx + dy * dy + dz * dz; const mag = 0.001 / (d2 * Math.sqrt(d2));
            const mj = unchecked(m[j]) * mag, mi = unchecked(m[i]) * mag;
            unchecked(vx[i] -= dx * mj); unchecked(vy[i] -= dy * mj); unchecked(vz[i] -= dz * mj);
            unchecked(vx[j] += dx * mi); unchecked(vy[j] += dy * mi); unchecked(vz[j] += dz * mi); }
          for (let i = 0; i < B; i++) { unchecked(px[i] += 0.001 * vx[i]); unchecked(py[i] += 0.001 * vy[i]);
            unchecked(pz[i] += 0.001 * vz[i]); } }
        print(reinterpret<u64>(px[0])); }`,
  },
  mandelbrot: {
    kind: "float",
    source: `export function _start(): void { let total: u64 = 0;
      for (let py = 0; py < 512; py++) for (let px = 0; px < 512; px++) {
        const x0 = <f64>px / 512 * 3.5 - 2.5, y0 = <f64>py / 512 * 2 - 1; let x: f64 = 0, y: f64 = 0; let i = 0;
        while (x * x + y * y <= 4 && i < 300) { const t = x * x - y * y + x0; y = 2 * x * y + y0; x = t; i++; }
        total += i; }
      print(total); }`,
  },
  fibonacci: {
    kind: "call",
    source: `function fib(n: i32): i32 { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
      export function _start(): void { print(fib(36)); }`,
  },
};
