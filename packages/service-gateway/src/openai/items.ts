import { isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { FieldValue } from "@assay/receipts";

/** Items of recent Responses answers, so that a conversation's next turn may name them by their ids. */
export type ItemMemory = {
  /** Keeps the items of an answer, given as the fields that its receipt commits to. */
  readonly remember: (responseFields: readonly FieldValue[]) => void;
  /** The item as the answer had it; undefined when it was never here or is not kept any more. */
  readonly item: (id: string) => JsonValue | undefined;
};

/** How long an item is kept: a conversation that pauses longer sends its items itself. */
const TTL_MS = 60 * 60 * 1000;
/** Bytes of items kept together, in memory alone: some ten thousand turns. */
const MAX_BYTES = 64 * 1024 * 1024;
/** One answer of more than this is not kept; its client sends it again. */
const MAX_ANSWER_BYTES = 1024 * 1024;

type Kept = { readonly value: JsonValue; readonly bytes: number; readonly until: number };

/** An empty memory. Nothing in it reaches a disk or outlives the process. */
export function createItemMemory(now: () => number): ItemMemory {
  const items = new Map<string, Kept>();
  let bytes = 0;
  const forget = (id: string, kept: Kept): void => {
    items.delete(id);
    bytes -= kept.bytes;
  };
  return {
    remember(responseFields) {
      const output = responseFields.find(({ name }) => name === "output")?.value;
      if (!output || output.length > MAX_ANSWER_BYTES) return;
      const nowMs = now();
      // In the order in which they came: the first that is young enough ends the search.
      for (const [id, kept] of items) {
        if (kept.until > nowMs && bytes <= MAX_BYTES) break;
        forget(id, kept);
      }
      for (const value of listOf(output)) {
        const id = idOf(value);
        if (id === undefined || items.has(id)) continue;
        // Its share of the answer is not worth measuring: the answer's size bounds it.
        items.set(id, { value, bytes: output.length, until: nowMs + TTL_MS });
        bytes += output.length;
      }
    },
    item(id) {
      const kept = items.get(id);
      return kept && kept.until > now() ? kept.value : undefined;
    },
  };
}

function listOf(bytes: Uint8Array): readonly JsonValue[] {
  try {
    const value = parseJson(bytes, { maxBytes: MAX_ANSWER_BYTES, maxDepth: 96 });
    return Array.isArray(value) ? (value as readonly JsonValue[]) : [];
  } catch (error) {
    if (isAssayError(error)) return [];
    throw error;
  }
}

function idOf(value: JsonValue): string | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { id } = value as { readonly id?: JsonValue };
  return typeof id === "string" && id.length <= 512 ? id : undefined;
}
