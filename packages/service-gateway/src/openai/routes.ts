import type { TextDialect } from "@assay/protocol";

/** The paths of the text API and what is spoken there. */
const DIALECTS: ReadonlyMap<string, TextDialect> = new Map([
  ["/v1/chat/completions", "chat"],
  ["/v1/completions", "completions"],
  ["/v1/embeddings", "embeddings"],
  ["/v1/responses", "responses"],
]);

/** What is spoken at `path`; undefined for every path that is not the text API's. */
export function dialectAt(path: string): TextDialect | undefined {
  return DIALECTS.get(path);
}
