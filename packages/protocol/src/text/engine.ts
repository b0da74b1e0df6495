import type { JsonValue } from "@assay/core";
import type { ChatMessage, ResponseFormat, Tool, ToolChoice } from "./messages.ts";

/**
 * What shapes an answer, under OpenAI's names. An engine applies each one that is present or refuses the request; it
 * drops none. Absent means the engine's default, which its outcome then states.
 */
export type GenerateParameters = {
  /** From 0 to 2; 0 is greedy. */
  readonly temperature?: number;
  /** Above 0 to 1. */
  readonly top_p?: number;
  /** An integer, at most 2^53 in size. */
  readonly seed?: number;
  /** Answers wanted, 1 to 16. */
  readonly n?: number;
  /** Texts that end the answer and are not part of it. */
  readonly stop?: readonly string[];
  /** Most tokens of one choice. Both OpenAI names arrive as this one. */
  readonly max_tokens?: number;
  readonly presence_penalty?: number;
  readonly frequency_penalty?: number;
  /** Token id (decimal text) to a bias from -100 to 100. */
  readonly logit_bias?: Readonly<Record<string, number>>;
  readonly logprobs?: boolean;
  /** 0 to 20. */
  readonly top_logprobs?: number;
  readonly response_format?: ResponseFormat;
  readonly tools?: readonly Tool[];
  readonly tool_choice?: ToolChoice;
  readonly parallel_tool_calls?: boolean;
  /** For the older completions API: whether the prompt is repeated before the answer, and what follows the answer. */
  readonly echo?: boolean;
  readonly suffix?: string;
  readonly best_of?: number;
  readonly reasoning_effort?: string;
  readonly verbosity?: string;
  readonly service_tier?: string;
  readonly prediction?: JsonValue;
  readonly modalities?: readonly string[];
  readonly audio?: JsonValue;
  readonly web_search?: boolean;
  readonly web_search_options?: JsonValue;
  readonly prompt_cache_key?: string;
  readonly prompt_cache_retention?: string;
  readonly safety_identifier?: string;
  /** An opaque name of the end user, and labels; engines that cannot pass them on keep them in the receipt alone. */
  readonly user?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly store?: boolean;
};

/** A language model's files on local disk, as the hub materialised them. */
export type LanguageModelFiles = {
  /** SHA-256 of the manifest, lower-case hex. */
  readonly manifestDigest: string;
  /** Absolute path of the version's folder, and the entry relative to it. */
  readonly directory: string;
  readonly entry: string;
  /** Every file of the version by its path below the folder; engines re-hash what they load. */
  readonly files: readonly { readonly path: string; readonly sha256: string; readonly sizeBytes: number }[];
};

/** Which model an engine is to run: its own name for it and, for models of the hub, the files. */
export type EngineModel = { readonly name: string; readonly files?: LanguageModelFiles };

export type GenerateRequest = {
  readonly kind: "chat" | "completion";
  readonly model: EngineModel;
  /** For `chat`. */
  readonly messages: readonly ChatMessage[];
  /** For `completion`: one text or one list of token ids. */
  readonly prompt?: string | readonly number[];
  readonly parameters: GenerateParameters;
  /** Whether the caller reads a stream: an upstream is then asked for one too. */
  readonly stream: boolean;
};

export type TokenLogprob = {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[] | null;
  readonly top_logprobs: readonly {
    readonly token: string;
    readonly logprob: number;
    readonly bytes: readonly number[] | null;
  }[];
};

export type ToolCallDelta = {
  readonly index: number;
  readonly id?: string;
  readonly type?: "function";
  readonly function?: { readonly name?: string; readonly arguments?: string };
};

export const TEXT_FINISH_REASONS = ["stop", "length", "tool_calls", "content_filter"] as const;
export type TextFinishReason = (typeof TEXT_FINISH_REASONS)[number];

/** One step of one choice, in the shape of OpenAI's stream. Its last one, and only that, has a `finish_reason`. */
export type ChoiceDelta = {
  readonly index: number;
  readonly delta: {
    readonly content?: string;
    readonly refusal?: string;
    /** Thoughts that an upstream shows beside its answer. */
    readonly reasoning_content?: string;
    readonly tool_calls?: readonly ToolCallDelta[];
    /** Images that an upstream made: data URIs or HTTPS URLs. */
    readonly images?: readonly string[];
    readonly annotations?: JsonValue;
  };
  readonly logprobs?: {
    readonly content: readonly TokenLogprob[] | null;
    readonly refusal?: readonly TokenLogprob[] | null;
  };
  readonly finish_reason: TextFinishReason | null;
};

/** Tokens counted by the engine. `estimated` when an upstream named none and we counted what we saw. */
export type TextUsage = {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details?: { readonly cached_tokens?: number; readonly audio_tokens?: number };
  readonly completion_tokens_details?: {
    readonly reasoning_tokens?: number;
    readonly audio_tokens?: number;
    readonly accepted_prediction_tokens?: number;
    readonly rejected_prediction_tokens?: number;
  };
  readonly estimated?: boolean;
};

