import { AssayError, base64ToBytes, utf8ToBytes } from "@assay/core";
import { describe, expect, it } from "vitest";
import { assemble } from "./assemble.ts";
import { errorFrame, openAiError, openAiModel, openAiModelList } from "./documents.ts";
import { renderEmbeddings } from "./embeddings.ts";
import { engineRequestOf } from "./engine-request.ts";
import { parseText } from "./parse.ts";
import { parameterInvalid } from "./refuse.ts";
import { reopenText } from "./reopen.ts";
import type { OpenedText } from "./reopen.ts";

describe("errors", () => {
  const error = new AssayError("engine_overloaded", "Full.", { hints: ["Later."] });

  it("have OpenAI's shape and our code, hints and page", () => {
    expect(openAiError(error, 503)).toEqual({
      error: { message: "Full.", type: "server_error", param: null, code: "engine_overloaded" },
      code: "engine_overloaded",
      hints: ["Later."],
      docs: "/errors/engine_overloaded.md",
    });
    expect(openAiError(parameterInvalid("stop[1]", "is empty"), 400).error).toMatchObject({
      type: "invalid_request_error",
      param: "stop[1]",
    });
    expect(openAiError(new AssayError("model_not_found", "No."), 404).error).toMatchObject({
      type: "not_found_error",
      param: "model",
    });
  });

  it.each([
    [400, "invalid_request_error"],
    [401, "authentication_error"],
    [403, "permission_error"],
    [404, "not_found_error"],
    [413, "invalid_request_error"],
    [429, "rate_limit_error"],
    [500, "server_error"],
    [504, "server_error"],
  ])("of status %d are %s", (status, type) => {
    expect(openAiError(error, status).error.type).toBe(type);
  });

  it("end a stream as each API's clients expect", () => {
    expect(errorFrame("chat", error, 502)).toEqual({
      data: '{"error":{"message":"Full.","type":"server_error","param":null,"code":"engine_overloaded"}}',
    });
    const frame = errorFrame("responses", error, 502, 7);
    expect(frame.event).toBe("error");
    expect(JSON.parse(frame.data)).toMatchObject({
      type: "error",
      sequence_number: 7,
      code: "engine_overloaded",
      error: { message: "Full." },
    });
  });
});

describe("models", () => {
  it("are listed as OpenAI lists them", () => {
    const model = { id: "a/b", createdS: 5, ownedBy: "a" };
    expect(openAiModel(model)).toEqual({ id: "a/b", object: "model", created: 5, owned_by: "a" });
    expect(openAiModelList([model])).toEqual({ object: "list", data: [openAiModel(model)] });
  });
});

describe("embeddings", () => {
  const parsed = (more: Record<string, unknown> = {}) =>
    parseText("embeddings", utf8ToBytes(JSON.stringify({ model: "m", input: ["x", [1]].slice(0, 1), ...more })), {});
  const outcome = {
    vectors: [new Float32Array([0.1, -0, 2])],
    usage: { prompt_tokens: 4, completion_tokens: 0, total_tokens: 4 },
  };

  it("are lists of numbers or base64 of the same float32 values", () => {
    const body = renderEmbeddings({ receiptId: "ab", model: "m", parsed: parsed(), outcome });
    expect(JSON.parse(body)).toEqual({
      object: "list",
      data: [{ object: "embedding", index: 0, embedding: [Math.fround(0.1), 0, 2] }],
      model: "m",
      usage: { prompt_tokens: 4, total_tokens: 4 },
      assay: { receipt_id: "ab" },
    });
    expect(assemble("embeddings", [{ data: body }])).toEqual(JSON.parse(body));
    const packed = renderEmbeddings({
      receiptId: "ab",
      model: "m",
      parsed: parsed({ encoding_format: "base64" }),
      outcome,
    });
    const { data } = JSON.parse(packed) as { data: { embedding: string }[] };
    const bytes = base64ToBytes(data[0]!.embedding);
    expect([...new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 12))]).toEqual([
      Math.fround(0.1),
      -0,
      2,
    ]);
  });

  it("with a value that is no number are refused", () => {
    for (const value of [Number.NaN, Infinity, -Infinity]) {
      const vectors = [new Float32Array([0, value])];
      expect(() =>
        renderEmbeddings({ receiptId: "ab", model: "m", parsed: parsed(), outcome: { ...outcome, vectors } }),
      ).toThrow(expect.objectContaining({ code: "engine_interrupted" }));
    }
  });

  it("are asked of an engine with what the request has", () => {
    expect(engineRequestOf(parsed({ dimensions: 3, user: "u" }), { name: "e" })).toEqual({
      model: { name: "e" },
      inputs: ["x"],
      dimensions: 3,
      user: "u",
    });
  });
});

