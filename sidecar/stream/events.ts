// Server-sent events as they arrive, at any chunking. Pure but for what it holds of an unfinished event.

export interface ServerEvent {
  readonly event: string;
  readonly data: string;
}
const MOST = 2 << 20;

/** Takes bytes, gives the events that they complete. Throws when an event is larger than any of ours. */
export function eventReader(): (bytes: Uint8Array) => ServerEvent[] {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let held = "";
  return (bytes) => {
    held += decoder.decode(bytes, { stream: true });
    const parts = held.split("\n\n");
    held = parts.pop() ?? "";
    if (held.length > MOST) throw new Error("an event is too large");
    return parts.map((part) => {
      let event = "message";
      const data: string[] = [];
      for (const line of part.split("\n")) {
        if (line.startsWith("event: ")) event = line.slice(7);
        else if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      return { event, data: data.join("\n") };
    });
  };
}
