import { buildRouteMap } from "@stricli/core";
import { defineCommand } from "./command.ts";
import * as flag from "./flags.ts";
import type { GatewayFlags } from "./gateway.ts";
import { spending } from "./money-commands.ts";
import * as parse from "./parse-flags.ts";
import type { ChatFlags } from "./commands/chat.ts";
import type { ProxyFlags } from "./commands/proxy.ts";
import type { ExplainFlags, SetFlags } from "./commands/route.ts";
import type { AddFlags } from "./commands/upstream.ts";

const { one, perhaps, text, url } = flag;

const routing = {
  objective: {
    kind: "enum",
    values: ["balanced", "latency", "price", "security"],
    optional: true,
    brief: "What to weigh most among those within the limits",
  },
  mode: { kind: "enum", values: ["vanilla", "tee", "zkml"], optional: true, brief: "Security mode that must hold" },
  jurisdiction: text("places", "Countries or regions, of which one must hold: DE,FR or EU"),
  jurisdictionEvidence: {
    kind: "enum",
    values: ["declared", "registry", "attested"],
    optional: true,
    brief: "Weakest evidence of it that is good enough",
  },
  maxPrice: text("amount", "Most that the call may cost, in the listing's asset"),
  maxLatency: {
    kind: "parsed",
    parse: parse.milliseconds,
    optional: true,
    placeholder: "ms",
    brief: "Most that the first byte may take, by prediction",
  },
  family: text("name", "Family of models"),
  cpuClass: text("hex", "Class of processor"),
  valueAtRisk: text("usd", "What is at stake: decides the assurance by the operator's policy"),
} as const;

export const chat = defineCommand<ChatFlags, [string?]>({
  brief: "Ask a language model and keep the receipt",
  examples: [
    'chat "What is 17 + 25?"',
    'chat "Say hello" --model any --objective latency --jurisdiction EU --max-price 0.01',
  ],
  json: "{model, text, message, finishReason, usage, firstMs, tokensPerSecond, receiptId, payment, path, verdict}",
  flags: {
    model: {
      kind: "parsed",
      parse: String,
      default: "demo/chat",
      placeholder: "name",
      brief: "Model, name of your own (`assay route set`), or any",
    },
    system: text("text", "What the model is told first"),
    temperature: { ...text("number", "0 picks the likeliest token; higher wanders"), parse: parse.decimal },
    topP: { ...text("number", "Share of likelihood to choose from"), parse: parse.decimal },
    seed: { ...text("integer", "Makes a choice repeatable"), parse: parse.integer },
    maxTokens: { ...text("number", "Most tokens of the answer"), parse: parse.count },
    stop: {
      kind: "parsed",
      parse: String,
      optional: true,
      variadic: true,
      placeholder: "text",
      brief: "Text that ends the answer",
    },
    schema: text("file", "JSON schema that the answer has to fit"),
    tools: text("file", "JSON list of tools, in OpenAI's form"),
    ...routing,
    ...spending,
    retention: flag.retention,
    identify: flag.identify,
    ...flag.save,
    ...flag.trust,
    ...url,
  },
  aliases: { m: "model" },
  positional: perhaps("question", "Question; without one a conversation, or standard input"),
  load: async () => (await import("./commands/chat.ts")).chat,
});

export const proxy = defineCommand<ProxyFlags>({
  brief: "Let any client of OpenAI's API speak to a gateway, and verify before it hears",
  examples: ["proxy", "proxy --url https://assay.example --trust theirs.json --max-spend 0.01 --max-spend-hour 1"],
  json: "{url, gateway, verify, payer, trustFile}, then it keeps running",
  flags: {
    port: {
      kind: "parsed",
      parse: parse.port,
      optional: true,
      placeholder: "number",
      brief: "Port on this machine (8403)",
    },
    verify: {
      kind: "enum",
      values: ["before-release", "after"],
      default: "before-release",
      brief: "Before anything is let through, or streaming with the verdict at the end",
    },
    keep: { kind: "boolean", default: true, brief: "Keep receipts in this home" },
    policy: text("file", "What to demand besides: modes, modelDigest, maxAgeMs, labels, require"),
    ...routing,
    ...spending,
    ...flag.trust,
    ...url,
  },
  load: async () => (await import("./commands/proxy.ts")).proxy,
});

