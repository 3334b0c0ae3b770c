// The hello reader against a real client, cut at every byte, and against forms that no client sends.

import { connect } from "node:tls";
import { Duplex } from "node:stream";
import { expect, test } from "vitest";
import { readHello } from "../../sidecar/proxy/hello.ts";

/** The first flight of this platform's own TLS client. */
function flight(servername?: string): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(Buffer.from(chunk));
        done();
      },
    });
    connect({ socket: wire, ...(servername === undefined ? {} : { servername }) }).on("error", () => {});
  });
}
/** The same message in records of `size` bytes. */
function split(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5);
  const parts: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    parts.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
  }
  return Buffer.concat(parts);
}
/** A hello with the extensions given. */
function hello(extensions: readonly (readonly [type: number, body: Buffer])[]): Buffer {
  const two = (n: number): Buffer => Buffer.from([n >> 8, n & 255]);
  const list = Buffer.concat(extensions.flatMap(([type, body]) => [two(type), two(body.length), body]));
  const body = Buffer.concat([
    Buffer.from([3, 3]),
    Buffer.alloc(32),
    Buffer.from([0, 0, 2, 0x13, 1, 1, 0]),
    two(list.length),
    list,
  ]);
  const message = Buffer.concat([Buffer.from([1, 0]), two(body.length), body]);
  return Buffer.concat([Buffer.from([22, 3, 1]), two(message.length), message]);
}
const named = (text: string): Buffer => {
  const entry = Buffer.concat([Buffer.from([0, 0, text.length]), Buffer.from(text, "latin1")]);
  return Buffer.concat([Buffer.from([0, entry.length]), entry]);
};

test("a real hello is read, whole and in every cut, in one record and in many", async () => {
  const whole = await flight("api.docs.test");
  expect(readHello(whole)).toEqual({ state: "hello", name: "api.docs.test" });
  for (let cut = 0; cut < whole.length; cut++)
    expect(readHello(whole.subarray(0, cut)).state, `cut at ${cut}`).toBe("more");
  for (const size of [1, 2, 3, 4, 5, 100]) {
    const records = split(whole, size);
    expect(readHello(records)).toEqual({ state: "hello", name: "api.docs.test" });
    expect(readHello(records.subarray(0, records.length - 1)).state).toBe("more");
  }
  expect(readHello(await flight())).toEqual({ state: "hello", name: "" });
});

test("what is not a plain hello is refused or is no TLS", () => {
  const refused: readonly (readonly [string, Buffer])[] = [
    [
      "two names",
      hello([[0, Buffer.concat([Buffer.from([0, 8, 0, 0, 1, 97]), Buffer.from([0, 0, 1, 98])])]]),
    ],
    [
      "the extension twice",
      hello([
        [0, named("a.test")],
        [0, named("b.test")],
      ]),
    ],
    [
      "an encrypted hello",
      hello([
        [0, named("a.test")],
        [0xfe0d, Buffer.alloc(4)],
      ]),
    ],
    ["a zero byte in the name", hello([[0, named("a.test\0.b")]])],
    ["a name of another type", hello([[0, Buffer.from([0, 4, 1, 0, 1, 97])]])],
    ["a length beyond the message", hello([[0, Buffer.from([0, 9, 0, 0, 1, 97])]])],
    ["a server's message", Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0])],
    ["an empty record", Buffer.from([22, 3, 1, 0, 0])],
    ["an alert inside the hello", Buffer.from([22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 2, 1, 0])],
    [
      "bytes after the hello",
      Buffer.concat([Buffer.from([22, 3, 1, 0, 60]), hello([]).subarray(5), Buffer.alloc(60)]),
    ],
  ];
  for (const [what, bytes] of refused) expect(readHello(bytes).state, what).toBe("refused");
  expect(readHello(Buffer.from("GET / HTTP/1.1\r\n")).state).toBe("not TLS");
  expect(readHello(Buffer.from([22, 2, 0, 0, 5])).state).toBe("not TLS");
  expect(readHello(hello([[0, named("a.test")]]))).toEqual({ state: "hello", name: "a.test" });
});
