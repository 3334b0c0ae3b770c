// The perimeter and the threat bounds: of two layers the stricter of each.

import { EFFECT_CLASSES, THREAT_LEVELS } from "../contracts/contracts.ts";
import type { Policy, PolicyDoc } from "../contracts/contracts.ts";

type Section = PolicyDoc["perimeter"];
type Hours = NonNullable<NonNullable<Section>["hours"]>;

export function compilePerimeter(own: Section, above: Section): Policy["perimeter"] {
  const sections = [own, above].filter((s) => s !== undefined);
  const hours = sections.flatMap((s) => (s.hours === undefined ? [] : [withinHours(s.hours)]));
  const concurrent = sections.flatMap((s) => (s.maxConcurrent === undefined ? [] : [s.maxConcurrent]));
  return {
    open: (now) => hours.every((h) => h(now)),
    deniedDataClasses: new Set(sections.flatMap((s) => s.dataClasses?.deny ?? [])),
    maxConcurrent: concurrent.length === 0 ? -1 : Math.min(...concurrent),
    // A default holds for the policy as if it stood there; the layer above only narrows.
    requireTls: above?.requireTls === true || (own?.requireTls ?? true),
  };
}

/** From inclusive, to exclusive; a span over midnight belongs to the day on which it starts. */
function withinHours(hours: Hours): (epochMs: number) => boolean {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: hours.timezone,
    weekday: "short",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  });
  const minutes = (t: string): number => Number(t.slice(0, 2)) * 60 + Number(t.slice(3));
  const from = minutes(hours.from);
  const to = minutes(hours.to);
  const days = new Set(hours.days);
  const order = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  // A wall clock minute is the same for every millisecond in it, so one answer is kept.
  let known = { minute: Number.NaN, answer: false };
  const ask = (epochMs: number): boolean => {
    const parts = new Map(format.formatToParts(epochMs).map((p) => [p.type, p.value]));
    const day = parts.get("weekday") ?? "";
    const at = Number(parts.get("hour")) * 60 + Number(parts.get("minute"));
    if (from <= to) return days.has(day) && at >= from && at < to;
    if (at >= from) return days.has(day);
    return at < to && days.has(order[(order.indexOf(day) + 6) % 7] ?? "");
  };
  return (epochMs) => {
    const minute = Math.floor(epochMs / 60_000);
    if (known.minute !== minute) known = { minute, answer: ask(epochMs) };
    return known.answer;
  };
}

/** The lower level to deny at, the lower effect that a tainted session may have. */
export function strictest(own: PolicyDoc["threat"], above: PolicyDoc["threat"]): Policy["threat"] {
  const lower = <T extends string>(order: readonly T[], a: T, b: T | undefined): T =>
    b === undefined || order.indexOf(a) <= order.indexOf(b) ? a : b;
  return {
    denyAt: lower(THREAT_LEVELS, own?.denyAt ?? "HIGH", above?.denyAt),
    taintedMaxEffect: lower(EFFECT_CLASSES, own?.taintedMaxEffect ?? "E1", above?.taintedMaxEffect),
  };
}
