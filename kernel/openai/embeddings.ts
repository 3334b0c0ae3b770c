// Embeddings: text in, vectors out, no call in either.

import { ContractError } from "../contracts/contracts.ts";
import type { JsonObject, JsonValue } from "../contracts/contracts.ts";
import { pick } from "./answer.ts";
import type { Asked } from "./asked.ts";
import { listOf, objectOf, onlyMembers, textOf } from "./request.ts";

const MEMBERS: ReadonlySet<string> = new Set(["model", "input", "dimensions", "encoding_format", "user"]);

export function parseEmbeddings(value: JsonValue): Asked {
  const body = objectOf(value, "");
  onlyMembers(body, MEMBERS);
  const { input } = body;
  const texts: string[] = [];
  if (typeof input === "string") texts.push(input);
  else
    for (const [i, v] of listOf(input, "input").entries())
      if (typeof v === "string") texts.push(v);
      else if (typeof v !== "number" && !Array.isArray(v))
        throw new ContractError(`input[${i}]`, "expected text or tokens");
  return {
    model: textOf(body["model"], "model"),
    stream: false,
    n: 1,
    functions: [],
    providerTools: [],
    results: [],
    remoteUrls: [],
    texts,
    maxOutput: 0,
    dispatched: (model) => ({ ...body, model }),
  };
}

export const shownEmbeddings = (answer: JsonObject): Record<string, JsonValue> => ({
  ...pick(answer, new Set(["object", "model", "usage"])),
  data: listOf(answer["data"], "data").map((d, i) =>
    pick(objectOf(d, `data[${i}]`), new Set(["object", "index", "embedding"])),
  ),
});
