import { parseJson } from "@assay/core";
import { count, isObject } from "../json.ts";

/** Limits of a child; see `limits.ts` for their reasons. */
const NUMBERS = [
  "parentPid",
  "maxRssBytes",
  "watchdogIntervalMs",
  "threads",
  "cacheBytes",
  "prefillChunk",
  "loadTimeoutMs",
  "stepTimeoutMs",
  "prepareTimeoutMs",
  "maxModelBytes",
  "windowEvents",
] as const;

export type ChildSettings = Readonly<Record<(typeof NUMBERS)[number], number>>;

/** Settings from a child's one argument. Throws when they are not there: a child without limits must not run. */
export function parseSettings(argument: string): ChildSettings {
  const value = parseJson(argument);
  if (!isObject(value)) throw new TypeError("A child needs its settings as a JSON object.");
  const entries = NUMBERS.map((name) => {
    const number = count(value[name]);
    if (number <= 0 && name !== "cacheBytes") throw new TypeError(`A child needs ${name}.`);
    return [name, number] as const;
  });
  return Object.fromEntries(entries) as ChildSettings;
}
