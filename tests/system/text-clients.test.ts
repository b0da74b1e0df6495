import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assay, assayJson, makeHome, needed, root, runProgram, startGateway } from "./harness.ts";
import type { Gateway, Home } from "./harness.ts";

// Clients in Python that others wrote, unchanged, before the program as it is started. What the model says is its own
// affair: what is compared is one way of asking with another, and forms with what was asked for.

type Refusal = { readonly status: number; readonly code: string; readonly type: string; readonly param: string | null };
type Call = { readonly name: string; readonly arguments: string };
type Usage = { readonly prompt_tokens: number; readonly completion_tokens: number; readonly total_tokens: number };
type Told = {
  readonly openai: {
    readonly receiptId: string;
    readonly grant: string;
    readonly id: string;
    readonly text: string;
    readonly finish: string;
    readonly usage: Usage;
    readonly streamed: string;
    readonly streamUsage: Usage | null;
    readonly streamFinish: readonly string[];
    readonly json: string;
    readonly tool: readonly Call[];
    readonly toolFinish: string;
    readonly streamedTool: readonly [string, string];
    readonly completion: string;
    readonly response: string;
    readonly responseStatus: string;
    readonly events: readonly string[];
    readonly vectors: readonly number[];
    readonly sameVector: boolean;
    readonly models: readonly string[];
    readonly refused: Readonly<Record<"unknown_model" | "unsupported" | "invalid", Refusal | null>>;
  };
  readonly opengradient: {
    readonly chat: { readonly role: string; readonly content: string };
    readonly finish: string;
    readonly usage: Usage;
    readonly toolFinish: string;
    readonly toolCalls: readonly { readonly function: Call }[];
    readonly json: string;
    readonly streamed: string;
    readonly finals: number;
    readonly finalUsage: boolean;
    readonly wrapped: number;
    readonly wrappedFinish: string;
    readonly completion: string;
    readonly unknown: string | null;
  };
  readonly langchain: { readonly text: string; readonly streamed: string; readonly toolCalls: number };
};
type ChatJson = { readonly path: string; readonly verdict: { readonly status: string } };

let home: Home;
let gateway: Gateway;
let told: Told;
let python: string;

beforeAll(async () => {
  python = needed("ASSAY_SYSTEM_PYTHON");
  home = makeHome({ ASSAY_LLAMA_DIRECTORY: needed("ASSAY_LLAMA_DIRECTORY") });
  gateway = await startGateway(home);
  // OpenGradient's names for models are names of the operator's own here.
  assayJson(home, "route", "set", "gpt-5-mini", "demo/chat");
  const script = join(root, "tests/system/text_clients.py");
  const ran = runProgram(needed("ASSAY_TEXT_PYTHON"), [script, gateway.url, "demo/chat", "demo/embed"]);
  if (ran.code !== 0) throw new Error(ran.stderr);
  told = JSON.parse(ran.stdout) as Told;
});
afterAll(async () => {
  await gateway.stop();
  home.remove();
});

