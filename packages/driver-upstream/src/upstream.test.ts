import { createServer } from "node:https";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import {
  ANTHROPIC_MODEL,
  anthropicHandler,
  GEMINI_MODELS,
  geminiHandler,
  OPENAI_MODELS,
  openAiHandler,
  sendJson,
  serveWire,
} from "@assay/testkit/upstream";
import type { WireHandler, WireServer } from "@assay/testkit/upstream";
import type { LanguageEngine, UpstreamFacts } from "@assay/protocol";
import { afterEach, describe, expect, it } from "vitest";
import { createUpstream } from "./index.ts";
import type { UpstreamKind, UpstreamLimits, UpstreamOptions } from "./index.ts";
import { MAX_MODELS_BYTES } from "./limits.ts";
import { makeCertificate } from "./testing/certificate.ts";
import { chat, codeOf, read, SECRET, upstreamAt } from "./testing/harness.ts";

const opened: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

async function play(
  handler: WireHandler,
  options: {
    readonly kind?: UpstreamKind;
    readonly limits?: Partial<UpstreamLimits>;
    readonly now?: () => number;
  } = {},
): Promise<{ readonly engine: LanguageEngine; readonly server: WireServer }> {
  const server = await serveWire(handler);
  const engine = upstreamAt(server.url, options);
  opened.push(server.close, engine.close);
  return { engine, server };
}

const factsOf = async (engine: LanguageEngine, model: string): Promise<UpstreamFacts> =>
  (await read(engine, chat({}, true, model))).outcome.facts as UpstreamFacts;

describe("what an upstream shows of itself", () => {
  it("OpenAI's formats", async () => {
    const { engine, server } = await play(openAiHandler);
    expect(await factsOf(engine, OPENAI_MODELS.chat)).toEqual({
      profile: "upstream",
      provider: "openai-compatible",
      modelReported: OPENAI_MODELS.chat,
      seen: {
        host: new URL(server.url).host,
        requestId: "req_little_1",
        responseId: "chatcmpl-little1",
        systemFingerprint: "fp_little",
      },
    });
    expect(server.requests[0]?.headers.authorization).toBe(`Bearer ${SECRET}`);
  });

  it("Anthropic's", async () => {
    const { engine } = await play(anthropicHandler, { kind: "anthropic" });
    expect(await factsOf(engine, ANTHROPIC_MODEL)).toMatchObject({
      provider: "anthropic",
      modelReported: ANTHROPIC_MODEL,
      seen: { requestId: "req_little_2", responseId: "msg_little_1" },
    });
  });

  it("Gemini's", async () => {
    const { engine } = await play(geminiHandler, { kind: "gemini" });
    expect(await factsOf(engine, GEMINI_MODELS.chat)).toMatchObject({
      provider: "gemini",
      modelReported: "gemini-little-001",
      seen: { responseId: "resp-little-1" },
    });
  });

  it("is cut to what a receipt holds, without control characters", async () => {
    const { engine } = await play((_, response) => {
      const choices = [{ index: 0, message: { content: "a" }, finish_reason: "stop" }];
      sendJson(response, 200, { id: `a\n${"x".repeat(1000)}`, model: 5, choices });
    });
    const { outcome } = await read(engine, chat({}, false));
    const facts = outcome.facts as UpstreamFacts;
    expect(facts.seen["responseId"]).toBe(`a${"x".repeat(254)}`);
    expect(facts.modelReported).toBeUndefined();
  });
});

describe("TLS", () => {
  async function serveTls(): Promise<{ url: string; cert: string; spkiSha256: string }> {
    const made = makeCertificate();
    const server = createServer({ key: made.key, cert: made.cert }, (request, response) => {
      request.resume();
      response.writeHead(200, { "content-type": "application/json" });
      const choices = [{ index: 0, message: { content: "a" }, finish_reason: "stop" }];
      response.end(JSON.stringify({ id: "c1", choices }));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    opened.push(async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    });
    return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, ...made };
  }

  it("records the key of the certificate that the connection was made with", async () => {
    const { url, cert, spkiSha256 } = await serveTls();
    const engine = upstreamAt(url, { ca: cert });
    opened.push(engine.close);
    for (let i = 0; i < 2; i++) {
      const { outcome } = await read(engine, chat({}, false));
      expect((outcome.facts as UpstreamFacts).tlsSpkiSha256).toBe(spkiSha256);
    }
  });

  it("refuses a certificate that nobody trusts, and one that another authority signed", async () => {
    const { url } = await serveTls();
    for (const options of [{}, { ca: makeCertificate().cert }]) {
      const engine = upstreamAt(url, options);
      opened.push(engine.close);
      const { error } = await read(engine, chat({}, false));
      expect(error?.code).toBe("upstream_unreachable");
      expect(error?.hints[0]).toContain("certificate");
    }
  });

  it("has no key where there is no TLS", async () => {
    const { engine } = await play(openAiHandler);
    expect((await factsOf(engine, OPENAI_MODELS.chat)).tlsSpkiSha256).toBeUndefined();
  });
});

