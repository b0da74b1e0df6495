import type { ChoiceDelta, TextFinishReason, TextUsage } from "../text/engine.ts";
import type { Frame, ParsedText, TextDialect } from "../text/execution.ts";
import { createChatRenderer } from "./render-chat.ts";
import { createCompletionRenderer } from "./render-completion.ts";
import { createResponsesRenderer } from "./render-responses.ts";

export type RenderOptions = {
  /** The receipt's id, 32 lower-case hexadecimal digits: part of the answer's id. */
  readonly receiptId: string;
  /**
   * Of a Responses answer: what its items' ids end with. Receipt ids are public, and whoever names an item by its id may
   * have its text put into a conversation, so ids hold something that only the caller was given.
   */
  readonly itemSecret?: string;
  /** Seconds since 1970. */
  readonly createdS: number;
  /** The model as answers name it: the one that ran. */
  readonly model: string;
  readonly parsed: ParsedText;
};

/** What is known when an answer has ended. */
export type RenderEnd = {
  readonly usage: TextUsage;
  /** Token ids of each choice, from engines that choose them. */
  readonly tokens?: readonly (readonly number[])[];
};

/**
 * Writes one answer in one dialect. Frames come lazily: the logical response knows exactly the frames that were taken,
 * so that an answer that broke off can be stated as far as it went. Without `stream` the steps give no frames and `end`
 * gives one, the whole body.
 */
export type TextRenderer = {
  /** The frames of one step. Throws `engine_interrupted` for a step of a choice that has ended or was not asked for. */
  readonly delta: (step: ChoiceDelta) => Iterable<Frame>;
  /** The last frames. Throws `engine_interrupted` when a choice has not ended. */
  readonly end: (end: RenderEnd) => Iterable<Frame>;
  /** The JSON text of the logical response as far as frames were taken: what `assemble` makes of them. */
  readonly body: () => string;
  /** How the answer ended: what its first choice says; undefined until its last frame was taken. */
  readonly finish: () => TextFinishReason | undefined;
};

/** Makes the renderer of a dialect. Embeddings have no steps: `renderEmbeddings` writes their body. */
export function createRenderer(dialect: Exclude<TextDialect, "embeddings">, options: RenderOptions): TextRenderer {
  switch (dialect) {
    case "chat":
      return createChatRenderer(options);
    case "completions":
      return createCompletionRenderer(options);
    case "responses":
      return createResponsesRenderer(options);
  }
}