export const upstream = buildRouteMap({
  docs: { brief: "Language models that others serve" },
  routes: {
    add: defineCommand<AddFlags, [string]>({
      brief: "Add a provider, or any OpenAI-compatible server",
      examples: [
        "upstream add openai --key-env OPENAI_API_KEY",
        "upstream add http://localhost:11434/v1 --name ollama",
      ],
      json: "{name, kind, baseUrl, country, keyFingerprint, addedAt}",
      flags: {
        name: text("name", "How it is called here (the provider's name, or the host's)"),
        keyEnv: text("variable", "Environment variable that holds the key"),
        keyFile: text("file", "File that holds the key, - for standard input"),
        country: text("code", "Where it runs, as you declare it: two letters"),
        asset: text("name", "Asset of its prices (USD)"),
        perCall: text("amount", "Price of a call"),
        perMillionIn: text("amount", "Price of a million tokens in"),
        perMillionOut: text("amount", "Price of a million tokens out"),
        replace: {
          kind: "boolean",
          default: false,
          withNegated: false,
          brief: "Take the place of one of this name",
        },
        allowPlain: {
          kind: "boolean",
          default: false,
          withNegated: false,
          brief: "Let key and prompts travel over plain HTTP to another machine",
        },
        ...url,
      },
      positional: one("provider", "openai, anthropic, gemini, a server's address, or gguf:FILE"),
      load: async () => (await import("./commands/upstream.ts")).add,
    }),
    ls: defineCommand<GatewayFlags>({
      brief: "List them",
      examples: ["upstream ls", "upstream ls --json"],
      json: "{upstreams: [{name, kind, baseUrl, country, keyFingerprint, addedAt}]}",
      flags: { ...url },
      load: async () => (await import("./commands/upstream.ts")).list,
    }),
    rm: defineCommand<GatewayFlags, [string]>({
      brief: "Remove one and its key",
      examples: ["upstream rm openai", "upstream rm ollama --json"],
      json: "{removed}",
      flags: { ...url },
      positional: one("name", "Its name here"),
      load: async () => (await import("./commands/upstream.ts")).remove,
    }),
  },
});

export const route = buildRouteMap({
  docs: { brief: "Who answers, and the names that stand for models" },
  routes: {
    explain: defineCommand<ExplainFlags, [string?]>({
      brief: "Show candidates, limits, scores, the choice and its reason; runs nothing",
      examples: ["route explain", "route explain demo/chat --objective latency --jurisdiction EU --value-at-risk 500"],
      json: "{model, kind, contract, objective, assurance, candidates, choice, refusal}",
      flags: {
        kind: {
          kind: "enum",
          values: ["chat", "completion", "embedding"],
          default: "chat",
          brief: "What would be asked",
        },
        maxTokens: { ...text("number", "Most tokens of the answer, for its price"), parse: parse.count },
        ...routing,
        ...url,
      },
      positional: perhaps("model", "Model, name of your own, or any (any)"),
      load: async () => (await import("./commands/route.ts")).explain,
    }),
    set: defineCommand<SetFlags, [string, ...string[]]>({
      brief: "Give a name to one or more models; applications ask for the name",
      examples: ["route set support demo/chat", "route set support openai/gpt-5 demo/chat --objective price"],
      json: "{name, models, require, objective, changedAt}",
      flags: { ...routing, ...url },
      positional: {
        kind: "array",
        minimum: 2,
        parameter: { placeholder: "name", brief: "The name, then the models behind it", parse: String },
      } as never,
      load: async () => (await import("./commands/route.ts")).set,
    }),
    ls: defineCommand<GatewayFlags>({
      brief: "List the names",
      examples: ["route ls", "route ls --json"],
      json: "{contracts: [{name, models, require, objective, changedAt}]}",
      flags: { ...url },
      load: async () => (await import("./commands/route.ts")).list,
    }),
    rm: defineCommand<GatewayFlags, [string]>({
      brief: "Remove a name",
      examples: ["route rm support", "route rm support --json"],
      json: "{removed}",
      flags: { ...url },
      positional: one("name", "The name"),
      load: async () => (await import("./commands/route.ts")).remove,
    }),
  },
});
