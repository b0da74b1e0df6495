import type { JsonValue } from "@assay/core";
import type { ChoiceDelta, TextFinishReason } from "@assay/protocol";
import { malformed } from "../errors.ts";
import { MAX_PIECES } from "../limits.ts";
import { isObject, listOf, objectOf, textOf } from "../read.ts";
import type { JsonObject } from "../read.ts";
import { see, seeModel } from "../report.ts";
import type { Report } from "../report.ts";

const REASONS: Readonly<Record<string, TextFinishReason>> = {
  end_turn: "stop",
  stop_sequence: "stop",
  max_tokens: "length",
  model_context_window_exceeded: "length",
  tool_use: "tool_calls",
  refusal: "content_filter",
};

export type MessageReader = {
  /** The steps in one event of the stream. Throws `upstream_malformed` for events out of their documented order. */
  readonly event: (event: JsonObject) => ChoiceDelta[];
  /** Throws `upstream_malformed` unless the message came to its stop. */
  readonly end: () => void;
};

/** Reads the events of a streamed message. */
export function createMessageReader(report: Report): MessageReader {
  /** Position of a tool's call among the calls, by the position of its block among the blocks. */
  const calls = new Map<number, number>();
  /** Blocks whose arguments came so far only as the empty object of their start. */
  const empty = new Set<number>();
  let started = false;
  let stopped = false;

  return {
    event(event) {
      switch (event["type"]) {
        case "message_start":
          if (started) throw malformed("its message began twice");
          started = true;
          readHead(objectOf(event["message"]), report);
          return [];
        case "content_block_start":
          return blockStart(position(event["index"]), objectOf(event["content_block"]));
        case "content_block_delta":
          return blockDelta(position(event["index"]), objectOf(event["delta"]));
        case "content_block_stop": {
          const call = calls.get(position(event["index"]));
          if (call === undefined || !empty.delete(position(event["index"]))) return [];
          // A call without arguments sends none; theirs is the empty object all the same.
          return [step({ tool_calls: [{ index: call, function: { arguments: "{}" } }] })];
        }
        case "message_delta": {
          readUsage(objectOf(event["usage"]), report);
          const reason = objectOf(event["delta"])["stop_reason"];
          return typeof reason === "string" ? [step({}, finish(reason))] : [];
        }
        case "message_stop":
          stopped = true;
          return [];
        default:
          // The API says that new types of events may come and are to be passed over.
          return [];
      }
    },
    end() {
      if (!stopped) throw malformed("its stream ended without message_stop");
    },
  };

  function blockStart(index: number, block: JsonObject): ChoiceDelta[] {
    if (block["type"] === "text") return pieces(block["text"], (content) => ({ content }));
    if (block["type"] !== "tool_use") return [];
    const call = calls.size;
    calls.set(index, call);
    empty.add(index);
    return [step({ tool_calls: [callHead(call, block, "")] })];
  }

  function blockDelta(index: number, delta: JsonObject): ChoiceDelta[] {
    switch (delta["type"]) {
      case "text_delta":
        return pieces(delta["text"], (content) => ({ content }));
      case "thinking_delta":
        return pieces(delta["thinking"], (reasoning_content) => ({ reasoning_content }));
      case "input_json_delta": {
        const call = calls.get(index);
        if (call === undefined) throw malformed("arguments came for no tool call");
        return pieces(delta["partial_json"], (text) => {
          empty.delete(index);
          return { tool_calls: [{ index: call, function: { arguments: text } }] };
        });
      }
      default:
        return [];
    }
  }
}

/** The steps of a whole message. */
export function readMessage(message: JsonObject, report: Report): ChoiceDelta[] {
  readHead(message, report);
  const steps: ChoiceDelta[] = [];
  let call = 0;
  for (const value of listOf(message["content"]).slice(0, MAX_PIECES)) {
    const block = objectOf(value);
    if (block["type"] === "text") steps.push(...pieces(block["text"], (content) => ({ content })));
    else if (block["type"] === "thinking")
      steps.push(...pieces(block["thinking"], (reasoning_content) => ({ reasoning_content })));
    else if (block["type"] === "tool_use") {
      const input = JSON.stringify(block["input"] ?? {});
      steps.push(step({ tool_calls: [callHead(call, block, input)] }));
      call++;
    }
  }
  const reason = message["stop_reason"];
  if (typeof reason === "string") steps.push(step({}, finish(reason)));
  return steps;
}

function step(delta: ChoiceDelta["delta"], reason: TextFinishReason | null = null): ChoiceDelta {
  return { index: 0, delta, finish_reason: reason };
}

/** One step with a text, none with an empty one. */
function pieces(value: JsonValue | undefined, make: (text: string) => ChoiceDelta["delta"]): ChoiceDelta[] {
  if (typeof value !== "string") throw malformed("a block's text is no text");
  return value === "" ? [] : [step(make(value))];
}

function callHead(index: number, block: JsonObject, input: string) {
  const id = textOf(block["id"]);
  const name = textOf(block["name"]);
  if (id === undefined || name === undefined) throw malformed("a tool call has no id or no name");
  return { index, id, type: "function" as const, function: { name, arguments: input } };
}

function position(value: JsonValue | undefined): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= MAX_PIECES)
    throw malformed("a block has no index that could be one");
  return value;
}

function finish(reason: string): TextFinishReason {
  const known = Object.hasOwn(REASONS, reason) ? REASONS[reason] : undefined;
  if (known === undefined) throw malformed("it gives a stop reason that is not known");
  return known;
}

function readHead(message: JsonObject, report: Report): void {
  see(report, "responseId", message["id"]);
  seeModel(report, message["model"]);
  readUsage(objectOf(message["usage"]), report);
}

/** Counts are cumulative; what a later event leaves out stands as it was. */
function readUsage(usage: JsonObject, report: Report): void {
  const before = report.usage;
  const input = usage["input_tokens"];
  const read = usage["cache_read_input_tokens"];
  const written = usage["cache_creation_input_tokens"];
  const prompt = [input, read, written].reduce<number | undefined>(
    (sum, count) => (typeof count === "number" ? (sum ?? 0) + count : sum),
    undefined,
  );
  const details = usage["output_tokens_details"];
  report.usage = {
    // The API counts cached tokens beside the others; ours stand among them.
    prompt: typeof input === "number" ? prompt : before?.prompt,
    completion: usage["output_tokens"] ?? before?.completion,
    cached: read ?? before?.cached,
    reasoning: isObject(details) ? details["thinking_tokens"] : before?.reasoning,
  };
}
