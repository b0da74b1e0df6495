import { base64UrlToBytes, bytesToHex, utf8ToBytes } from "@assay/core";
import { nodeSuite as suite } from "@assay/driver-crypto";
import { assemble } from "@assay/protocol";
import type { TextDialect } from "@assay/protocol";
import { commitFields, jsonFields, transcriptRoot, transcriptSalt } from "@assay/receipts";
import { createTextNode } from "@assay/service-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createScriptedEngine } from "./text-engine.ts";
import { openTextServer } from "./text-server.ts";
import type { TextServer } from "./text-server.ts";

// What a caller holds after an answer is all it takes to open the receipt: its own request, what it was sent, the salt.

let server: TextServer;
beforeAll(async () => {
  const engine = createScriptedEngine();
  server = await openTextServer({
    candidates: [
      {
        name: "local",
        executor: createTextNode({ engines: () => engine, suite, now: Date.now, subject: "urn:assay:node:test" }),
      },
    ],
  });
});
afterAll(() => server.close());

const post = (path: string, body: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${server.url}${path}`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body });

/** Payloads of a stream's events, without `[DONE]`, and its comment lines. */
function eventsOf(text: string): { readonly data: string[]; readonly comments: string[] } {
  const lines = text.split("\n");
  return {
    data: lines
      .filter((line) => line.startsWith("data: "))
      .map((line) => line.slice("data: ".length))
      .filter((data) => data !== "[DONE]"),
    comments: lines.filter((line) => line.startsWith(":")),
  };
}

const chat = '"messages": [{"role":"user","content":"good d\\u0061y"}]';
const CASES: readonly (readonly [name: string, dialect: TextDialect, path: string, body: string])[] = [
  ["chat", "chat", "/v1/chat/completions", `{ "model" :"echo", ${chat}, "temperature": 0.0 }`],
  ["chat, streamed", "chat", "/v1/chat/completions", `{"model":"echo",${chat},"stream":true,"n":2}`],
  [
    "chat, streamed with usage",
    "chat",
    "/v1/chat/completions",
    `{"stream_options":{"include_usage":true},"model":"echo",${chat},"stream":true,"assay":{"objective":"price"}}`,
  ],
  ["completion", "completions", "/v1/completions", '{"model":"echo","prompt":"Once"}'],
  ["completion, streamed", "completions", "/v1/completions", '{"model":"echo","prompt":"Once","stream":true}'],
  ["embeddings", "embeddings", "/v1/embeddings", '{"model":"echo","input":["one","two"],"encoding_format":"base64"}'],
  ["responses", "responses", "/v1/responses", '{"model":"echo","input":"good day"}'],
  ["responses, streamed", "responses", "/v1/responses", '{"model":"echo","input":"good day","stream":true}'],
];

test.each(CASES)("%s", async (_, dialect, path, body) => {
  const response = await post(path, body);
  const text = await response.text();
  expect(response.status, text).toBe(200);
  const id = response.headers.get("assay-receipt-id") ?? "";
  const salt = base64UrlToBytes(response.headers.get("assay-opening") ?? "");
  const { execution, statements } = await server.logged(id);
  const streamed = response.headers.get("content-type")?.startsWith("text/event-stream") ?? false;
  const { data, comments } = streamed ? eventsOf(text) : { data: [text], comments: [] };

  const asked = commitFields(suite, salt, "request", jsonFields(body));
  expect(bytesToHex(asked.root)).toBe(bytesToHex(execution.requestRoot));
  expect(asked.count).toBe(execution.requestFields);
  const whole = assemble(
    dialect,
    data.map((one) => ({ data: one })),
  );
  const answered = commitFields(suite, salt, "response", jsonFields(JSON.stringify(whole)));
  expect(bytesToHex(answered.root)).toBe(bytesToHex(execution.responseRoot));
  expect((whole["assay"] as { readonly receipt_id: string }).receipt_id).toBe(id);

  if (!streamed) {
    expect(execution.transcript).toBeUndefined();
    return;
  }
  const root = transcriptRoot(suite, transcriptSalt(suite, salt), data.map(utf8ToBytes));
  expect(execution.transcript).toEqual({ root, frames: data.length });
  expect(comments).toEqual([
    `: assay {"receipt_id":"${id}","execution_digest":"${bytesToHex(statements[0]?.digest ?? new Uint8Array())}","log_index":${server.receipts.indexOf(id) + 2}}`,
  ]);
  expect(text.endsWith("data: [DONE]\n\n")).toBe(dialect !== "responses");
});

test("an answer that broke off opens as far as it was sent", async () => {
  const body = '{"model":"echo","messages":[{"role":"user","content":"break"}],"stream":true}';
  const response = await post("/v1/chat/completions", body);
  const { data } = eventsOf(await response.text());
  const sent = data.slice(0, -1);
  expect(sent.length).toBeGreaterThan(0);
  expect(data.at(-1)).toContain('"error"');
  const { execution } = await server.logged(response.headers.get("assay-receipt-id") ?? "");
  expect(execution.finishReason).toBe("incomplete");
  const salt = base64UrlToBytes(response.headers.get("assay-opening") ?? "");
  expect(execution.transcript).toEqual({
    root: transcriptRoot(suite, transcriptSalt(suite, salt), sent.map(utf8ToBytes)),
    frames: sent.length,
  });
});

describe("what OpenGradient's SDKs send and read", () => {
  const HEADERS = {
    authorization: `Bearer 0x${"1234567890abcdef".repeat(4)}`,
    "x-settlement-type": "batch",
    "accept-encoding": "br, gzip, deflate",
  };
  const ask = (more: string): Promise<Response> =>
    post(
      "/v1/chat/completions",
      `{"model":"gpt-x","messages":[{"role":"user","content":"good day"}],"max_tokens":100,"temperature":0.0${more}}`,
      HEADERS,
    );

  /** Their reading of a stream: a frame with a finish reason or usage is the final one, kept until `[DONE]`. */
  function read(text: string): { readonly content: string; readonly finals: readonly Record<string, unknown>[] } {
    const finals: Record<string, unknown>[] = [];
    let content = "";
    for (const line of text.split("\n")) {
      if (!line.startsWith("data: ")) continue;
      const data = line.slice(6).trim();
      if (data === "[DONE]") return { content, finals };
      const frame = JSON.parse(data) as {
        readonly choices: readonly { readonly delta: { readonly content?: string }; readonly finish_reason: unknown }[];
      };
      content += frame.choices[0]?.delta.content ?? "";
      if (frame.choices.some(({ finish_reason: reason }) => reason !== null) || "usage" in frame) finals.push(frame);
    }
    throw new Error("The stream ended without [DONE].");
  }

  test("a stream has one final frame, uncompressed", async () => {
    const response = await ask(',"stream":true');
    expect(response.headers.get("content-encoding")).toBeNull();
    const { content, finals } = read(await response.text());
    expect(content).toBe("You said: good day");
    expect(finals).toHaveLength(1);
    expect(finals[0]).toMatchObject({
      model: "gpt-x",
      choices: [{ delta: {}, index: 0, finish_reason: "stop" }],
      usage: { total_tokens: 9 },
    });
  });

  test("tools, structured output, stops and web search", async () => {
    const tools =
      ',"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"auto"';
    const choices = async (more: string): Promise<unknown> =>
      ((await (await ask(more)).json()) as { readonly choices: unknown }).choices;
    expect(await choices(tools)).toMatchObject([
      { finish_reason: "tool_calls", message: { tool_calls: [{ function: { name: "f", arguments: "{}" } }] } },
    ]);
    expect(await choices(',"response_format":{"type":"json_object"}')).toMatchObject([
      { message: { content: '{"ok":true}' } },
    ]);
    expect(await choices(',"stop":["x"],"web_search":true')).toMatchObject([{ finish_reason: "stop" }]);
  });

  test("a completion has both of its texts", async () => {
    const response = await post(
      "/v1/completions",
      '{"model":"m","prompt":"Once","max_tokens":9,"temperature":0.0}',
      HEADERS,
    );
    expect(await response.json()).toMatchObject({
      completion: "Once and so on.",
      choices: [{ text: "Once and so on.", index: 0, finish_reason: "stop" }],
    });
  });
});
