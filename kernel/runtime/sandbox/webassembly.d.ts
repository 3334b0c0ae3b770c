// The part of the WebAssembly interface that is used here; Node's types leave it to the DOM's, which this project has not.

declare namespace WebAssembly {
  type HostFunction = (...args: never[]) => number | void;
  type ModuleImports = Record<string, HostFunction>;
  interface Exports {
    readonly [name: string]: unknown;
  }
  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
    static exports(module: Module): { name: string; kind: string }[];
    static imports(module: Module): { module: string; name: string; kind: string }[];
  }
  class Instance {
    constructor(module: Module, imports?: Record<string, ModuleImports>);
    readonly exports: Exports;
  }
  class Memory {
    constructor(sizes: { initial: number; maximum?: number });
    readonly buffer: ArrayBuffer;
  }
  class Global {
    constructor(type: { value: string; mutable: boolean }, value: number | bigint);
    value: number | bigint;
  }
  class RuntimeError extends Error {}
  class CompileError extends Error {}
  class LinkError extends Error {}
  function validate(bytes: Uint8Array<ArrayBuffer>): boolean;
}