describe("reopening", () => {
  const field = (name: string, value: string) => ({ name, value: utf8ToBytes(value) });
  const opened: OpenedText = {
    kind: "chat",
    requestFields: [
      field("model", '"m"'),
      field("messages", '[{"content":"hi","role":"user"}]'),
      field("temperature", "0.70"),
      field("stream", "true"),
    ],
    responseFields: [field("assay", '{"receipt_id":"00","tokens":[[1,2],[]]}')],
    parameters: { temperature: "0.7", top_p: "0.9", seed: 5, max_tokens: 16, n: "x", stop: ["a"] },
  };

  it("gives what was asked, what was stated and what came of it", () => {
    const again = reopenText(opened);
    expect(again.parsed).toMatchObject({ dialect: "chat", model: "m", parameters: { temperature: 0.7 } });
    expect(again.effective).toEqual({ temperature: 0.7, top_p: 0.9, seed: 5, max_tokens: 16 });
    expect(again).toMatchObject({ contradicted: [], tokens: [[1, 2], []], response: { assay: { receipt_id: "00" } } });
  });

  it("tells where the receipt states another parameter than was asked for", () => {
    expect(reopenText({ ...opened, parameters: { temperature: "0.8" } })).toMatchObject({
      contradicted: ["temperature"],
      effective: { temperature: 0.7 },
    });
  });

  it("knows the API by its fields", () => {
    const model = field("model", '"m"');
    const dialect = (kind: OpenedText["kind"], ...fields: ReturnType<typeof field>[]) =>
      reopenText({ kind, requestFields: [model, ...fields], responseFields: [] }).parsed.dialect;
    expect(dialect("chat", field("input", '"x"'))).toBe("responses");
    expect(dialect("completion", field("prompt", '"x"'))).toBe("completions");
    expect(dialect("embedding", field("input", '"x"'))).toBe("embeddings");
  });

  it.each<[string, Partial<OpenedText>, string]>([
    ["a closed request", { requestFields: [] }, "opening_missing"],
    ["a request without its model", { requestFields: [field("messages", "[]")] }, "opening_missing"],
    ["another kind's request", { kind: "completion" }, "opening_missing"],
    [
      "a member within a value",
      { requestFields: [...opened.requestFields, field("user", '"u","n":2')] },
      "json_invalid",
    ],
    ["a value that is no JSON", { responseFields: [field("id", "x")] }, "json_invalid"],
    ["tokens that are texts", { responseFields: [field("assay", '{"tokens":[["1"]]}')] }, "response_malformed"],
    ["tokens below nothing", { responseFields: [field("assay", '{"tokens":[[-1]]}')] }, "response_malformed"],
    ["tokens in one list", { responseFields: [field("assay", '{"tokens":[1]}')] }, "response_malformed"],
    ["an unknown parameter", { requestFields: [...opened.requestFields, field("x", "1")] }, "parameter_unknown"],
  ])("refuses %s", (_, more, code) => {
    expect(() => reopenText({ ...opened, ...more })).toThrow(expect.objectContaining({ code }));
  });
});