describe("settings that are refused", () => {
  const make = (options: Partial<UpstreamOptions>): unknown => {
    try {
      void createUpstream({
        name: "a",
        kind: "openai",
        apiKey: "k",
        now: Date.now,
        random: Math.random,
        ...options,
      }).close();
    } catch (error) {
      return error;
    }
    return undefined;
  };

  it.each([
    ["a name with a slash", { name: "a/b" }],
    ["a name in capitals", { name: "OpenAI" }],
    ["no name", { name: "" }],
    ["an address that is none", { baseUrl: "localhost" }],
    ["a file", { baseUrl: "file:///etc/passwd" }],
    ["credentials in the address", { baseUrl: "https://a:b@example.com/v1" }],
    ["a query in the address", { baseUrl: "https://example.com/v1?key=a" }],
    ["a key over plain HTTP", { baseUrl: "http://example.com/v1" }],
    [
      "a key over plain HTTP to a server of one's own",
      { kind: "openai-compatible" as const, baseUrl: "http://vllm/v1" },
    ],
    ["a key with a line break", { apiKey: "a\r\nx: y" }],
    ["an empty key", { apiKey: "" }],
    ["an address missing", { kind: "openai-compatible" as const }],
    ["a limit of nothing", { limits: { maxRunning: 0 } }],
    ["a limit that is no number", { limits: { idleTimeoutMs: Number.NaN } }],
  ])("%s", (_, options) => {
    expect(make(options)).toMatchObject({ code: "upstream_invalid" });
  });

  it.each(["anthropic", "gemini", "openai"] as const)("%s without a key", (kind) => {
    const { apiKey: _, ...rest } = { name: "a", kind, apiKey: "", now: Date.now, random: Math.random };
    expect(() => createUpstream(rest)).toThrow("needs an apiKey");
  });

  it("takes plain HTTP to this machine, and without a key to a server of one's own", () => {
    expect(make({ baseUrl: "http://127.0.0.1:1/v1" })).toBeUndefined();
    expect(make({ baseUrl: "http://[::1]:1/v1" })).toBeUndefined();
    const own = { name: "a", kind: "openai-compatible", baseUrl: "http://vllm:8000/v1" } as const;
    expect(() => createUpstream({ ...own, now: Date.now, random: Math.random })).not.toThrow();
  });
});

describe("the list of models", () => {
  it.each([
    [
      "openai-compatible",
      openAiHandler,
      [
        { name: "little-chat", kinds: ["chat", "completion"], ownedBy: "little" },
        { name: "little-instruct", kinds: ["chat", "completion"], ownedBy: "little" },
        { name: "little-embed", kinds: ["embedding"], ownedBy: "little" },
      ],
    ],
    [
      "anthropic",
      anthropicHandler,
      [{ name: ANTHROPIC_MODEL, kinds: ["chat"], contextTokens: 1000, maxOutputTokens: 500, ownedBy: "anthropic" }],
    ],
    [
      "gemini",
      geminiHandler,
      [
        { name: GEMINI_MODELS.chat, kinds: ["chat"], contextTokens: 2000, maxOutputTokens: 700, ownedBy: "google" },
        { name: GEMINI_MODELS.embedding, kinds: ["embedding"], contextTokens: 100, ownedBy: "google" },
      ],
    ],
  ] as const)("of %s", async (kind, handler, expected) => {
    const { engine } = await play(handler, { kind });
    expect(await engine.models()).toEqual(expected);
  });

  it("is asked for once while it is believed, however many ask", async () => {
    let now = 0;
    const { engine, server } = await play(openAiHandler, { now: () => now, limits: { modelsTtlMs: 1000 } });
    await Promise.all([engine.models(), engine.models(), engine.models()]);
    now = 999;
    await engine.models();
    expect(server.requests).toHaveLength(1);
    now = 1000;
    await engine.models();
    expect(server.requests).toHaveLength(2);
  });

  it("stands when a newer one cannot be had, and fails without one", async () => {
    let now = 0;
    const { engine, server } = await play(openAiHandler, { now: () => now, limits: { modelsTtlMs: 1000 } });
    const before = await engine.models();
    server.use((_, response) => sendJson(response, 500, { error: "down" }));
    now = 5000;
    expect(await engine.models()).toEqual(before);
    const other = await play((_, response) => sendJson(response, 500, { error: "down" }));
    await expect(other.engine.models()).rejects.toMatchObject({ code: "upstream_failed" });
  });

  it("has its time, and is cancelled by its caller alone", async () => {
    const { engine } = await play(() => undefined, { limits: { modelsTimeoutMs: 80 } });
    const stop = new AbortController();
    const waiting = engine.models();
    const cancelled = engine.models({ signal: stop.signal });
    stop.abort();
    await expect(cancelled).rejects.toMatchObject({ code: "request_cancelled" });
    await expect(waiting).rejects.toMatchObject({ code: "upstream_timeout" });
  });

  it("is bounded, and holds only names", async () => {
    const { engine } = await play((_, response) =>
      sendJson(response, 200, {
        data: [
          { id: 5 },
          {},
          "a",
          { id: "x".repeat(300) },
          ...Array.from({ length: 5000 }, (_, i) => ({ id: `m${i}` })),
        ],
      }),
    );
    const models = await engine.models();
    expect(models).toHaveLength(4092);
    expect(models[0]?.name).toBe("m0");
  });

  it("is refused when it is too large, or none", async () => {
    for (const body of [JSON.stringify({ data: [], padding: "x".repeat(MAX_MODELS_BYTES) }), "[]", "oops"]) {
      const { engine } = await play((_, response) => {
        response.writeHead(200, { "content-type": "application/json" });
        response.end(body);
      });
      await expect(engine.models()).rejects.toMatchObject({ code: "upstream_malformed" });
    }
  });

  it("reads the context that servers of one's own name", async () => {
    const { engine } = await play((_, response) =>
      sendJson(response, 200, {
        data: [
          { id: "a", max_model_len: 8192 },
          { id: "b", context_length: 4096 },
          { id: "c", meta: { n_ctx_train: 2048 } },
          { id: "d", context_length: -1 },
        ],
      }),
    );
    expect((await engine.models()).map((model) => model.contextTokens)).toEqual([8192, 4096, 2048, undefined]);
  });
});

