import type { JsonValue } from "@assay/core";
import type { ChoiceDelta, EmbedRequest, GenerateRequest, Generation, ListedEngineModel } from "@assay/protocol";
import { contentOf, readAll } from "../body.ts";
import type { Connection } from "../connection.ts";
import { malformed } from "../errors.ts";
import { eventError } from "../http-errors.ts";
import { MAX_ANSWER_BYTES, MAX_MODELS } from "../limits.ts";
import { isObject, listOf, objectOf, readObject, textOf } from "../read.ts";
import { createReport } from "../report.ts";
import type { Report } from "../report.ts";
import { createSseReader } from "../sse.ts";
import { embedOutcome } from "../vectors.ts";
import type { Speaker } from "../speaker.ts";
import type { StopSignal } from "../stop.ts";
import { readDocument } from "./read.ts";
import { openAiBody } from "./request.ts";
import type { OpenAiKind } from "./request.ts";

/** Speaks OpenAI's API, to OpenAI and to the many servers that offer it. */
export function speakOpenAi(connection: Connection, kind: OpenAiKind): Speaker {
  const { limits, provider } = connection;
  const headers: Record<string, string> = {
    "content-type": "application/json",
    "accept-encoding": "identity",
    ...(connection.secret === undefined ? {} : { authorization: `Bearer ${connection.secret}` }),
  };

  /** One exchange: the answer's steps as they come. */
  async function* exchange(
    request: GenerateRequest,
    body: string,
    report: Report,
    signal: StopSignal,
  ): AsyncGenerator<readonly ChoiceDelta[]> {
    const path = request.kind === "chat" ? "/chat/completions" : "/completions";
    const answer = await connection.send({
      method: "POST",
      path: connection.root + path,
      headers: { ...headers, accept: request.stream ? "text/event-stream" : "application/json" },
      body,
      signal,
      firstByteMs: request.stream ? limits.firstByteTimeoutMs : limits.totalTimeoutMs,
      contentType: request.stream ? "text/event-stream" : "application/json",
      model: request.model.name,
      report,
    });
    if (!request.stream) {
      const document = readObject(await readAll(answer, MAX_ANSWER_BYTES), "its answer", MAX_ANSWER_BYTES);
      if (isObject(document["error"])) throw eventError(document["error"], connection.errorContext(request.model.name));
      yield readDocument(document, report);
      return;
    }
    const content = contentOf(answer, MAX_ANSWER_BYTES);
    const reader = createSseReader();
    let finished = false;
    try {
      for (;;) {
        const pending = content.read();
        const chunk = pending instanceof Promise ? await pending : pending;
        const events = chunk === undefined ? reader.end() : reader.push(chunk);
        const steps: ChoiceDelta[] = [];
        for (const { data } of events) {
          if (data === "[DONE]") {
            finished = true;
            break;
          }
          const document = readObject(data, "an event");
          if (document["error"] !== undefined && document["error"] !== null)
            throw eventError(document["error"], connection.errorContext(request.model.name));
          for (const step of readDocument(document, report)) steps.push(step);
        }
        if (steps.length > 0) yield steps;
        if (finished) return content.finish();
        if (chunk === undefined) throw malformed("its stream ended without [DONE]");
      }
    } finally {
      if (!finished) content.leave();
    }
  }

  return {
    kinds: ["chat", "completion", "embedding"],
    check(request) {
      openAiBody(request, kind, provider);
    },
    generate(request, signal): Generation {
      const report = createReport(connection.kind, connection.host);
      return connection.generate({
        request,
        signal,
        report,
        parameters: request.parameters,
        begin() {
          const body = JSON.stringify(openAiBody(request, kind, provider));
          return (stop) => exchange(request, body, report, stop);
        },
      });
    },
    async embed(request, signal) {
      const report = createReport(connection.kind, connection.host);
      const answer = await connection.send({
        method: "POST",
        path: `${connection.root}/embeddings`,
        headers: { ...headers, accept: "application/json" },
        body: JSON.stringify(embedBody(request)),
        signal,
        firstByteMs: limits.totalTimeoutMs,
        contentType: "application/json",
        model: request.model.name,
        report,
      });
      const document = readObject(await readAll(answer, MAX_ANSWER_BYTES), "its answer", MAX_ANSWER_BYTES);
      readDocument({ ...document, choices: null }, report);
      return embedOutcome(request, vectorsOf(document), report);
    },
    async models(signal): Promise<ListedEngineModel[]> {
      const document = await connection.list("/models", { ...headers, accept: "application/json" }, signal);
      return listOf(document["data"])
        .slice(0, MAX_MODELS)
        .flatMap((model) => listed(model, kind));
    },
  };
}

function embedBody(request: EmbedRequest): Record<string, JsonValue> {
  const { inputs, dimensions, user } = request;
  return {
    model: request.model.name,
    input: inputs,
    // Numbers as base64 are half the bytes and a tenth of the reading, and not every server knows them.
    encoding_format: "float",
    ...(dimensions === undefined ? {} : { dimensions }),
    ...(user === undefined ? {} : { user }),
  };
}

function vectorsOf(document: Readonly<Record<string, JsonValue>>): (readonly JsonValue[])[] {
  const rows: (readonly JsonValue[])[] = [];
  for (const [position, entry] of listOf(document["data"]).entries()) {
    const { index, embedding } = objectOf(entry);
    rows[typeof index === "number" && Number.isInteger(index) && index >= 0 && index < 4096 ? index : position] =
      listOf(embedding);
  }
  return rows;
}

function listed(value: JsonValue, kind: OpenAiKind): ListedEngineModel[] {
  const model = objectOf(value);
  const name = textOf(model["id"]);
  if (name === undefined || name.length > 256) return [];
  const context = [model["context_length"], model["max_model_len"], objectOf(model["meta"])["n_ctx_train"]].find(
    (count): count is number => typeof count === "number" && Number.isSafeInteger(count) && count > 0,
  );
  const owner = textOf(model["owned_by"])?.slice(0, 256);
  return [
    {
      name,
      kinds: kindsOf(name, kind),
      ...(context === undefined ? {} : { contextTokens: context }),
      ...(owner === undefined ? {} : { ownedBy: owner }),
    },
  ];
}

/** The list does not say what a model is for; its name does, by custom. */
function kindsOf(name: string, kind: OpenAiKind): ListedEngineModel["kinds"] {
  if (/embed|bge-|e5-|gte-/i.test(name)) return ["embedding"];
  if (kind === "openai") return /instruct|davinci|babbage/.test(name) ? ["completion"] : ["chat"];
  return ["chat", "completion"];
}
