import { pipeline, Readable } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import type { Transform } from "node:stream";
import { isAssayError } from "@assay/core";
import { malformed } from "./errors.ts";
import type { Body, TransportAnswer } from "./transport.ts";

/**
 * The body as its content: decompressed where the upstream compressed it unasked, and at most `maxBytes` long. Throws
 * `upstream_malformed` beyond that and for an encoding that is not known.
 */
export function contentOf(answer: TransportAnswer, maxBytes: number): Body {
  const encoding = headerText(answer.headers["content-encoding"], "identity");
  const plain = encoding === "identity" ? answer.body : decompressed(answer.body, encoding);
  let total = 0;
  const count = (chunk: Uint8Array | undefined): Uint8Array | undefined => {
    total += chunk?.length ?? 0;
    if (total <= maxBytes) return chunk;
    plain.leave();
    throw malformed(`it is larger than ${maxBytes} bytes`);
  };
  return {
    read() {
      const next = plain.read();
      return next instanceof Promise ? next.then(count) : count(next);
    },
    leave: plain.leave,
    finish: plain.finish,
  };
}

/** The whole body, at most `maxBytes`. */
export async function readAll(answer: TransportAnswer, maxBytes: number): Promise<Uint8Array> {
  const body = contentOf(answer, maxBytes);
  const parts: Uint8Array[] = [];
  for (let part = await body.read(); part !== undefined; part = await body.read()) parts.push(part);
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
}

/** A header's value in lower case; one that came more than once is none that could be meant. */
export function headerText(value: string | readonly string[] | undefined, otherwise: string): string {
  return typeof value === "string" ? value.toLowerCase() : value === undefined ? otherwise : value.join(", ");
}

function decompressed(body: Body, encoding: string): Body {
  const decoder = decoderOf(encoding);
  if (decoder === undefined) {
    body.leave();
    throw malformed("it is compressed in a way that was not asked for");
  }
  const source = Readable.from(pieces(body), { objectMode: false });
  // Errors of either end reach the reader through the decoder's iterator.
  pipeline(source, decoder, () => undefined);
  const reader = decoder[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  return {
    async read() {
      try {
        const next = await reader.next();
        return next.done === true ? undefined : next.value;
      } catch (error) {
        body.leave();
        throw isAssayError(error) ? error : malformed("its compression is broken", error);
      }
    },
    leave() {
      body.leave();
      decoder.destroy();
    },
    finish: body.finish,
  };
}

async function* pieces(body: Body): AsyncGenerator<Uint8Array> {
  for (let piece = await body.read(); piece !== undefined; piece = await body.read()) yield piece;
}

function decoderOf(encoding: string): Transform | undefined {
  if (encoding === "gzip" || encoding === "x-gzip") return createGunzip();
  if (encoding === "deflate") return createInflate();
  return encoding === "br" ? createBrotliDecompress() : undefined;
}
