import type { JsonValue } from "@assay/core";
import type { ChoiceDelta, TextFinishReason, TokenLogprob, ToolCallDelta } from "@assay/protocol";
import { malformed } from "../errors.ts";
import { finishReason } from "../finish.ts";
import { MAX_PIECES } from "../limits.ts";
import { isObject, listOf, objectOf, textOf } from "../read.ts";
import type { JsonObject } from "../read.ts";
import { see, seeModel } from "../report.ts";
import type { Report } from "../report.ts";

/**
 * The steps in one document of OpenAI's: a chunk of a stream (`delta`, `text`) or a whole answer (`message`, `text`).
 * Facts and usage go into `report`. Throws `upstream_malformed` for choices that are not in the documented form.
 */
export function readDocument(document: JsonObject, report: Report): ChoiceDelta[] {
  see(report, "responseId", document["id"]);
  see(report, "systemFingerprint", document["system_fingerprint"]);
  see(report, "serviceTier", document["service_tier"]);
  seeModel(report, document["model"]);
  readUsage(document["usage"], report);
  const { choices } = document;
  if (choices === undefined || choices === null) return [];
  if (!Array.isArray(choices)) throw malformed("its choices are no list");
  return choices.flatMap((choice: JsonValue) => readChoice(choice));
}

function readChoice(value: JsonValue): ChoiceDelta[] {
  if (!isObject(value)) throw malformed("a choice is no object");
  const { index, finish_reason: reason } = value;
  if (typeof index !== "number") throw malformed("a choice has no index");
  if (reason !== undefined && reason !== null && typeof reason !== "string")
    throw malformed("a finish reason is no text");
  const finish: TextFinishReason | null = typeof reason === "string" && reason !== "" ? finishReason(reason) : null;
  const message = value["delta"] ?? value["message"];
  if (message !== undefined && message !== null && !isObject(message)) throw malformed("a delta is no object");
  const delta = isObject(message) ? readDelta(message) : readText(value["text"]);
  const logprobs = readLogprobs(value["logprobs"]);
  return [{ index, delta, ...(logprobs === undefined ? {} : { logprobs }), finish_reason: finish }];
}

function readText(value: JsonValue | undefined): ChoiceDelta["delta"] {
  if (value === undefined || value === null || value === "") return {};
  if (typeof value !== "string") throw malformed("a completion is no text");
  return { content: value };
}

function readDelta(delta: JsonObject): ChoiceDelta["delta"] {
  const content = plain(delta["content"]);
  const refusal = plain(delta["refusal"]);
  // Two names are in use for thoughts that are shown.
  const reasoning = plain(delta["reasoning_content"]) ?? plain(delta["reasoning"]);
  const calls = readCalls(delta["tool_calls"]);
  const images = readImages(delta["images"]);
  const { annotations } = delta;
  return {
    ...(content === undefined ? {} : { content }),
    ...(refusal === undefined ? {} : { refusal }),
    ...(reasoning === undefined ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
    ...(images.length === 0 ? {} : { images }),
    ...(listOf(annotations).length === 0 ? {} : { annotations: listOf(annotations) }),
  };
}

/** A text; undefined when there is none or it is empty. */
function plain(value: JsonValue | undefined): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  if (typeof value !== "string") throw malformed("a message is no text");
  return value;
}

function readCalls(value: JsonValue | undefined): ToolCallDelta[] {
  const calls = listOf(value);
  if (calls.length > MAX_PIECES) throw malformed(`it has more than ${MAX_PIECES} tool calls at once`);
  return calls.map((call, position) => {
    if (!isObject(call)) throw malformed("a tool call is no object");
    const index = call["index"] ?? position;
    if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= MAX_PIECES)
      throw malformed("a tool call has no index that could be one");
    const id = textOf(call["id"]);
    const { name, arguments: given } = objectOf(call["function"]);
    if (given !== undefined && given !== null && typeof given !== "string")
      throw malformed("a tool call's arguments are no text");
    const named = textOf(name);
    return {
      index,
      ...(id === undefined ? {} : { id, type: "function" as const }),
      function: {
        ...(named === undefined ? {} : { name: named }),
        ...(typeof given === "string" ? { arguments: given } : {}),
      },
    };
  });
}

function readImages(value: JsonValue | undefined): string[] {
  const images = listOf(value);
  if (images.length > MAX_PIECES) throw malformed(`it has more than ${MAX_PIECES} images at once`);
  return images.flatMap((image) => {
    const { image_url: link, url } = objectOf(image);
    const found = textOf(image) ?? textOf(objectOf(link)["url"]) ?? textOf(link) ?? textOf(url);
    return found === undefined ? [] : [found];
  });
}

function readLogprobs(value: JsonValue | undefined): ChoiceDelta["logprobs"] | undefined {
  if (!isObject(value)) return undefined;
  if (Array.isArray(value["content"]) || Array.isArray(value["refusal"])) {
    return {
      content: Array.isArray(value["content"]) ? listOf(value["content"]).map(readToken) : null,
      ...(Array.isArray(value["refusal"]) ? { refusal: listOf(value["refusal"]).map(readToken) } : {}),
    };
  }
  const tokens = listOf(value["tokens"]);
  if (tokens.length === 0) return undefined;
  const logprobs = listOf(value["token_logprobs"]);
  const tops = listOf(value["top_logprobs"]);
  return {
    content: tokens.map((token, at) => ({
      ...alternative(token, logprobs[at]),
      top_logprobs: Object.entries(objectOf(tops[at]))
        .map(([text, logprob]) => alternative(text, logprob))
        .sort((a, b) => b.logprob - a.logprob),
    })),
  };
}

function readToken(value: JsonValue): TokenLogprob {
  const token = objectOf(value);
  return {
    ...alternative(token["token"], token["logprob"], token["bytes"]),
    top_logprobs: listOf(token["top_logprobs"]).map((other) => {
      const { token: text, logprob, bytes } = objectOf(other);
      return alternative(text, logprob, bytes);
    }),
  };
}

function alternative(
  token: JsonValue | undefined,
  logprob: JsonValue | undefined,
  bytes?: JsonValue,
): Omit<TokenLogprob, "top_logprobs"> {
  // The first token of an echoed prompt has nothing before it, and null for a probability.
  if (typeof token !== "string" || (typeof logprob !== "number" && logprob !== null && logprob !== undefined))
    throw malformed("a token's log-probability is not in the documented form");
  const list = listOf(bytes);
  return {
    token,
    logprob: logprob ?? 0,
    bytes: Array.isArray(bytes) && list.every((byte) => typeof byte === "number") ? list : null,
  };
}

function readUsage(value: JsonValue | undefined, report: Report): void {
  if (!isObject(value)) return;
  const prompt = objectOf(value["prompt_tokens_details"]);
  const completion = objectOf(value["completion_tokens_details"]);
  report.usage = {
    prompt: value["prompt_tokens"],
    // An embedding has no completion, and says nothing of one.
    completion: value["completion_tokens"] ?? 0,
    cached: prompt["cached_tokens"],
    promptAudio: prompt["audio_tokens"],
    reasoning: completion["reasoning_tokens"],
    completionAudio: completion["audio_tokens"],
    accepted: completion["accepted_prediction_tokens"],
    rejected: completion["rejected_prediction_tokens"],
  };
}