/** Facts of a local engine for the receipt's `runtime`; digests and classes are lower-case hex. */
export type LocalFacts = {
  readonly profile: "llm";
  readonly engine: string;
  readonly engineVersion: string;
  readonly engineSha256: string;
  readonly cpuClass: string;
  readonly threads: number;
  /** How tokens are chosen, for example `gumbel-max/1`. */
  readonly sampler: string;
  /** Largest difference of a logit between generation and re-check that counts as agreement, a decimal text. */
  readonly logitTolerance: string;
};

/** What an upstream let us see of itself; the weaker class of evidence. */
export type UpstreamFacts = {
  readonly profile: "upstream";
  /** The configured upstream's provider, for example `openai`, `anthropic`, `gemini`, `openai-compatible`. */
  readonly provider: string;
  readonly modelReported?: string;
  /** SHA-256 of the SubjectPublicKeyInfo of the TLS certificate seen, lower-case hex. */
  readonly tlsSpkiSha256?: string;
  /** For example `host`, `responseId`, `systemFingerprint`, `requestId`: texts of at most 256 characters. */
  readonly seen: Readonly<Record<string, string>>;
};

/** What is known of a generation: at any time while it runs, in full once its events have ended. */
export type EngineOutcome = {
  readonly facts: LocalFacts | UpstreamFacts;
  readonly usage: TextUsage;
  /** Parameters as applied, defaults included, by OpenAI's names; decimal fractions are texts (`"0.7"`). */
  readonly parameters: Readonly<Record<string, JsonValue>>;
  /** Token ids of each choice in order, from engines that choose them: what a re-check needs. */
  readonly tokens?: readonly (readonly number[])[];
  /** Time in the engine, milliseconds. */
  readonly engineMs: number;
  /** How the model's digest was checked; `declared` when it was not. */
  readonly modelDigest?: { readonly sha256: string; readonly scheme: "sha256-manifest" | "sha256-single" };
};

export type Generation = {
  /**
   * The answer step by step. Ends after every choice had its `finish_reason`; throws when the engine fails, which
   * leaves the answer incomplete. Leaving the loop early, or aborting, stops the compute.
   */
  readonly events: AsyncIterable<ChoiceDelta>;
  readonly outcome: () => EngineOutcome;
};

export type EmbedRequest = {
  readonly model: EngineModel;
  /** Texts, or lists of token ids. */
  readonly inputs: readonly (string | readonly number[])[];
  /** Numbers wanted of each vector, when fewer than the model gives; refused by models that do not support it. */
  readonly dimensions?: number;
  readonly user?: string;
};

export type EmbedOutcome = Omit<EngineOutcome, "tokens"> & {
  /** One vector for each input, in order. */
  readonly vectors: readonly Float32Array[];
};

/** What an engine says of a model that it serves under a name of its own (upstreams; hub models are listed by the hub). */
export type ListedEngineModel = {
  readonly name: string;
  readonly kinds: readonly ("chat" | "completion" | "embedding")[];
  readonly contextTokens?: number;
  readonly maxOutputTokens?: number;
  readonly ownedBy?: string;
};

export type EngineStats = {
  readonly running: number;
  readonly queued: number;
};

/**
 * Something that runs language models: a local runtime or an upstream. One contract suite in `testkit` holds for all.
 *
 * Codes that `check` and `generate` throw before the first event: `model_not_found`, `kind_unsupported`,
 * `parameter_unsupported` (names the parameter in its sentence and as the error's first hint), `parameter_invalid`,
 * `content_unsupported` (an image or file part), `schema_unsupported`, `context_exceeded`, `engine_overloaded` (has
 * `retryAfterMs`), `engine_unavailable`, `upstream_refused` (the upstream's 4xx, its message passed on),
 * `upstream_rate_limited`, `upstream_unauthorized`, `upstream_failed` (its 5xx), `upstream_unreachable`,
 * `upstream_timeout`, `upstream_malformed`, `model_digest_mismatch`, `model_aborted`, `request_cancelled`.
 * After the first event: `engine_interrupted` with one of those as its cause.
 */
export type LanguageEngine = {
  readonly name: string;
  readonly models: (options?: { readonly signal?: AbortSignal }) => Promise<readonly ListedEngineModel[]>;
  /** Refuses what this engine cannot apply, before anything is routed to it or paid for. Asynchronous: it may load. */
  readonly check: (request: GenerateRequest | EmbedRequest) => Promise<void>;
  readonly generate: (request: GenerateRequest, options: { readonly signal: AbortSignal }) => Generation;
  readonly embed: (request: EmbedRequest, options: { readonly signal: AbortSignal }) => Promise<EmbedOutcome>;
  readonly stats: () => EngineStats;
  readonly close: () => Promise<void>;
};
