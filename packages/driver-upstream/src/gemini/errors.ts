import { isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Connection } from "../connection.ts";
import { eventError } from "../http-errors.ts";
import { MAX_DEPTH, MAX_ERROR_BYTES } from "../limits.ts";
import { objectOf } from "../read.ts";

/**
 * What the client threw, as one of ours where it is an error event of the stream: the client puts the event's document
 * into its message. Anything else is left as it is.
 */
export function geminiError(error: unknown, connection: Connection, model: string): unknown {
  if (isAssayError(error) || !(error instanceof Error) || error.name !== "ApiError") return error;
  const start = error.message.indexOf("{");
  let document: JsonValue = {};
  try {
    if (start !== -1)
      document = parseJson(error.message.slice(start), { maxBytes: MAX_ERROR_BYTES, maxDepth: MAX_DEPTH });
  } catch {
    // Without a document the status alone tells.
  }
  const said = objectOf(objectOf(document)["error"]);
  const status = "status" in error && typeof error.status === "number" ? error.status : 500;
  return eventError({ code: status, ...said }, connection.errorContext(model));
}
