import type { JsonValue } from "@assay/core";
import type { ChoiceDelta, TextFinishReason, TokenLogprob, ToolCallDelta } from "@assay/protocol";
import { malformed, upstreamError } from "../errors.ts";
import { MAX_PIECES } from "../limits.ts";
import { isObject, listOf, objectOf, textOf } from "../read.ts";
import type { JsonObject } from "../read.ts";
import { see, seeModel } from "../report.ts";
import type { Report } from "../report.ts";

const FILTERED = new Set([
  "SAFETY",
  "RECITATION",
  "BLOCKLIST",
  "PROHIBITED_CONTENT",
  "SPII",
  "IMAGE_SAFETY",
  "IMAGE_PROHIBITED_CONTENT",
  "IMAGE_RECITATION",
]);

/** The steps in one document of Gemini's, of a stream or whole. `random` makes ids of calls, which the API gives none. */
export function createContentReader(
  n: number,
  report: Report,
  random: () => number,
): (document: JsonObject) => ChoiceDelta[] {
  const calls = Array.from({ length: n }, () => 0);
  const ended = new Set<number>();

  function candidate(value: JsonValue): ChoiceDelta[] {
    const read = objectOf(value);
    // The first candidate comes without its index.
    const index = read["index"] ?? 0;
    if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= n)
      throw malformed(`it has a candidate that was not asked for`);
    const steps: ChoiceDelta[] = [];
    const logprobs = readLogprobs(read["logprobsResult"]);
    let open = logprobs;
    for (const part of listOf(objectOf(read["content"])["parts"])) {
      const delta = partDelta(objectOf(part), index);
      if (delta === undefined) continue;
      steps.push({ index, delta, ...(open === undefined ? {} : { logprobs: open }), finish_reason: null });
      open = undefined;
    }
    const reason = read["finishReason"];
    if (typeof reason === "string" && reason !== "FINISH_REASON_UNSPECIFIED") {
      ended.add(index);
      steps.push({
        index,
        delta: {},
        ...(open === undefined ? {} : { logprobs: open }),
        finish_reason: finish(reason, (calls[index] ?? 0) > 0),
      });
    }
    return steps;
  }

  function partDelta(part: JsonObject, index: number): ChoiceDelta["delta"] | undefined {
    const { text, functionCall, inlineData } = part;
    if (isObject(functionCall)) return { tool_calls: [toolCall(functionCall, index)] };
    if (isObject(inlineData)) {
      const { mimeType, data } = inlineData;
      if (typeof mimeType !== "string" || typeof data !== "string")
        throw malformed("inline data has no type or no data");
      return { images: [`data:${mimeType};base64,${data}`] };
    }
    if (text === undefined || text === "") return undefined;
    if (typeof text !== "string") throw malformed("a part's text is no text");
    return part["thought"] === true ? { reasoning_content: text } : { content: text };
  }

  function toolCall(call: JsonObject, choice: number): ToolCallDelta {
    const index = calls[choice] ?? 0;
    if (index >= MAX_PIECES) throw malformed(`it has more than ${MAX_PIECES} tool calls`);
    calls[choice] = index + 1;
    const name = textOf(call["name"]);
    if (name === undefined) throw malformed("a tool call has no name");
    const id = textOf(call["id"]) ?? `call_${randomText(random)}`;
    return { index, id, type: "function", function: { name, arguments: JSON.stringify(call["args"] ?? {}) } };
  }

  return (document) => {
    see(report, "responseId", document["responseId"]);
    seeModel(report, document["modelVersion"]);
    readUsage(document["usageMetadata"], report);
    const candidates = document["candidates"];
    if (isObject(document["promptFeedback"]) && textOf(document["promptFeedback"]["blockReason"]) !== undefined) {
      // The prompt itself was held back: there will be no candidates.
      return Array.from({ length: n }, (_, index) => index)
        .filter((index) => !ended.has(index))
        .map((index): ChoiceDelta => {
          ended.add(index);
          return { index, delta: {}, finish_reason: "content_filter" };
        });
    }
    return listOf(candidates).slice(0, MAX_PIECES).flatMap(candidate);
  };
}

function finish(reason: string, called: boolean): TextFinishReason {
  if (reason === "STOP") return called ? "tool_calls" : "stop";
  if (reason === "MAX_TOKENS") return "length";
  if (FILTERED.has(reason)) return "content_filter";
  throw upstreamError(
    "upstream_failed",
    `The upstream broke off its answer (${reason.slice(0, 64).replace(/\W/g, "")}).`,
  );
}

function readUsage(value: JsonValue | undefined, report: Report): void {
  if (!isObject(value)) return;
  const { candidatesTokenCount: answer, thoughtsTokenCount: thoughts } = value;
  report.usage = {
    prompt: value["promptTokenCount"],
    // Both are left out when they are zero; thoughts are paid for as the answer is.
    completion: (answer === undefined ? 0 : Number(answer)) + (thoughts === undefined ? 0 : Number(thoughts)),
    cached: value["cachedContentTokenCount"],
    reasoning: thoughts,
  };
}

function readLogprobs(value: JsonValue | undefined): ChoiceDelta["logprobs"] | undefined {
  if (!isObject(value)) return undefined;
  const tops = listOf(value["topCandidates"]);
  const content = listOf(value["chosenCandidates"]).map((chosen, at): TokenLogprob => ({
    ...token(chosen),
    top_logprobs: listOf(objectOf(tops[at])["candidates"]).map(token),
  }));
  return content.length === 0 ? undefined : { content };
}

function token(value: JsonValue): Omit<TokenLogprob, "top_logprobs"> {
  const { token: text, logProbability } = objectOf(value);
  if (typeof text !== "string" || typeof logProbability !== "number")
    throw malformed("a token's log-probability is not in the documented form");
  return { token: text, logprob: logProbability, bytes: null };
}

/** 24 characters from a to z and 0 to 9. */
function randomText(random: () => number): string {
  return Array.from({ length: 24 }, () => Math.floor(random() * 36).toString(36)).join("");
}
