import { parseJson } from "@assay/core";
import { count, isObject, text } from "../control.ts";
import type { ChildSettings } from "./serve.ts";

/** Settings from a child's one argument. Throws when they are not there: a child without limits must not run. */
export function parseSettings(argument: string): ChildSettings {
  const value = parseJson(argument);
  if (!isObject(value)) throw new TypeError("A child needs its settings as a JSON object.");
  const profile = text(value["profile"]);
  if (profile !== "portable" && profile !== "native") throw new TypeError("A child needs a profile.");
  const positive = (name: string): number => {
    const number = count(value[name]);
    if (number <= 0) throw new TypeError(`A child needs ${name}.`);
    return number;
  };
  return {
    profile,
    parentPid: positive("parentPid"),
    maxRssBytes: positive("maxRssBytes"),
    watchdogIntervalMs: positive("watchdogIntervalMs"),
    maxFrameBytes: positive("maxFrameBytes"),
    maxTensorBytes: positive("maxTensorBytes"),
    maxTensorElements: positive("maxTensorElements"),
  };
}
