import { engineContract } from "@assay/testkit/engine-contract";
import type { EngineSubject } from "@assay/testkit/engine-contract";
import {
  ANTHROPIC_MODEL,
  anthropicHandler,
  GEMINI_MODELS,
  geminiHandler,
  OPENAI_MODELS,
  openAiHandler,
  serveWire,
} from "@assay/testkit/upstream";
import type { WireHandler } from "@assay/testkit/upstream";
import { createUpstream } from "./index.ts";
import type { UpstreamOptions } from "./index.ts";

const MAX_RUNNING = 4;
const CHAT = [
  "temperature",
  "top_p",
  "seed",
  "n",
  "stop",
  "max_tokens",
  "presence_penalty",
  "frequency_penalty",
  "logit_bias",
  "logprobs",
  "top_logprobs",
  "response_format",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
  "reasoning_effort",
  "verbosity",
  "service_tier",
  "prediction",
  "modalities",
  "audio",
  "web_search_options",
  "prompt_cache_key",
  "prompt_cache_retention",
  "safety_identifier",
  "user",
  "metadata",
  "store",
] as const;
const COMPLETIONS = [
  "temperature",
  "top_p",
  "seed",
  "n",
  "stop",
  "max_tokens",
  "presence_penalty",
  "frequency_penalty",
  "logit_bias",
  "logprobs",
  "top_logprobs",
  "echo",
  "suffix",
  "best_of",
  "user",
] as const;

async function subject(
  handler: WireHandler,
  options: Pick<UpstreamOptions, "kind" | "apiKey" | "anthropicVersion"> & { readonly path?: string },
  rest: Omit<EngineSubject, "engine" | "maxRunning" | "lastWire" | "idle" | "close">,
): Promise<EngineSubject> {
  const server = await serveWire(handler);
  const { path, ...upstream } = options;
  const engine = createUpstream({
    name: "little",
    ...upstream,
    baseUrl: server.url + (path ?? ""),
    limits: { maxRunning: MAX_RUNNING },
    now: Date.now,
    random: Math.random,
  });
  return {
    ...rest,
    engine,
    maxRunning: MAX_RUNNING,
    lastWire: () => server.requests.at(-1)?.body,
    idle: server.idle,
    async close() {
      await engine.close();
      await server.close();
    },
  };
}

const openAiModels = {
  chat: { name: OPENAI_MODELS.chat },
  completion: { name: OPENAI_MODELS.completion },
  embedding: { name: OPENAI_MODELS.embedding },
  unknown: { name: "nobody" },
};

engineContract("openai-compatible upstream", () =>
  subject(
    openAiHandler,
    { kind: "openai-compatible", path: "/v1" },
    {
      models: openAiModels,
      applies: [...CHAT, "web_search"],
      appliesToCompletions: COMPLETIONS,
      dimensions: true,
    },
  ),
);

engineContract("openai upstream", () =>
  subject(
    openAiHandler,
    { kind: "openai", path: "/v1", apiKey: "sk-little" },
    { models: openAiModels, applies: CHAT, appliesToCompletions: COMPLETIONS, dimensions: true },
  ),
);

const anthropicApplies = [
  "stop",
  "max_tokens",
  "response_format",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
  "reasoning_effort",
  "service_tier",
  "user",
] as const;

engineContract("anthropic upstream", () =>
  subject(
    anthropicHandler,
    { kind: "anthropic", apiKey: "sk-ant-little" },
    {
      models: { chat: { name: ANTHROPIC_MODEL }, unknown: { name: "claude-nobody" } },
      applies: anthropicApplies,
      receiptOnly: ["metadata"],
    },
  ),
);

engineContract("anthropic upstream with the older version of its API", () =>
  subject(
    anthropicHandler,
    { kind: "anthropic", apiKey: "sk-ant-little", anthropicVersion: "2023-06-01" },
    {
      models: { chat: { name: ANTHROPIC_MODEL }, unknown: { name: "claude-nobody" } },
      applies: [...anthropicApplies, "temperature", "top_p"],
      receiptOnly: ["metadata"],
    },
  ),
);

engineContract("gemini upstream", () =>
  subject(
    geminiHandler,
    { kind: "gemini", apiKey: "AIzaLittle" },
    {
      models: {
        chat: { name: GEMINI_MODELS.chat },
        embedding: { name: GEMINI_MODELS.embedding },
        unknown: { name: "gemini-nobody" },
      },
      applies: [
        "temperature",
        "top_p",
        "seed",
        "n",
        "stop",
        "max_tokens",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "reasoning_effort",
        "service_tier",
        "web_search",
        "store",
      ],
      receiptOnly: ["user", "metadata"],
      dimensions: true,
    },
  ),
);
