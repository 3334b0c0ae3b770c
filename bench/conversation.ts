// What a long conversation costs: processor time of a chat call by the number of its messages, and bytes of the journal a turn.
//   node bench/conversation.ts [--calls 1500] [--turns 50]
// The guardian and the stand-in behind it are this process, the client is another one. All
// messages but the last are those of the call before, as in a conversation.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { asked, amount } from "../kind-e2e/asked.ts";
import { readJournal } from "../sidecar/journal/journal.ts";
import { scene } from "../test/surfaces/scene.ts";
import type { Scene } from "../test/surfaces/scene.ts";

const wish = asked("usage: node bench/conversation.ts [--calls N] [--turns N]", {
  calls: amount(1500, 1),
  turns: amount(50, 1),
});

const TEXT = "What somebody says in a turn of a conversation about a pull request. ".repeat(4);
const CLIENT = `const [base, calls, messages, text] = JSON.parse(process.argv[1]);
const history = Array.from({ length: messages - 1 }, (_, i) => ({ role: i % 2 ? "assistant" : "user", content: text + i }));
for (let n = 0; n < calls; n++) {
  const body = { model: "openai/stand-in", messages: [...history, { role: "user", content: text + "turn " + n + " of " + calls }] };
  const r = await fetch(base + "/v1/chat/completions", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (r.status !== 200) throw new Error(r.status + await r.text());
  await r.text();
}`;

async function client(s: Scene, calls: number, messages: number): Promise<number> {
  const before = process.cpuUsage();
  const child = spawn(
    process.execPath,
    ["--input-type=module", "--eval", CLIENT, JSON.stringify([s.base, calls, messages, TEXT])],
    {
      stdio: ["ignore", "inherit", "inherit"],
    },
  );
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error("the client failed");
  const { user, system } = process.cpuUsage(before);
  return (user + system) / calls;
}
/** Bytes of records; the rest of a segment is zeros. */
async function bytes(s: Scene): Promise<number> {
  await s.guardian.journal.checkpoint();
  let size = 0;
  for (const { line } of readJournal(join(s.folder, "journal")).records()) size += line.byteLength + 1;
  return size;
}

const calls = wish.calls;
const turns = wish.turns;
const s = await scene({
  policy(document) {
    const [profile] = document["profiles"] as { budgets: object }[];
    if (profile !== undefined) profile.budgets = {};
    document["limits"] = { requestsPerSecond: 100_000 };
  },
});
try {
  for (const messages of [1, 50]) await client(s, 200, messages);
  for (let round = 0; round < 3; round++)
    for (const messages of [1, 50]) {
      const each = await client(s, calls, messages);
      console.log(
        `${messages} message${messages === 1 ? "" : "s"}: ${each.toFixed(0)} µs of processor time a call (guardian and stand-in, ${calls} calls)`,
      );
    }
  const messages: { role: string; content: string }[] = [];
  const sizes: number[] = [await bytes(s)];
  for (let turn = 0; turn < turns; turn++) {
    messages.push({ role: "user", content: `${TEXT}question ${turn}` });
    const answer = await fetch(`${s.base}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "openai/stand-in", messages }),
    });
    if (answer.status !== 200) throw new Error(await answer.text());
    await answer.text();
    messages.push({ role: "assistant", content: `${TEXT}answer ${turn}` });
    sizes.push(await bytes(s));
  }
  const turn = (n: number): number => (sizes[n] ?? 0) - (sizes[n - 1] ?? 0);
  console.log(
    `${turns} turns: ${(sizes.at(-1) ?? 0) - (sizes[0] ?? 0)} bytes of records; turn 1 ${turn(1)}, turn ${turns / 2} ${turn(turns / 2)}, turn ${turns} ${turn(turns)}`,
  );
} finally {
  await s.close();
}
