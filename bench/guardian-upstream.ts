// The upstream of `bench/guardian.ts` as a process of its own.   node bench/guardian-upstream.ts

import { startUpstream } from "../test/guard/upstream.ts";

const up = await startUpstream();
for (const name of ["do", "denied"]) up.tools.set(name, () => undefined);
let calls = 0;
// An id that is still open is refused, so each call has its own.
const note = () => ({
  id: `call_${++calls}`,
  type: "function",
  function: { name: "write_note", arguments: '{"text":"hi"}' },
});
const words = "word ".repeat(180);
up.chat = (body) =>
  body["stream"] === true
    ? { role: "assistant", content: "one two three four five six seven eight" }
    : { role: "assistant", content: words, refusal: null, tool_calls: [note()] };

console.log(JSON.stringify({ mcp: up.mcp, v1: up.v1 }));
