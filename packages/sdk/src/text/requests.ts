import type { ChatMessage, GenerateParameters, RoutingOptions, TextUsage } from "@assay/protocol";
import type { ChoiceDelta, TextFinishReason, ToolCall } from "@assay/protocol";
import type { CallOptions } from "../connection.ts";
import type { CallPayment } from "../pay/payer.ts";
import type { CheckedReceipt } from "./checker.ts";
import type { JsonObject } from "./json.ts";
import type { TextVerdict } from "./verdict.ts";

type Asked = {
  /** A model of the hub (`ns/name` or `ns/name@version`), an upstream's, a contract, or `any`. */
  readonly model: string;
  /** What is asked of the route; wins over the client's `routing`. Part of the request that the receipt commits to. */
  readonly assay?: RoutingOptions;
  /** Of a stream: whether the usage comes in a frame of its own. */
  readonly stream_options?: { readonly include_usage?: boolean };
};

type Sampling = Omit<GenerateParameters, "stop" | "echo" | "suffix" | "best_of"> & {
  readonly stop?: string | readonly string[];
};

/** A conversation, under OpenAI's names. */
export type ChatRequest = Asked &
  Sampling & {
    readonly messages: readonly ChatMessage[];
    readonly max_completion_tokens?: number;
  };

/** A text to be continued, under OpenAI's names. `logprobs` is a number here: the most likely tokens wanted of each. */
export type CompletionRequest = Asked &
  Omit<Sampling, "logprobs" | "top_logprobs"> &
  Pick<GenerateParameters, "echo" | "suffix" | "best_of"> & {
    readonly prompt: string | readonly number[];
    readonly logprobs?: number;
  };

/** Texts (or their token ids) to be made into vectors. */
export type EmbeddingRequest = Omit<Asked, "stream_options"> & {
  readonly input: string | readonly string[] | readonly number[] | readonly (readonly number[])[];
  /** Numbers wanted of each vector, when fewer than the model gives. */
  readonly dimensions?: number;
  readonly user?: string;
};

/**
 * When an answer is let through. `after`: a stream's text comes as it is made and its end waits for the verdict.
 * `before-release`: nothing comes before the verdict. `off`: the receipt is left to be checked by `receipt()`. An answer
 * that is no stream comes after its verdict, unless that is off.
 */
export type VerifyMode = "before-release" | "after" | "off";

/** What a call takes beside the request itself. */
export type TextCallOptions = CallOptions & {
  /** In place of the client's. */
  readonly verify?: VerifyMode;
  /** 8 to 64 bytes that will stand in the receipt; 16 random ones by default. The receipt must carry them. */
  readonly nonce?: Uint8Array;
  readonly retention?: "none" | "server-encrypted";
  /** Whether the caller's token is sent, so that the receipt names who asked. Default: when a token was given. */
  readonly identify?: boolean;
  /** Most that the call may cost, decimal text in the listing's asset; in place of the client's. */
  readonly maxSpend?: string;
};

/** What every answer comes with. */
export type Receipted = {
  /** 32 hexadecimal digits. */
  readonly receiptId: string;
  /** Whether the receipt was found to be `verified`. */
  readonly verified: boolean;
  /** What was paid for it; absent when it was free. */
  readonly payment?: CallPayment;
  /** What verification found; absent when it was off. */
  readonly verdict?: TextVerdict;
  /** The receipt, opened: a file that verifies anywhere. Asks again while it is not `verified`. */
  readonly receipt: (options?: CallOptions) => Promise<CheckedReceipt>;
};

export type AssistantMessage = {
  readonly role: "assistant";
  readonly content: string | null;
  readonly refusal?: string | null;
  readonly reasoning_content?: string;
  readonly tool_calls?: readonly ToolCall[];
};

export type ChatChoice = {
  readonly index: number;
  readonly message: AssistantMessage;
  readonly finishReason: TextFinishReason;
};

/** The answer of a conversation. What is said of one choice is the first one's. */
export type ChatAnswer = Receipted & {
  readonly id: string;
  /** The model that answered. */
  readonly model: string;
  /** The text; empty when the answer is tool calls alone. */
  readonly text: string;
  readonly toolCalls: readonly ToolCall[];
  readonly message: AssistantMessage;
  readonly finishReason: TextFinishReason;
  readonly choices: readonly ChatChoice[];
  readonly usage: TextUsage;
  /** The whole body as the gateway wrote it. */
  readonly body: JsonObject;
};

export type CompletionAnswer = Receipted & {
  readonly id: string;
  readonly model: string;
  readonly text: string;
  readonly finishReason: TextFinishReason;
  readonly choices: readonly {
    readonly index: number;
    readonly text: string;
    readonly finishReason: TextFinishReason;
  }[];
  readonly usage: TextUsage;
  readonly body: JsonObject;
};

export type EmbeddingAnswer = Receipted & {
  readonly model: string;
  /** One vector (float32) for each input, in order. */
  readonly vectors: readonly Float32Array[];
  readonly usage: { readonly prompt_tokens: number; readonly total_tokens: number };
};

/** One step of one choice. */
export type TextDelta = {
  /** Which of `n` answers it belongs to. */
  readonly choice: number;
  /** The text it adds; empty when it adds none. */
  readonly text: string;
  /** The step in OpenAI's shape: tool calls, refusals and the like; of a completion its text as `content`. */
  readonly delta: ChoiceDelta["delta"];
  /** Set on the last step of a choice, and on no other. */
  readonly finishReason: TextFinishReason | null;
};

/** A stream of one answer. To be read once, by a loop or by `final`. */
export type TextStream<Answer> = AsyncIterable<TextDelta> & {
  /**
   * The whole answer: reads what is left of the stream first. To be called after the loop, or in its place. Throws what
   * the loop throws.
   */
  readonly final: () => Promise<Answer>;
  /** The receipt of what was received so far, also of an answer that broke off. Throws `receipt_missing` before the first byte. */
  readonly receipt: (options?: CallOptions) => Promise<CheckedReceipt>;
};
