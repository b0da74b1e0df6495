import { assemble } from "@assay/protocol";
import { jsonFields } from "@assay/receipts";
import type { TextFields } from "./executor.ts";

/** The fields of text requests and answers: what node, client and verifier each compute for themselves. */
export const textFields: TextFields = {
  request: (body) => jsonFields(body),
  response(dialect, stream, frames) {
    const [only] = frames;
    // The one body is committed to as it is, its numbers' lexemes included; a stream's is put together.
    if (!stream && only && frames.length === 1) return jsonFields(only.data);
    return jsonFields(JSON.stringify(assemble(dialect, frames)));
  },
};
