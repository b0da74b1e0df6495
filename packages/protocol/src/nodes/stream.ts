import { AssayError } from "@assay/core";
import type { Frame } from "../text/execution.ts";

/*
 * What a node answers with: messages of one byte kind, four bytes length (big-endian) and the payload.
 *
 *   frame     flags (1 final, 2 named), [2 bytes length, event name,] data as UTF-8
 *   finished  4 bytes length of the head, the head as JSON, then tensors as they are
 *   fault     an error as JSON; after frames a `finished` that states what happened follows
 *   pulse     empty: the engine is at work and the connection stands
 */
export const MESSAGE = { frame: 1, finished: 2, fault: 3, pulse: 4 } as const;
export type MessageKind = (typeof MESSAGE)[keyof typeof MESSAGE];

/** A node says at least this often that it is alive, milliseconds; who waits for it allows several times as much. */
export const PULSE_MS = 1000;
const HEADER_BYTES = 5;
const FLAG = { final: 1, named: 2 } as const;
/** Longest name of an event; OpenAI's are below forty characters. */
const MAX_EVENT_BYTES = 256;
const KINDS: readonly number[] = Object.values(MESSAGE);

/** One message as bytes. */
export function encodeMessage(kind: MessageKind, ...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = Buffer.allocUnsafe(HEADER_BYTES + length);
  out[0] = kind;
  out.writeUInt32BE(length, 1);
  let at = HEADER_BYTES;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A frame of an answer as a message. Throws `node_answer_invalid` for an event's name past 256 bytes. */
export function encodeFrame({ event, data, final }: Frame): Uint8Array {
  const named = event === undefined ? undefined : Buffer.from(event, "utf8");
  if (named && named.length > MAX_EVENT_BYTES)
    throw new AssayError("node_answer_invalid", `An event has a name of ${named.length} bytes.`);
  const head = Buffer.alloc(1 + (named ? 2 : 0));
  head[0] = (final ? FLAG.final : 0) | (named ? FLAG.named : 0);
  if (named) head.writeUInt16BE(named.length, 1);
  return encodeMessage(MESSAGE.frame, head, ...(named ? [named] : []), Buffer.from(data, "utf8"));
}

/** The frame in a message's payload. Throws `node_answer_invalid`. */
export function decodeFrame(payload: Uint8Array): Frame {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const flags = bytes[0];
  if (flags === undefined || flags > (FLAG.final | FLAG.named)) throw malformed("has a frame with unknown flags");
  let at = 1;
  let event: string | undefined;
  if (flags & FLAG.named) {
    const length = bytes.length < 3 ? MAX_EVENT_BYTES + 1 : bytes.readUInt16BE(1);
    if (length > MAX_EVENT_BYTES || 3 + length > bytes.length) throw malformed("has a frame whose name is cut off");
    event = utf8(bytes.subarray(3, 3 + length));
    at = 3 + length;
  }
  const data = utf8(bytes.subarray(at));
  return { ...(event === undefined ? {} : { event }), data, ...(flags & FLAG.final ? { final: true as const } : {}) };
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function utf8(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw malformed("has text that is not UTF-8", cause);
  }
}

/** A message as it was read. */
export type Message = { readonly kind: MessageKind; readonly payload: Uint8Array };

/**
 * Cuts chunks of a node's answer into messages. Throws `node_answer_invalid` for an unknown kind, and for a payload
 * past its limit before anything is held of it.
 */
export async function* readMessages(
  chunks: AsyncIterable<Uint8Array>,
  limits: { readonly maxMessageBytes: number; readonly maxFinishedBytes: number },
): AsyncGenerator<Message> {
  const header = Buffer.alloc(HEADER_BYTES);
  let filled = 0;
  let payload: Uint8Array | undefined;
  let got = 0;
  for await (const chunk of chunks) {
    let at = 0;
    while (at < chunk.length) {
      if (!payload) {
        const take = Math.min(HEADER_BYTES - filled, chunk.length - at);
        header.set(chunk.subarray(at, at + take), filled);
        filled += take;
        at += take;
        if (filled < HEADER_BYTES) break;
        const length = header.readUInt32BE(1);
        if (!KINDS.includes(header[0] ?? 0)) throw malformed(`has a message of the unknown kind ${header[0]}`);
        const limit = header[0] === MESSAGE.finished ? limits.maxFinishedBytes : limits.maxMessageBytes;
        if (length > limit) throw malformed(`has a message of ${length} bytes, more than ${limit}`);
        payload = new Uint8Array(length);
        got = 0;
      }
      const take = Math.min(payload.length - got, chunk.length - at);
      payload.set(chunk.subarray(at, at + take), got);
      got += take;
      at += take;
      if (got === payload.length) {
        yield { kind: header[0] as MessageKind, payload };
        payload = undefined;
        filled = 0;
      }
    }
  }
  if (filled > 0) throw malformed("ends in the middle of a message");
}

/** A JSON head with bytes behind it: 4 bytes length, the head, the bytes. */
export function packHead(head: unknown): Uint8Array {
  const json = Buffer.from(JSON.stringify(head), "utf8");
  const out = Buffer.allocUnsafe(4 + json.length);
  out.writeUInt32BE(json.length, 0);
  json.copy(out, 4);
  return out;
}

/** Takes apart what {@link packHead} began. Throws `node_message_invalid` when the head is cut off or too long. */
export function splitHead(
  bytes: Uint8Array,
  maxHeadBytes: number,
): { readonly head: Uint8Array; readonly rest: Uint8Array } {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = view.length < 4 ? -1 : view.readUInt32BE(0);
  if (length < 0 || length > maxHeadBytes || 4 + length > view.length) {
    throw new AssayError("node_message_invalid", "The head of a message between gateway and node is cut off.");
  }
  return { head: bytes.subarray(4, 4 + length), rest: bytes.subarray(4 + length) };
}

function malformed(why: string, cause?: unknown): AssayError<"node_answer_invalid"> {
  return new AssayError("node_answer_invalid", `The node's answer ${why}.`, cause === undefined ? {} : { cause });
}
