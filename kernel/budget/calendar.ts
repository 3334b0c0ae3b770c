// The calendar day of a moment in a time zone, as year-month-day: whatever its clocks do, a day is its date.

export function createCalendar(): (epochMs: number, timezone: string) => string {
  const formats = new Map<string, Intl.DateTimeFormat>();
  let known = { quarter: Number.NaN, timezone: "", day: "" };
  return (epochMs, timezone) => {
    // No zone changes its date other than at a full quarter of an hour.
    const quarter = Math.floor(epochMs / 900_000);
    if (known.quarter === quarter && known.timezone === timezone) return known.day;
    // A first format takes more than ten milliseconds of a start.
    if (timezone === "UTC") {
      known = { quarter, timezone, day: new Date(epochMs).toISOString().slice(0, 10) };
      return known.day;
    }
    let format = formats.get(timezone);
    if (format === undefined) {
      format = new Intl.DateTimeFormat("en-CA-u-ca-gregory-nu-latn", {
        timeZone: timezone,
        year: "numeric",
        month: "2-digit",
        day: "2-digit",
      });
      formats.set(timezone, format);
    }
    const parts = new Map(format.formatToParts(quarter * 900_000).map((p) => [p.type, p.value]));
    const day = `${parts.get("year")}-${parts.get("month")}-${parts.get("day")}`;
    known = { quarter, timezone, day };
    return day;
  };
}
