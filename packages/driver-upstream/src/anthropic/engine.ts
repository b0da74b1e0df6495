import type Anthropic from "@anthropic-ai/sdk";
import type { ChoiceDelta, GenerateRequest, ListedEngineModel } from "@assay/protocol";
import type { Connection } from "../connection.ts";
import { malformed } from "../errors.ts";
import { eventError } from "../http-errors.ts";
import { MAX_MODELS } from "../limits.ts";
import { isObject, listOf, objectOf, textOf } from "../read.ts";
import type { JsonObject } from "../read.ts";
import { createReport } from "../report.ts";
import type { Report } from "../report.ts";
import { createSdkCall } from "../sdk-fetch.ts";
import type { SdkCall } from "../sdk-fetch.ts";
import type { Speaker } from "../speaker.ts";
import type { StopSignal } from "../stop.ts";
import { createMessageReader, readMessage } from "./read.ts";
import { anthropicBody, DEFAULT_MAX_TOKENS } from "./request.ts";
import type { AnthropicBody } from "./request.ts";

/** Models of one page; there are a few dozen. */
const PAGE = 1000;

/** Speaks Anthropic's messages API through its own client, over our transport. */
export function speakAnthropic(connection: Connection, version?: "2023-06-01"): Speaker {
  const { limits, provider } = connection;
  const sampling = version === "2023-06-01";

  /** The client is loaded when it is first needed: a gateway without such an upstream does not pay for it. */
  async function clientFor(call: SdkCall): Promise<Anthropic> {
    const { Anthropic: Client } = await import("@anthropic-ai/sdk");
    return new Client({
      apiKey: connection.secret ?? null,
      authToken: null,
      webhookKey: null,
      baseURL: connection.base,
      fetch: call.fetch,
      maxRetries: 0,
      // Its own timer would cut what ours allows.
      timeout: limits.totalTimeoutMs * 2,
      logLevel: "off",
      // Versions before October 2026 have a header of their own for the key.
      ...(version === undefined
        ? {}
        : { defaultHeaders: { "anthropic-version": version, "x-api-key": connection.secret } }),
    });
  }

  async function* exchange(
    request: GenerateRequest,
    body: AnthropicBody,
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
    try {
      const client = await clientFor(call);
      if (!request.stream) {
        const message: unknown = await client.messages.create(body);
        if (!isObject(message as JsonObject)) throw malformed("its answer is not a JSON object");
        yield readMessage(message as JsonObject, report);
        return;
      }
      const reader = createMessageReader(report);
      for await (const event of await client.messages.create({ ...body, stream: true })) {
        if (!isObject(event as unknown as JsonObject)) throw malformed("an event is not a JSON object");
        const steps = reader.event(event as unknown as JsonObject);
        if (steps.length > 0) yield steps;
      }
      const failure = call.failure();
      if (failure !== undefined) throw failure;
      reader.end();
    } catch (error) {
      throw call.failure() ?? sdkError(error, connection, request.model.name);
    } finally {
      call.leave();
    }
  }

  return {
    kinds: ["chat"],
    check(request) {
      anthropicBody(request, provider, sampling);
    },
    generate(request, signal) {
      const report = createReport(connection.kind, connection.host);
      return connection.generate({
        request,
        signal,
        report,
        parameters: { ...request.parameters, max_tokens: request.parameters.max_tokens ?? DEFAULT_MAX_TOKENS },
        begin() {
          const body = anthropicBody(request, provider, sampling);
          return (stop) => exchange(request, body, report, stop);
        },
      });
    },
    embed() {
      throw new Error("Anthropic has no embeddings, and its kinds say so.");
    },
    async models(signal): Promise<ListedEngineModel[]> {
      const report = createReport(connection.kind, connection.host);
      const call = createSdkCall(connection, { signal, stream: false, firstByteMs: limits.modelsTimeoutMs, report });
      try {
        const client = await clientFor(call);
        const page = await client.models.list({ limit: PAGE });
        return listOf(page.data as never)
          .slice(0, MAX_MODELS)
          .flatMap((model) => listed(objectOf(model)));
      } catch (error) {
        throw call.failure() ?? sdkError(error, connection);
      } finally {
        call.leave();
      }
    },
  };
}

function listed(model: JsonObject): ListedEngineModel[] {
  const name = textOf(model["id"]);
  if (name === undefined || name.length > 256) return [];
  const context = model["max_input_tokens"];
  const output = model["max_tokens"];
  return [
    {
      name,
      kinds: ["chat"],
      ...(typeof context === "number" ? { contextTokens: context } : {}),
      ...(typeof output === "number" ? { maxOutputTokens: output } : {}),
      ownedBy: "anthropic",
    },
  ];
}

/** An error event of the stream, which the client throws with its document; anything else is left as it is. */
function sdkError(error: unknown, connection: Connection, model?: string): unknown {
  if (typeof error !== "object" || error === null || !("error" in error)) return error;
  const document = error.error as JsonObject | undefined;
  return isObject(document) ? eventError(document["error"] ?? document, connection.errorContext(model)) : error;
}
