import type { GoogleGenAI } from "@google/genai";
import type { ChoiceDelta, GenerateRequest, ListedEngineModel } from "@assay/protocol";
import type { Connection } from "../connection.ts";
import { contentUnsupported } from "../parts.ts";
import { MAX_MODELS } from "../limits.ts";
import { listOf, objectOf, textOf } from "../read.ts";
import type { JsonObject } from "../read.ts";
import { createReport } from "../report.ts";
import type { Report } from "../report.ts";
import { createSdkCall } from "../sdk-fetch.ts";
import type { SdkCall } from "../sdk-fetch.ts";
import type { Speaker } from "../speaker.ts";
import type { StopSignal } from "../stop.ts";
import { embedOutcome } from "../vectors.ts";
import { createContentReader } from "./read.ts";
import { geminiBody } from "./request.ts";
import type { GeminiBody } from "./request.ts";
import { geminiError } from "./errors.ts";

/** Models of one page, the API's own limit. */
const PAGE = 1000;

/** Speaks Gemini's API through its own client, over our transport. */
export function speakGemini(connection: Connection): Speaker {
  const { limits, provider } = connection;

  /** The client is loaded when it is first needed: a gateway without such an upstream does not pay for it. */
  async function clientFor(call: SdkCall): Promise<GoogleGenAI> {
    const { GoogleGenAI: Client } = await import("@google/genai");
    return new Client({
      apiKey: connection.secret ?? "",
      vertexai: false,
      httpOptions: { baseUrl: connection.base, fetch: call.fetch },
    });
  }

  async function* exchange(
    request: GenerateRequest,
    body: GeminiBody,
    report: Report,
    signal: StopSignal,
  ): AsyncGenerator<readonly ChoiceDelta[]> {
    const call = createSdkCall(connection, {
      signal,
      stream: request.stream,
      firstByteMs: request.stream ? limits.firstByteTimeoutMs : limits.totalTimeoutMs,
      model: request.model.name,
      report,
    });
    const read = createContentReader(request.parameters.n ?? 1, report, connection.random);
    try {
      const client = await clientFor(call);
      const asked = { model: request.model.name, ...body };
      if (!request.stream) {
        yield read((await client.models.generateContent(asked)) as unknown as JsonObject);
        return;
      }
      for await (const document of await client.models.generateContentStream(asked)) {
        const steps = read(document as unknown as JsonObject);
        if (steps.length > 0) yield steps;
      }
    } catch (error) {
      throw call.failure() ?? geminiError(error, connection, request.model.name);
    } finally {
      call.leave();
    }
  }

  return {
    kinds: ["chat", "embedding"],
    check(request) {
      geminiBody(request, provider);
    },
    generate(request, signal) {
      const report = createReport(connection.kind, connection.host);
      return connection.generate({
        request,
        signal,
        report,
        parameters: request.parameters,
        begin() {
          const body = geminiBody(request, provider);
          return (stop) => exchange(request, body, report, stop);
        },
      });
    },
    async embed(request, signal) {
      const report = createReport(connection.kind, connection.host);
      const { model, dimensions } = request;
      const call = createSdkCall(connection, {
        signal,
        stream: false,
        firstByteMs: limits.totalTimeoutMs,
        model: model.name,
        report,
      });
      try {
        const client = await clientFor(call);
        const answer = (await client.models.embedContent({
          model: model.name,
          contents: request.inputs.map((input) => ({ parts: [{ text: inputText(input) }] })),
          ...(dimensions === undefined ? {} : { config: { outputDimensionality: dimensions } }),
        })) as unknown as JsonObject;
        const rows = listOf(answer["embeddings"]).map((entry) => listOf(objectOf(entry)["values"]));
        return embedOutcome(request, rows, report);
      } catch (error) {
        throw call.failure() ?? geminiError(error, connection, model.name);
      } finally {
        call.leave();
      }
    },
    async models(signal): Promise<ListedEngineModel[]> {
      const headers = { "x-goog-api-key": connection.secret ?? "", "accept-encoding": "identity" };
      const document = await connection.list(`/v1beta/models?pageSize=${PAGE}`, headers, signal);
      return listOf(document["models"])
        .slice(0, MAX_MODELS)
        .flatMap((model) => listed(objectOf(model)));
    },
  };
}

function inputText(input: string | readonly number[]): string {
  if (typeof input === "string") return input;
  throw contentUnsupported("token ids, which are another model's");
}

function listed(model: JsonObject): ListedEngineModel[] {
  const name = textOf(model["name"])?.replace(/^models\//, "");
  if (name === undefined || name.length > 256) return [];
  const actions = listOf(model["supportedGenerationMethods"]);
  const kinds: ("chat" | "embedding")[] = [];
  if (actions.includes("generateContent")) kinds.push("chat");
  if (actions.includes("embedContent")) kinds.push("embedding");
  if (kinds.length === 0) return [];
  const { inputTokenLimit: context, outputTokenLimit: output } = model;
  return [
    {
      name,
      kinds,
      ...(typeof context === "number" ? { contextTokens: context } : {}),
      ...(typeof output === "number" ? { maxOutputTokens: output } : {}),
      ownedBy: "google",
    },
  ];
}