describe("OpenAI's Python client", () => {
  it("gets the same answer whole and streamed, with its usage", () => {
    const { text, streamed, finish, streamFinish, usage, streamUsage } = told.openai;
    expect([streamed, streamFinish]).toEqual([text, [finish]]);
    expect(usage.total_tokens).toBe(usage.prompt_tokens + usage.completion_tokens);
    expect(streamUsage?.completion_tokens).toBe(usage.completion_tokens);
  });

  it("gets JSON of its schema, and calls of its tool", () => {
    expect(JSON.parse(told.openai.json)).toEqual({ answer: expect.any(Number) as number });
    const [call, ...more] = told.openai.tool;
    expect([call?.name, more, told.openai.toolFinish]).toEqual(["get_weather", [], "tool_calls"]);
    expect(JSON.parse(call?.arguments ?? "")).toEqual({ city: expect.any(String) as string });
    expect(told.openai.streamedTool).toEqual([call?.name, call?.arguments]);
  });

  it("reads completions, responses with their events, vectors and the list of models", () => {
    const { completion, response, text, responseStatus, events, vectors, sameVector, models } = told.openai;
    expect(typeof completion).toBe("string");
    // The same question by another API is the same prompt.
    expect([response, ["completed", "incomplete"].includes(responseStatus)]).toEqual([text, true]);
    expect([events[0], events.at(-1)?.replace("incomplete", "completed")]).toEqual([
      "response.created",
      "response.completed",
    ]);
    expect([vectors.length, vectors[0], sameVector]).toEqual([2, vectors[1], true]);
    expect(models).toEqual(expect.arrayContaining(["demo/chat", "demo/embed", "gpt-5-mini"]));
  });

  it("reads refusals with status, code and parameter", () => {
    expect(told.openai.refused).toMatchObject({
      unknown_model: { status: 404, code: "model_not_found", param: "model" },
      unsupported: { status: 400, code: "parameter_unsupported", param: "reasoning_effort" },
      invalid: { status: 400, code: "parameter_invalid", param: "temperature" },
    });
  });

  it("was given a receipt that both verifiers find true", async () => {
    const { receiptId, grant, id } = told.openai;
    expect(id).toBe(`chatcmpl-${receiptId}`);
    const response = await fetch(`${gateway.url}/v1/receipts/${receiptId}/bundle?waitMs=5000`, {
      headers: { "assay-grant": grant },
    });
    const [receipt, trust] = [join(home.path, "theirs.receipt"), join(home.path, "their-trust.json")];
    writeFileSync(receipt, new Uint8Array(await response.arrayBuffer()));
    writeFileSync(trust, assay(home, "trust", "export").stdout);
    const options = [receipt, "--trust", trust, "--json"];
    const verifiers = [
      assay(home, "verify", ...options),
      runProgram(python, [join(root, "sdk-python/assay_verify.py"), ...options]),
    ];
    for (const { code, stdout, stderr } of verifiers)
      expect([code, JSON.parse(stdout)], stderr).toMatchObject([0, { status: "verified" }]);
  });
});

describe("OpenGradient's Python SDK, by a name of its own for the model", () => {
  it("gets the answer that OpenAI's client gets, whole and streamed with one final chunk", () => {
    const { chat, streamed, finals, finalUsage, usage, finish } = told.opengradient;
    expect([chat.role, chat.content, finish]).toEqual(["assistant", told.openai.text, told.openai.finish]);
    expect([streamed, finals, finalUsage]).toEqual([chat.content, 1, true]);
    expect(usage.completion_tokens).toBe(told.openai.usage.completion_tokens);
  });

  it("gets tools, also where it wraps them as a stream, JSON of its schema, and completions", () => {
    const { toolFinish, toolCalls, wrapped, wrappedFinish, json, completion } = told.opengradient;
    expect([wrapped, wrappedFinish]).toEqual([1, toolFinish]);
    expect(toolCalls.length > 0).toBe(toolFinish === "tool_calls");
    for (const call of toolCalls) expect(call.function.name).toBe("get_weather");
    expect(JSON.parse(json)).toEqual({ answer: expect.any(Number) as number });
    expect(completion).toBe(told.openai.completion);
  });

  it("is told of a model that is not there", () => {
    expect(told.opengradient.unknown).toContain("HTTP 404");
    expect(told.opengradient.unknown).toContain("model_not_found");
  });

  it("carries LangChain's models: asked, streamed and with tools", () => {
    const { text, streamed, toolCalls } = told.langchain;
    expect([text, streamed]).toEqual([told.openai.text, told.openai.text]);
    expect(toolCalls).toBeGreaterThanOrEqual(0);
  });
});

describe("the program itself", () => {
  it("asks, keeps, verifies and checks again; the second model is llama.cpp's", () => {
    const chat = assayJson(home, "chat", "What is 17 + 25?", "--temperature", "1", "--seed", "3") as ChatJson;
    expect(chat.verdict.status).toBe("verified");
    const again = assay(home, "verify", chat.path, "--reexecute");
    expect([again.code, again.stdout.includes("are this model's")], again.stderr).toEqual([0, true]);

    assayJson(home, "upstream", "add", `gguf:${join(root, "models/chat/chat.gguf")}`, "--name", "gguf");
    const other = assayJson(home, "chat", "What is 17 + 25?", "--model", "gguf/chat", "--max-tokens", "12") as ChatJson;
    expect(other.verdict.status).toBe("verified");
    const shown = assay(home, "receipt", "show", other.path);
    expect(shown.stdout).toContain("llama.cpp");
    const refused = assay(home, "verify", other.path, "--reexecute");
    expect([refused.code, refused.stderr.includes("reexecution_impossible")], refused.stderr).toEqual([1, true]);
    expect(readFileSync(other.path).length).toBeGreaterThan(0);
  });
});
