import type { GenerateParameters, Tool } from "@assay/protocol";

export type ParameterName = keyof GenerateParameters;

type Probe = {
  /** The parameter with a value that asks for something. */
  readonly value: GenerateParameters;
  /** What has to stand beside it in both requests that are compared. */
  readonly beside?: GenerateParameters;
  /** Tried on the completions API where the engine has it, on chat otherwise. */
  readonly kind?: "completion";
  /** Whether the outcome's parameters must name it. */
  readonly stated?: true;
};

const TOOLS: readonly Tool[] = ["weather", "clock"].map((name) => ({
  type: "function",
  function: { name, parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } },
}));

/** One probe for each parameter: the type makes a new one impossible to forget. */
export const PARAMETER_PROBES: { readonly [Name in ParameterName]-?: Probe } = {
  temperature: { value: { temperature: 0.3 }, stated: true },
  top_p: { value: { top_p: 0.5 }, stated: true },
  seed: { value: { seed: 7 }, stated: true },
  n: { value: { n: 2 }, stated: true },
  stop: { value: { stop: ["zq"] }, stated: true },
  max_tokens: { value: { max_tokens: 5 }, stated: true },
  presence_penalty: { value: { presence_penalty: 1.5 }, stated: true },
  frequency_penalty: { value: { frequency_penalty: 1.5 }, stated: true },
  logit_bias: { value: { logit_bias: { "5": -50 } }, stated: true },
  logprobs: { value: { logprobs: true }, stated: true },
  top_logprobs: { value: { top_logprobs: 2 }, beside: { logprobs: true }, stated: true },
  response_format: {
    value: {
      response_format: {
        type: "json_schema",
        json_schema: {
          name: "probe",
          schema: {
            type: "object",
            properties: { ok: { type: "boolean" } },
            required: ["ok"],
            additionalProperties: false,
          },
        },
      },
    },
    stated: true,
  },
  tools: { value: { tools: TOOLS }, stated: true },
  tool_choice: { value: { tool_choice: "required" }, beside: { tools: TOOLS }, stated: true },
  parallel_tool_calls: { value: { parallel_tool_calls: false }, beside: { tools: TOOLS }, stated: true },
  echo: { value: { echo: true }, kind: "completion", stated: true },
  suffix: { value: { suffix: " The end." }, kind: "completion" },
  best_of: { value: { best_of: 2 }, kind: "completion", stated: true },
  reasoning_effort: { value: { reasoning_effort: "low" }, stated: true },
  verbosity: { value: { verbosity: "low" }, stated: true },
  service_tier: { value: { service_tier: "default" }, stated: true },
  prediction: { value: { prediction: { type: "content", content: "The shore" } } },
  modalities: { value: { modalities: ["text", "audio"] }, stated: true },
  audio: { value: { audio: { voice: "alloy", format: "wav" } } },
  web_search: { value: { web_search: true }, stated: true },
  web_search_options: { value: { web_search_options: { search_context_size: "low" } } },
  prompt_cache_key: { value: { prompt_cache_key: "shore" } },
  prompt_cache_retention: { value: { prompt_cache_retention: "24h" }, stated: true },
  safety_identifier: { value: { safety_identifier: "someone" } },
  user: { value: { user: "someone" } },
  metadata: { value: { metadata: { purpose: "contract" } } },
  store: { value: { store: true }, stated: true },
};

export const PARAMETER_NAMES = Object.keys(PARAMETER_PROBES) as readonly ParameterName[];
