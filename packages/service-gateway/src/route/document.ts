import { AssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";

/** Where a small document is kept. `write` replaces it at once: a crash leaves the old one or the new one. */
export type DocumentFile = {
  /** Undefined when it was never written. */
  readonly read: () => Promise<Uint8Array | undefined>;
  readonly write: (bytes: Uint8Array) => Promise<void>;
};

/** A document in memory that follows its file: what was written is what is read. */
export type Document<Value> = {
  readonly get: () => Value;
  /** Replaces the value by `change` of it, once it is on disk; changes are made one after the other. */
  readonly update: (change: (value: Value) => Value) => Promise<Value>;
};

/** Largest document, bytes: a thousand contracts or upstreams with their prices are far below. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

/**
 * Opens a document. `decode` turns what was parsed into a value or throws; a file that cannot be read as one is refused
 * with `route_document_invalid`, because starting with an empty list would silently drop what an operator set up.
 */
export async function openDocument<Value extends object>(
  file: DocumentFile,
  what: string,
  decode: (json: JsonValue) => Value,
  initial: Value,
): Promise<Document<Value>> {
  let value = initial;
  const bytes = await file.read();
  if (bytes !== undefined) {
    try {
      value = decode(parseJson(bytes, { maxBytes: MAX_DOCUMENT_BYTES }));
    } catch (cause) {
      throw new AssayError("route_document_invalid", `The stored ${what} cannot be read.`, {
        hints: ["Restore the file from a copy, or move it away to start without it."],
        cause,
      });
    }
  }
  let last: Promise<unknown> = Promise.resolve();
  return {
    get: () => value,
    update(change) {
      const next = last.then(async () => {
        const changed = change(value);
        const encoded = new TextEncoder().encode(`${JSON.stringify(changed, undefined, 2)}\n`);
        if (encoded.length > MAX_DOCUMENT_BYTES)
          throw new AssayError("request_too_large", `The ${what} would be larger than ${MAX_DOCUMENT_BYTES} bytes.`);
        await file.write(encoded);
        value = changed;
        return changed;
      });
      last = next.catch(() => undefined);
      return next;
    },
  };
}
