import type { ServerResponse } from "node:http";
import type { JsonValue } from "@assay/core";
import { LITTLE_DEFAULTS, littleAnswer } from "./little-chat.ts";
import type { LittleChat } from "./little-chat.ts";
import { littleVector } from "./little-model.ts";
import type { LittleToken } from "./little-model.ts";
import { listOf, numberOf, objectOf, textOf, unknownMember } from "./wire-read.ts";
import { sendJson, writeOn } from "./wire-server.ts";
import type { WireHandler, WireRequest } from "./wire-server.ts";

/** Models that the fake serves. */
export const GEMINI_MODELS = { chat: "gemini-little", embedding: "gemini-little-embedding" } as const;

const MEMBERS =
  "contents systemInstruction generationConfig tools toolConfig safetySettings serviceTier store labels cachedContent".split(
    " ",
  );
const CONFIG_MEMBERS =
  "temperature topP topK candidateCount maxOutputTokens stopSequences responseLogprobs logprobs presencePenalty frequencyPenalty seed responseMimeType responseSchema responseJsonSchema responseModalities thinkingConfig".split(
    " ",
  );
const FINISH = { stop: "STOP", length: "MAX_TOKENS", tool_calls: "STOP" } as const;
const DIMENSIONS = 16;

/** Serves generateContent, its stream, embeddings and models in Gemini's formats, answered by the little model. */
export const geminiHandler: WireHandler = async (request, response) => {
  const [path = "", query = ""] = request.path.split("?");
  if (request.headers["x-goog-api-key"] === undefined)
    return refuse(response, 403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers");
  if (path === "/v1beta/models") {
    return sendJson(response, 200, {
      models: [
        {
          name: `models/${GEMINI_MODELS.chat}`,
          inputTokenLimit: 2000,
          outputTokenLimit: 700,
          supportedGenerationMethods: ["generateContent", "countTokens"],
        },
        {
          name: `models/${GEMINI_MODELS.embedding}`,
          inputTokenLimit: 100,
          supportedGenerationMethods: ["embedContent"],
        },
      ],
    });
  }
  const match = /^\/v1beta\/models\/([\w.-]+):(\w+)$/.exec(path);
  const [, model, method] = match ?? [];
  if (model === GEMINI_MODELS.embedding && method === "batchEmbedContents") return embed(request, response);
  if (model !== GEMINI_MODELS.chat)
    return refuse(response, 404, "NOT_FOUND", `models/${model} is not found for API version v1beta`);
  if (method === "generateContent") return generate(request, response, false);
  if (method === "streamGenerateContent" && query === "alt=sse") return generate(request, response, true);
  return refuse(response, 404, "NOT_FOUND", `no method ${method}`);
};

async function generate(request: WireRequest, response: ServerResponse, stream: boolean): Promise<void> {
  const body = objectOf(request.body);
  const config = objectOf(body["generationConfig"]);
  const fault = unknownMember(body, MEMBERS) ?? unknownMember(config, CONFIG_MEMBERS);
  if (fault !== undefined)
    return refuse(response, 400, "INVALID_ARGUMENT", `Invalid JSON payload received. Unknown name "${fault}"`);
  const calling = objectOf(objectOf(body["toolConfig"])["functionCallingConfig"]);
  const names = listOf(calling["allowedFunctionNames"]).map(textOf);
  const chat: LittleChat = {
    ...LITTLE_DEFAULTS,
    prompt: JSON.stringify([body["systemInstruction"] ?? null, body["contents"] ?? null]),
    n: numberOf(config["candidateCount"], 1),
    seed: numberOf(config["seed"], 0),
    temperature: numberOf(config["temperature"], 1),
    topP: numberOf(config["topP"], 1),
    maxTokens: numberOf(config["maxOutputTokens"], Number.POSITIVE_INFINITY),
    stop: listOf(config["stopSequences"]).map(textOf),
    presencePenalty: numberOf(config["presencePenalty"], 0),
    frequencyPenalty: numberOf(config["frequencyPenalty"], 0),
    tools: listOf(body["tools"]).flatMap((tool) =>
      listOf(objectOf(tool)["functionDeclarations"]).map((declaration) => ({
        name: textOf(objectOf(declaration)["name"]),
        schema: objectOf(declaration)["parametersJsonSchema"],
      })),
    ),
    toolChoice:
      calling["mode"] === "NONE"
        ? "none"
        : calling["mode"] === "ANY"
          ? names[0] === undefined
            ? "required"
            : { name: names[0] }
          : "auto",
    format:
      config["responseMimeType"] === "application/json"
        ? config["responseJsonSchema"] === undefined
          ? { type: "json" }
          : { type: "json", schema: config["responseJsonSchema"] }
        : { type: "text" },
  };
  const answer = littleAnswer(chat);
  const base = { modelVersion: `${GEMINI_MODELS.chat}-001`, responseId: "resp-little-1" };
  const withLogprobs = config["responseLogprobs"] === true;
  const top = numberOf(config["logprobs"], 0);
  let output = 0;
  const usage = (): JsonValue => ({
    promptTokenCount: answer.promptTokens,
    candidatesTokenCount: output,
    totalTokenCount: answer.promptTokens + output,
  });
  const logprobs = (tokens: readonly LittleToken[]): { readonly [key: string]: JsonValue } =>
    withLogprobs ? { logprobsResult: logprobsOf(tokens, top) } : {};

  if (!stream) {
    const candidates = answer.choices.map((choice, index) => {
      const tokens = [...choice.tokens];
      output += tokens.length + choice.calls.length * 8;
      const parts: JsonValue[] = choice.calls.map((call) => ({ functionCall: { name: call.name, args: call.input } }));
      if (tokens.length > 0) parts.push({ text: tokens.map((token) => token.text).join("") });
      return { index, content: { role: "model", parts }, finishReason: FINISH[choice.finish], ...logprobs(tokens) };
    });
    return sendJson(response, 200, { ...base, candidates, usageMetadata: usage() });
  }

  response.writeHead(200, { "content-type": "text/event-stream" });
  const frame = (candidate: JsonValue): Promise<boolean> =>
    writeOn(response, `data: ${JSON.stringify({ ...base, candidates: [candidate], usageMetadata: usage() })}\r\n\r\n`);
  for (const [index, choice] of answer.choices.entries()) {
    for (const token of choice.tokens) {
      output++;
      const content = { role: "model", parts: [{ text: token.text }] };
      if (!(await frame({ index, content, ...logprobs([token]) }))) return;
    }
    for (const call of choice.calls) {
      output += 8;
      const content = { role: "model", parts: [{ functionCall: { name: call.name, args: call.input } }] };
      await frame({ index, content });
    }
    await frame({ index, content: { role: "model", parts: [{ text: "" }] }, finishReason: FINISH[choice.finish] });
  }
  response.end();
}

function embed(request: WireRequest, response: ServerResponse): void {
  const embeddings = listOf(objectOf(request.body)["requests"]).map((entry) => {
    const { content, outputDimensionality } = objectOf(entry);
    const text = listOf(objectOf(content)["parts"])
      .map((part) => textOf(objectOf(part)["text"]))
      .join("");
    return { values: littleVector(text, DIMENSIONS).slice(0, numberOf(outputDimensionality, DIMENSIONS)) };
  });
  sendJson(response, 200, { embeddings });
}

function logprobsOf(tokens: readonly LittleToken[], top: number): JsonValue {
  return {
    chosenCandidates: tokens.map((token) => ({ token: token.text, tokenId: 1, logProbability: token.logprob })),
    topCandidates: tokens.map((token) => ({
      candidates: token.top
        .slice(0, top)
        .map((other) => ({ token: other.text, tokenId: 1, logProbability: other.logprob })),
    })),
  };
}

function refuse(response: ServerResponse, code: number, status: string, message: string): void {
  sendJson(response, code, { error: { code, message, status } });
}
