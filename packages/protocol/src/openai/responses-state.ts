import type { JsonValue } from "@assay/core";
import { malformed } from "./chat-state.ts";
import { isObject } from "./read.ts";
import type { JsonObject } from "./read.ts";

type Mutable = { [key: string]: JsonValue };

/** Items of one answer that a reader takes: calls of tools, and a text and thoughts between them. */
const MAX_ITEMS = 1024;
const MAX_PARTS = 256;

/** The logical answer of the Responses API, grown from its events by writer and reader alike. */
export type ResponsesState = {
  /** Takes one event; events that say nothing new of the answer pass. Throws `response_malformed`. */
  readonly take: (event: JsonObject) => void;
  /** The response as far as events went. */
  readonly response: () => JsonObject;
};

export function createResponsesState(): ResponsesState {
  let base: JsonObject = {};
  let whole: JsonObject | undefined;
  const output: Mutable[] = [];

  const itemOf = (event: JsonObject): Mutable => {
    const item = output[indexOf(event["output_index"], output.length - 1)];
    if (!item) throw malformed("an event is about an item that is not there");
    return item;
  };
  const partOf = (event: JsonObject): Mutable => {
    const parts = itemOf(event)["content"];
    const part = Array.isArray(parts) ? (parts as JsonValue[])[indexOf(event["content_index"], MAX_PARTS)] : undefined;
    if (!isObject(part)) throw malformed("an event is about a part that is not there");
    return part;
  };
  const append = (to: Mutable, name: string, more: JsonValue | undefined): void => {
    if (typeof more !== "string") throw malformed(`an event has no ${name}`);
    to[name] = (typeof to[name] === "string" ? to[name] : "") + more;
  };

  return {
    take(event) {
      switch (event["type"]) {
        case "response.created":
          if (!isObject(event["response"])) throw malformed("the first event has no response");
          base = event["response"];
          return;
        case "response.output_item.added": {
          const at = indexOf(event["output_index"], Math.min(output.length, MAX_ITEMS - 1));
          output[at] = copyOf(event["item"]);
          return;
        }
        case "response.output_item.done":
          itemOf(event);
          output[indexOf(event["output_index"], MAX_ITEMS)] = copyOf(event["item"]);
          return;
        case "response.content_part.added":
        case "response.content_part.done": {
          const item = itemOf(event);
          const parts = Array.isArray(item["content"]) ? (item["content"] as JsonValue[]) : [];
          parts[indexOf(event["content_index"], Math.min(parts.length, MAX_PARTS - 1))] = copyOf(event["part"]);
          item["content"] = parts;
          return;
        }
        case "response.output_text.delta": {
          const part = partOf(event);
          append(part, "text", event["delta"]);
          extend(part, "logprobs", event["logprobs"]);
          return;
        }
        case "response.output_text.annotation.added":
          extend(partOf(event), "annotations", [event["annotation"] ?? null]);
          return;
        case "response.refusal.delta":
          append(partOf(event), "refusal", event["delta"]);
          return;
        case "response.reasoning_text.delta":
          append(partOf(event), "text", event["delta"]);
          return;
        case "response.function_call_arguments.delta":
          append(itemOf(event), "arguments", event["delta"]);
          return;
        case "response.completed":
        case "response.incomplete":
        case "response.failed":
          if (!isObject(event["response"])) throw malformed("the last event has no response");
          whole = event["response"];
          return;
        default:
      }
    },
    response: () => whole ?? { ...base, output: output.map(copyOf) },
  };
}

function indexOf(value: JsonValue | undefined, most: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > most)
    throw malformed("an event has no index of what it is about");
  return value;
}

// Grown in place, so neither what a frame carried nor what was given out may grow with it: the lists inside do.
function copyOf(value: JsonValue | undefined): Mutable {
  if (!isObject(value)) throw malformed("an event has no object");
  const out: Mutable = { ...value };
  for (const name of ["content", "annotations", "logprobs"]) {
    const list = out[name];
    if (!Array.isArray(list)) continue;
    out[name] = (list as readonly JsonValue[]).map((item) =>
      name === "content" && isObject(item) ? copyOf(item) : item,
    );
  }
  return out;
}

function extend(part: Mutable, name: string, more: JsonValue | undefined): void {
  if (!Array.isArray(more)) return;
  const list = Array.isArray(part[name]) ? (part[name] as JsonValue[]) : [];
  for (const item of more as readonly JsonValue[]) list.push(item);
  part[name] = list;
}
