import { isUtf8 } from "node:buffer";
import { malformed } from "./errors.ts";
import { MAX_EVENT_BYTES } from "./limits.ts";

/** One server-sent event with data. */
export type SseEvent = { readonly event?: string; readonly data: string };

export type SseReader = {
  /** The events that `chunk` completes. */
  readonly push: (chunk: Uint8Array) => readonly SseEvent[];
  /** The event that the end of the stream completes: servers leave out the last blank line. */
  readonly end: () => readonly SseEvent[];
};

const LF = 0x0a;
const CR = 0x0d;
const NOTHING: readonly SseEvent[] = [];

/**
 * Reads server-sent events (HTML Living Standard section 9.2.6) from bytes: lines end with LF or CR LF, a space after
 * the colon is optional, comments and unknown fields are passed over. Throws `upstream_malformed` for an event above
 * `maxEventBytes` and for bytes that are not UTF-8.
 */
export function createSseReader(maxEventBytes = MAX_EVENT_BYTES): SseReader {
  /** The beginning of a line whose end has not come. */
  let pieces: Uint8Array[] = [];
  let pending = 0;
  let data: string[] = [];
  let dataLength = 0;
  let event: string | undefined;
  let started = false;

  function line(bytes: Uint8Array, out: SseEvent[]): void {
    let end = bytes.length;
    if (end > 0 && bytes[end - 1] === CR) end--;
    if (end === 0) return finish(out);
    if (bytes[0] === 0x3a) return;
    if (!isUtf8(bytes)) throw malformed("a line of its stream is not UTF-8");
    let text = Buffer.from(bytes.buffer, bytes.byteOffset, end).toString("utf8");
    if (!started) {
      started = true;
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    const colon = text.indexOf(":");
    const field = colon === -1 ? text : text.slice(0, colon);
    if (field !== "data" && field !== "event") return;
    const value = colon === -1 ? "" : text.slice(text.charCodeAt(colon + 1) === 0x20 ? colon + 2 : colon + 1);
    if (field === "event") {
      event = value;
      return;
    }
    dataLength += value.length + 1;
    if (dataLength > maxEventBytes) throw tooLarge(maxEventBytes);
    data.push(value);
  }

  function finish(out: SseEvent[]): void {
    if (data.length > 0) {
      const text = data.length === 1 ? (data[0] ?? "") : data.join("\n");
      out.push(event === undefined ? { data: text } : { event, data: text });
      data = [];
      dataLength = 0;
    }
    event = undefined;
  }

  return {
    push(chunk) {
      let start = 0;
      let out: SseEvent[] | undefined;
      for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, start)) {
        out ??= [];
        const tail = chunk.subarray(start, at);
        if (pending === 0) line(tail, out);
        else {
          if (pending + tail.length > maxEventBytes) throw tooLarge(maxEventBytes);
          pieces.push(tail);
          const whole = Buffer.concat(pieces);
          pieces = [];
          pending = 0;
          line(whole, out);
        }
        start = at + 1;
      }
      if (start < chunk.length) {
        const rest = chunk.subarray(start);
        pending += rest.length;
        if (pending > maxEventBytes) throw tooLarge(maxEventBytes);
        // A small rest of a large chunk would keep the whole of it in memory.
        pieces.push(start === 0 ? rest : Uint8Array.prototype.slice.call(rest));
      }
      return out ?? NOTHING;
    },
    end() {
      const out: SseEvent[] = [];
      if (pending > 0) line(Buffer.concat(pieces), out);
      pieces = [];
      pending = 0;
      finish(out);
      return out;
    },
  };
}

function tooLarge(maxEventBytes: number): Error {
  return malformed(`an event of its stream is larger than ${maxEventBytes} bytes`);
}