describe("embeddings", () => {
  const embed = (engine: LanguageEngine, inputs: readonly (string | readonly number[])[], dimensions?: number) =>
    engine.embed(
      { model: { name: "e" }, inputs, ...(dimensions === undefined ? {} : { dimensions }) },
      { signal: new AbortController().signal },
    );

  it.each([
    ["fewer vectors than inputs", [[1, 2]]],
    ["vectors of two lengths", [[1, 2], [1]]],
    ["an empty vector", [[], []]],
    [
      "a text among the numbers",
      [
        [1, 2],
        [1, "2"],
      ],
    ],
    ["nothing", []],
    ["vectors that are too long", [Array.from({ length: 65_537 }, () => 0), Array.from({ length: 65_537 }, () => 0)]],
  ])("refuses %s", async (_, rows) => {
    const { engine } = await play((_request, response) =>
      sendJson(response, 200, { data: rows.map((embedding, index) => ({ index, embedding })), model: "e" }),
    );
    await expect(embed(engine, ["a", "b"])).rejects.toMatchObject({ code: "upstream_malformed" });
    expect(engine.stats().running).toBe(0);
  });

  it("refuses another number of dimensions than was asked for", async () => {
    const { engine } = await play((_, response) =>
      sendJson(response, 200, { data: [{ index: 0, embedding: [1, 2, 3] }], model: "e" }),
    );
    await expect(embed(engine, ["a"], 2)).rejects.toMatchObject({ code: "upstream_malformed" });
  });

  it("puts vectors in the order of their inputs, and passes token ids on", async () => {
    const { engine, server } = await play((_, response) =>
      sendJson(response, 200, {
        data: [
          { index: 1, embedding: [2] },
          { index: 0, embedding: [1] },
        ],
        model: "e",
        usage: { prompt_tokens: 4, total_tokens: 4 },
      }),
    );
    const { vectors, usage } = await embed(engine, [[1, 2], "b"]);
    expect(vectors.map((vector) => [...vector])).toEqual([[1], [2]]);
    expect(usage).toEqual({ prompt_tokens: 4, completion_tokens: 0, total_tokens: 4 });
    expect(server.requests[0]?.body).toMatchObject({ input: [[1, 2], "b"] });
  });

  it("stops when aborted", async () => {
    const { engine, server } = await play(() => undefined);
    const stop = new AbortController();
    const asked = engine.embed({ model: { name: "e" }, inputs: ["a"] }, { signal: stop.signal });
    await new Promise<void>((resolve) => {
      const look = (): void => (server.open() > 0 ? resolve() : void setImmediate(look));
      look();
    });
    stop.abort();
    await expect(asked).rejects.toMatchObject({ code: "request_cancelled" });
    await server.idle();
  });
});

describe("requests that are refused before they are sent", () => {
  it.each([
    ["a model's name with a line break", { ...chat(), model: { name: "a\nb" } }, "model_not_found"],
    ["a model's name with a way out of the path", { ...chat(), model: { name: "../x" } }, "model_not_found"],
    ["one that hides it", { ...chat(), model: { name: "a/../x" } }, "model_not_found"],
    [
      "a file by its id",
      {
        ...chat(),
        messages: [{ role: "user" as const, content: [{ type: "file" as const, file: { file_id: "f" } }] }],
      },
      "content_unsupported",
    ],
    ["a completion without a prompt", { ...chat(), kind: "completion" as const }, "parameter_invalid"],
  ])("%s", async (_, request, code) => {
    const { engine, server } = await play(openAiHandler);
    await expect(engine.check(request)).rejects.toMatchObject({ code });
    expect(codeOf(await read(engine, request))).toBe(code);
    expect(server.requests).toHaveLength(0);
  });
});
