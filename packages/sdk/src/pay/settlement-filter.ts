import { bytesToUtf8, concatBytes, parseJson } from "@assay/core";
import { clientError } from "../errors.ts";
import { MAX_EVENT_BYTES } from "../limits.ts";
import { isObject } from "../text/json.ts";
import { MAX_SETTLEMENT_BYTES } from "./limits.ts";

/** Name of the event by which a stream says what was charged. */
export const SETTLEMENT_EVENT = "x402-settlement";

const LF = 10;
const CR = 13;

/**
 * An event stream without its settlement event, whose data goes to `settled`: clients of OpenAI's API take every event for
 * a piece of the answer. Other events pass in the bytes they came in. Throws `response_too_large` for an event that has no
 * end.
 */
export function settlementFilter(
  settled: (data: string) => void | Promise<void>,
): TransformStream<Uint8Array, Uint8Array> {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let lineBytes = 0;

  const flush = async (controller: TransformStreamDefaultController<Uint8Array>): Promise<void> => {
    if (held.length === 0) return;
    const event = held.length === 1 && held[0] ? held[0] : concatBytes(...held);
    held = [];
    heldBytes = 0;
    const found = event.length <= MAX_SETTLEMENT_BYTES ? settlementOf(event) : undefined;
    if (found?.isEvent !== true) controller.enqueue(event);
    if (found) await settled(found.data);
  };

  return new TransformStream<Uint8Array, Uint8Array>({
    async transform(chunk, controller) {
      let start = 0;
      for (let at = 0; at < chunk.length; at++) {
        const byte = chunk[at];
        if (byte === CR) continue;
        if (byte !== LF) {
          lineBytes++;
          continue;
        }
        // An empty line ends an event.
        if (lineBytes === 0) {
          held.push(chunk.subarray(start, at + 1));
          start = at + 1;
          await flush(controller);
        }
        lineBytes = 0;
      }
      if (start === chunk.length) return;
      held.push(chunk.slice(start));
      heldBytes += chunk.length - start;
      if (heldBytes > MAX_EVENT_BYTES) {
        throw clientError("response_too_large", `An event of the stream has more than ${MAX_EVENT_BYTES} bytes.`);
      }
    },
    flush,
  });
}

/**
 * What an event says of the settlement: all of it, or a member of the gateway's comment, where events of other names would
 * be taken for faults (the Responses API).
 */
function settlementOf(event: Uint8Array): { readonly data: string; readonly isEvent: boolean } | undefined {
  // Cheap for every other event: its first bytes are others.
  if (startsWith(event, COMMENT)) {
    const note = /^: assay (\{.*"settlement":.*\})\s*$/.exec(bytesToUtf8(event))?.[1];
    const data = note === undefined ? undefined : memberOf(note);
    return data === undefined ? undefined : { data, isEvent: false };
  }
  if (!startsWith(event, EVENT)) return undefined;
  const data: string[] = [];
  let named = false;
  for (const line of bytesToUtf8(event).split(/\r?\n/)) {
    const [field = "", ...rest] = line.split(":");
    const value = rest.join(":").replace(/^ /, "");
    if (field === "event") named = value === SETTLEMENT_EVENT;
    if (field === "data") data.push(value);
  }
  return named ? { data: data.join("\n"), isEvent: true } : undefined;
}

function memberOf(note: string): string | undefined {
  try {
    const value = parseJson(note, { maxBytes: MAX_SETTLEMENT_BYTES, maxDepth: 16 });
    return isObject(value) && isObject(value["settlement"]) ? JSON.stringify(value["settlement"]) : undefined;
  } catch {
    // Whoever reads the stream says what is wrong with the comment.
    return undefined;
  }
}

const bytesOf = (text: string): readonly number[] => Array.from(text, (letter) => letter.charCodeAt(0));
const EVENT = bytesOf("event");
const COMMENT = bytesOf(": assay ");

function startsWith(event: Uint8Array, codes: readonly number[]): boolean {
  return codes.every((code, at) => event[at] === code);
}
