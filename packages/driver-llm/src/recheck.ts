import type { TextFinishReason } from "@assay/protocol";
import { LaneDeath } from "./lane.ts";
import { count, decodeControl, isObject, list, text } from "./json.ts";
import type { JsonObject } from "./json.ts";

export type RecheckOptions = {
  readonly signal?: AbortSignal;
  /** Largest difference that counts as agreement; the profile's when left out. */
  readonly tolerance?: number;
};

/** A position where the sampler would have chosen another token, by more than the tolerance. */
export type RecheckDisagreement = {
  readonly choice: number;
  /** Index of the token in its answer, from 0. */
  readonly position: number;
  readonly token: number;
  readonly tokenText: string;
  /** The token that the sampler chooses; -1 when the answer had ended already. */
  readonly expected: number;
  readonly expectedText: string;
  /** The smallest change of every logit that would explain the token; Infinity when rules forbid it. */
  readonly difference: number;
};

/** What the tokens of one answer say, to be compared with the answer. */
export type RecheckAnswer = {
  readonly text: string;
  readonly toolCalls: readonly { readonly id: string; readonly name: string; readonly arguments: string }[];
  /** How the tokens end; undefined when nothing ends them, so that the answer was cut off. */
  readonly finish: TextFinishReason | undefined;
};

export type RecheckResult = {
  /** Whether every token is within the tolerance, every answer ends, and the stated parameters follow from the request. */
  readonly agrees: boolean;
  /** Tokens compared. */
  readonly positions: number;
  /** At most 16 of them, in order. */
  readonly disagreements: readonly RecheckDisagreement[];
  readonly disagreementCount: number;
  readonly largestDifference: number;
  readonly tolerance: number;
  /** Names of parameters whose stated values do not follow from the request and the model's defaults. */
  readonly parameterMismatches: readonly string[];
  readonly answers: readonly RecheckAnswer[];
  /** Time in the network, milliseconds. */
  readonly prefillMs: number;
};

/** A child's account of a re-check. Throws {@link LaneDeath} for one that is not readable. */
export function readRecheck(body: Uint8Array, tolerance: number): RecheckResult {
  const message = decodeControl(body);
  if (message === undefined) throw new LaneDeath("protocol", "The child's account of a re-check is not readable.");
  const answers = objects(message["answers"]).map((answer) => ({
    text: text(answer["text"]),
    toolCalls: objects(answer["toolCalls"]).map((call) => ({
      id: text(call["id"]),
      name: text(call["name"]),
      arguments: text(call["arguments"]),
    })),
    finish: (["stop", "length", "tool_calls"] as const).find((reason) => reason === answer["finish"]),
  }));
  const disagreementCount = count(message["disagreementCount"]);
  const parameterMismatches = list(message["mismatches"]).map(text);
  return {
    agrees:
      disagreementCount === 0 &&
      parameterMismatches.length === 0 &&
      answers.every((answer) => answer.finish !== undefined),
    positions: count(message["positions"]),
    disagreements: objects(message["disagreements"]).map((entry) => ({
      choice: count(entry["choice"]),
      position: count(entry["position"]),
      token: count(entry["token"]),
      tokenText: text(entry["tokenText"]),
      expected: typeof entry["expected"] === "number" ? entry["expected"] : -1,
      expectedText: text(entry["expectedText"]),
      difference: difference(entry["difference"]),
    })),
    disagreementCount,
    largestDifference: difference(message["largestDifference"]),
    tolerance,
    parameterMismatches,
    answers,
    prefillMs: count(message["prefillMs"]),
  };
}

function objects(value: JsonObject[string] | undefined): readonly JsonObject[] {
  return list(value).filter(isObject);
}

/** JSON has no infinities: null stands for one. */
function difference(value: JsonObject[string] | undefined): number {
  return typeof value === "number" ? value : Infinity;
}
