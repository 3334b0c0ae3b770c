// The demo's WASM tool: reads its arguments and writes them back, through two functions of WASI preview 1 and no others.
//
// (module
//   (import "wasi_snapshot_preview1" "fd_read" (func $r (param i32 i32 i32 i32) (result i32)))
//   (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
//   (memory (export "memory") 1 1)
//   (func (export "_start")
//     (i32.store (i32.const 0) (i32.const 64))
//     (i32.store (i32.const 4) (i32.const 4096))
//     (drop (call $r (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
//     (i32.store (i32.const 4) (i32.load (i32.const 8)))
//     (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))

export const ECHO = Buffer.from(
  "AGFzbQEAAAABDAJgBH9/f38Bf2AAAAJEAhZ3YXNpX3NuYXBzaG90X3ByZXZpZXcxB2ZkX3JlYWQAABZ3YXNpX3NuYXBzaG90X3ByZXZpZXcx" +
    "CGZkX3dyaXRlAAADAgEBBQQBAQEBBxMCBm1lbW9yeQIABl9zdGFydAACCjQBMgBBAEHAADYCAEEEQYAgNgIAQQBBAEEBQQgQABpBBEEIKAIA" +
    "NgIAQQFBAEEBQQgQARoL",
  "base64",
);
