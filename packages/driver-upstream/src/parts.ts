import type { ChatMessage } from "@assay/protocol";
import { upstreamError } from "./errors.ts";

/** Bytes that stand inside a request. */
export type InlineData = { readonly mimeType: string; readonly base64: string };

/** A data URI with base64 in it (RFC 2397); undefined for any other URL. */
export function dataUri(url: string): InlineData | undefined {
  const match = /^data:([\w.+-]+\/[\w.+-]+)(?:;[\w.+=-]+)*;base64,/.exec(url.slice(0, 256));
  const mimeType = match?.[1];
  if (match === null || mimeType === undefined) return undefined;
  return { mimeType: mimeType.toLowerCase(), base64: url.slice(match[0].length) };
}

/** A file that a message carries: a data URI, or bare base64 which is then taken for a PDF as OpenAI does. */
export function fileData(file: {
  readonly file_data?: string | undefined;
  readonly file_id?: string | undefined;
}): InlineData {
  if (file.file_id !== undefined) throw contentUnsupported("a file by its id, which names a file of another account");
  if (file.file_data === undefined) throw contentUnsupported("a file without its data");
  return dataUri(file.file_data) ?? { mimeType: "application/pdf", base64: file.file_data };
}

/** Refuses a part of a message; `what` completes the sentence. */
export function contentUnsupported(what: string): Error {
  return upstreamError("content_unsupported", `The upstream cannot be given ${what}.`);
}

/** The text of a message that holds nothing else. */
export function plainText(content: string | readonly { readonly type: "text"; readonly text: string }[]): string {
  return typeof content === "string" ? content : content.map((part) => part.text).join("");
}

/**
 * Parts the system's and developer's messages at the beginning from the conversation. One that comes later is refused:
 * moved to the front it would say something else.
 */
export function splitSystem(messages: readonly ChatMessage[]): {
  readonly system: string;
  readonly conversation: readonly ChatMessage[];
} {
  const isSystem = (message: ChatMessage): boolean => message.role === "system" || message.role === "developer";
  let at = 0;
  const system: string[] = [];
  for (const message of messages) {
    if (message.role !== "system" && message.role !== "developer") break;
    system.push(plainText(message.content));
    at++;
  }
  const conversation = messages.slice(at);
  if (conversation.some(isSystem)) throw contentUnsupported("a system's message after the conversation began");
  for (const message of messages) {
    if (message.role === "function") throw contentUnsupported("a message of the older role function");
    if (message.role !== "tool" && message.name !== undefined)
      throw contentUnsupported("the name of a message's author, for which it has no place");
  }
  return { system: system.join("\n\n"), conversation };
}
