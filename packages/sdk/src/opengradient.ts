import type { SecurityMode } from "@assay/protocol";

export type { ResponseFormat } from "@assay/protocol";

/**
 * OpenGradient's names for how an answer is secured, as the values that `assay: { mode }` takes. What each proves
 * stands in every verdict; a mode that no node offers is refused, never replaced by a weaker one.
 */
export const InferenceMode = { VANILLA: "vanilla", TEE: "tee", ZKML: "zkml" } as const satisfies Record<
  string,
  SecurityMode
>;
export type InferenceMode = (typeof InferenceMode)[keyof typeof InferenceMode];

/**
 * OpenGradient's names of language models, as the model names that a gateway knows them by when its operator configured
 * upstreams called `openai`, `anthropic`, `google`, `x-ai` and so on. They are names, not claims: these models run at
 * their providers, and receipts say so (`upstream`). Any other name of a model works as well.
 */
export const TEE_LLM = {
  GPT_4_1_2025_04_14: "openai/gpt-4.1-2025-04-14",
  GPT_4_1_MINI: "openai/gpt-4.1-mini",
  GPT_4_1_NANO: "openai/gpt-4.1-nano",
  O3: "openai/o3",
  O4_MINI: "openai/o4-mini",
  GPT_5: "openai/gpt-5",
  GPT_5_MINI: "openai/gpt-5-mini",
  GPT_5_2: "openai/gpt-5.2",
  GPT_5_4: "openai/gpt-5.4",
  GPT_5_4_MINI: "openai/gpt-5.4-mini",
  GPT_5_4_NANO: "openai/gpt-5.4-nano",
  GPT_5_5: "openai/gpt-5.5",
  CLAUDE_SONNET_4_5: "anthropic/claude-sonnet-4-5",
  CLAUDE_SONNET_4_6: "anthropic/claude-sonnet-4-6",
  CLAUDE_HAIKU_4_5: "anthropic/claude-haiku-4-5",
  CLAUDE_OPUS_4_5: "anthropic/claude-opus-4-5",
  CLAUDE_OPUS_4_6: "anthropic/claude-opus-4-6",
  CLAUDE_OPUS_4_7: "anthropic/claude-opus-4-7",
  CLAUDE_OPUS_4_8: "anthropic/claude-opus-4-8",
  GEMINI_2_5_FLASH: "google/gemini-2.5-flash",
  GEMINI_2_5_PRO: "google/gemini-2.5-pro",
  GEMINI_2_5_FLASH_LITE: "google/gemini-2.5-flash-lite",
  GEMINI_3_FLASH: "google/gemini-3-flash-preview",
  GEMINI_3_1_PRO_PREVIEW: "google/gemini-3.1-pro-preview",
  GEMINI_3_5_FLASH: "google/gemini-3.5-flash",
  GROK_4: "x-ai/grok-4",
  GROK_4_FAST: "x-ai/grok-4-fast",
  GROK_4_1_FAST: "x-ai/grok-4-1-fast",
  GROK_4_1_FAST_NON_REASONING: "x-ai/grok-4-1-fast-non-reasoning",
  HERMES_4_405B: "nous/hermes-4-405b",
  HERMES_4_70B: "nous/hermes-4-70b",
} as const;
export type TEE_LLM = (typeof TEE_LLM)[keyof typeof TEE_LLM];
