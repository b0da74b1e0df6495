import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { retryAfterOf } from "@assay/protocol";
import type { LanguageEngine } from "@assay/protocol";
import { drained, sendJson, serveWire } from "@assay/testkit/upstream";
import type { WireHandler, WireServer } from "@assay/testkit/upstream";
import { afterEach, describe, expect, it } from "vitest";
import type { UpstreamKind, UpstreamLimits } from "./index.ts";
import { MAX_ANSWER_BYTES, MAX_EVENT_BYTES, MAX_MESSAGE } from "./limits.ts";
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

const SSE = { "content-type": "text/event-stream" };
const step = (delta: unknown, reason: string | null = null, index = 0): string =>
  `data: ${JSON.stringify({ id: "c1", model: "m-1", choices: [{ index, delta, finish_reason: reason }] })}\n\n`;
const word = (content: string, index = 0): string => step({ content }, null, index);
const END = step({}, "stop");
const USAGE = (usage: unknown): string => `data: ${JSON.stringify({ choices: [], usage })}\n\n`;
const DONE = "data: [DONE]\n\n";
const GOOD_USAGE = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };

function stream(response: ServerResponse, ...parts: readonly (string | Uint8Array)[]): void {
  response.writeHead(200, SSE);
  for (const part of parts) response.write(part);
}
const whole =
  (...parts: readonly (string | Uint8Array)[]): WireHandler =>
  (_, response) => {
    stream(response, ...parts);
    response.end();
  };
const document = (usage: unknown = GOOD_USAGE, content = "hi"): Record<string, unknown> => ({
  id: "c1",
  model: "m-1",
  choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }],
  usage,
});

describe("silence", () => {
  it("before the head of the answer", async () => {
    const { engine, server } = await play(() => undefined, { limits: { firstByteTimeoutMs: 60 } });
    expect(codeOf(await read(engine, chat()))).toBe("upstream_timeout");
    await server.idle();
  });

  it("between the head and the first byte", async () => {
    const { engine, server } = await play((_, response) => response.writeHead(200, SSE).flushHeaders(), {
      limits: { firstByteTimeoutMs: 60 },
    });
    expect(codeOf(await read(engine, chat()))).toBe("upstream_timeout");
    await server.idle();
  });

  it("in the middle of a stream", async () => {
    const { engine, server } = await play((_, response) => stream(response, word("a")), {
      limits: { idleTimeoutMs: 100 },
    });
    const result = await read(engine, chat());
    expect(codeOf(result)).toBe("engine_interrupted/upstream_timeout");
    expect(result.text).toBe("a");
    await server.idle();
  });

  it("of content behind a stream of comments, at the end of all patience", async () => {
    const { engine, server } = await play(
      (_, response) => {
        stream(response, word("a"));
        const beat = setInterval(() => response.write(": still here\n\n"), 10);
        response.once("close", () => clearInterval(beat));
      },
      { limits: { idleTimeoutMs: 5000, totalTimeoutMs: 150 } },
    );
    expect(codeOf(await read(engine, chat()))).toBe("engine_interrupted/upstream_timeout");
    await server.idle();
    expect(engine.stats().running).toBe(0);
  });

  it("of an answer without a stream", async () => {
    const { engine } = await play(() => undefined, { limits: { totalTimeoutMs: 60 } });
    expect(codeOf(await read(engine, chat({}, false)))).toBe("upstream_timeout");
  });
});

describe("an answer that breaks off never looks complete", () => {
  it.each([
    ["after its first word", [word("a")]],
    ["before anything", []],
    ["after a comment", [": hello\n\n"]],
    ["before [DONE]", [word("a"), END, USAGE(GOOD_USAGE)]],
    ["in the middle of an event", [word("a"), 'data: {"choices":[{"ind']],
    ["with [DONE] before its finish reason", [word("a"), DONE]],
  ])("%s", async (_, parts) => {
    const { engine } = await play(whole(...parts));
    const code = codeOf(await read(engine, chat()));
    expect(code).toBe(parts.includes(word("a")) ? "engine_interrupted/upstream_malformed" : "upstream_malformed");
  });

  it("when one of two choices is missing", async () => {
    const { engine } = await play(whole(word("a"), END, DONE));
    expect(codeOf(await read(engine, chat({ n: 2 })))).toBe("engine_interrupted/upstream_malformed");
  });

  it("when the server dies, and what came before is delivered", async () => {
    const { engine } = await play(async (_, response) => {
      response.writeHead(200, SSE);
      await new Promise((resolve) => response.write(word("a") + word("b"), resolve));
      response.destroy();
    });
    const result = await read(engine, chat());
    expect(result.text).toBe("ab");
    expect(codeOf(result)).toBe("engine_interrupted/upstream_failed");
    expect(result.outcome.facts).toMatchObject({ profile: "upstream", modelReported: "m-1" });
    expect(result.outcome.usage).toMatchObject({ estimated: true });
  });

  it("when the server dies before it answers", async () => {
    const { engine } = await play((_, response) => void response.destroy());
    expect(codeOf(await read(engine, chat()))).toBe("upstream_failed");
  });

  it("when a body is shorter than its length says", async () => {
    const { engine } = await play((_, response) => {
      response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
      response.write("{");
      response.socket?.end();
    });
    expect(["upstream_failed", "upstream_malformed"]).toContain(codeOf(await read(engine, chat({}, false))));
  });
});

describe("forms that are not the API's", () => {
  it.each([
    ["JSON that is none", "data: {oops}\n\n"],
    ["JSON that is no object", "data: [1]\n\n"],
    ["JSON too deep", `data: ${"[".repeat(100)}${"]".repeat(100)}\n\n`],
    ["choices that are no list", 'data: {"choices":{}}\n\n'],
    ["a choice that is no object", 'data: {"choices":[1]}\n\n'],
    ["a choice without its index", 'data: {"choices":[{"delta":{}}]}\n\n'],
    ["a choice that nobody asked for", word("b", 1)],
    ["a choice below zero", word("b", -1)],
    ["a delta that is a text", 'data: {"choices":[{"index":0,"delta":"a"}]}\n\n'],
    ["content that is a number", step({ content: 5 })],
    ["a finish reason that nobody knows", step({}, "because")],
    ["a finish reason that is a number", 'data: {"choices":[{"index":0,"delta":{},"finish_reason":1}]}\n\n'],
    ["a tool call that is a text", step({ tool_calls: ["a"] })],
    ["a tool call at a wrong place", step({ tool_calls: [{ index: 1e9 }] })],
    ["arguments that are an object", step({ tool_calls: [{ index: 0, function: { arguments: {} } }] })],
    ["too many tool calls", step({ tool_calls: Array.from({ length: 300 }, (_, index) => ({ index })) })],
    [
      "a token without its text",
      'data: {"choices":[{"index":0,"delta":{},"logprobs":{"content":[{"logprob":0}]}}]}\n\n',
    ],
  ])("%s", async (_, event) => {
    const { engine } = await play(whole(word("a"), event, END, DONE));
    expect(codeOf(await read(engine, chat()))).toBe("engine_interrupted/upstream_malformed");
  });

  it("bytes that are not UTF-8", async () => {
    const { engine } = await play(whole(Buffer.from([0x64, 0x61, 0x74, 0x61, 0x3a, 0xff, 0x0a, 0x0a])));
    expect(codeOf(await read(engine, chat()))).toBe("upstream_malformed");
  });

  it.each([
    ["a second finish reason", END],
    ["content after its end", word("b")],
    ["a tool call after its end", step({ tool_calls: [{ index: 0, function: { name: "x" } }] })],
  ])("%s", async (_, event) => {
    const { engine } = await play(whole(word("a"), END, event, DONE));
    const result = await read(engine, chat());
    expect(codeOf(result)).toBe("engine_interrupted/upstream_malformed");
    expect(result.deltas.filter((delta) => delta.finish_reason !== null)).toHaveLength(1);
  });

  it("takes an empty step after the end, as some servers send it", async () => {
    const { engine } = await play(whole(word("a"), END, step({}), USAGE(GOOD_USAGE), DONE));
    const result = await read(engine, chat());
    expect(codeOf(result)).toBe("none");
    expect(result.deltas).toHaveLength(2);
    expect(result.outcome.usage).toEqual(GOOD_USAGE);
  });

  it.each([
    ["a page", "text/html", "<html>"],
    ["JSON where a stream was asked for", "application/json", JSON.stringify(document())],
    ["no type", "", word("a")],
  ])("%s", async (_, type, body) => {
    const { engine } = await play((_request, response) => {
      response.writeHead(200, type === "" ? {} : { "content-type": type });
      response.end(body);
    });
    expect(codeOf(await read(engine, chat()))).toBe("upstream_malformed");
  });

  it.each([
    ["a stream where JSON was asked for", "text/event-stream", JSON.stringify(document())],
    ["text that is no JSON", "application/json", "ok"],
    ["a list", "application/json", "[]"],
    ["an answer without choices", "application/json", "{}"],
    ["an answer without its end", "application/json", '{"choices":[{"index":0,"message":{"content":"a"}}]}'],
  ])("%s", async (_, type, body) => {
    const { engine } = await play((_request, response) => {
      response.writeHead(200, { "content-type": type });
      response.end(body);
    });
    expect(codeOf(await read(engine, chat({}, false)))).toMatch(/^(engine_interrupted\/)?upstream_malformed$/);
  });

  it("something that is not HTTP", async () => {
    const { engine } = await play((_, response) => {
      response.socket?.end("SSH-2.0-OpenSSH_9.2\r\n");
    });
    expect(codeOf(await read(engine, chat()))).toBe("upstream_malformed");
  });
});

describe("sizes", () => {
  it("an event that is too large, in pieces without an end", async () => {
    const { engine, server } = await play(async (_, response) => {
      response.writeHead(200, SSE);
      const piece = "x".repeat(1024 * 1024);
      response.write("data: ");
      for (let sent = 0; sent <= MAX_EVENT_BYTES + piece.length; sent += piece.length) {
        if (response.destroyed) return;
        if (!response.write(piece)) await drained(response);
      }
    });
    expect(codeOf(await read(engine, chat()))).toBe("upstream_malformed");
    await server.idle();
  });

  it("a body that does not end", async () => {
    const { engine, server } = await play(async (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const piece = " ".repeat(4 * 1024 * 1024);
      while (!response.destroyed) if (!response.write(piece)) await drained(response);
    });
    expect(codeOf(await read(engine, chat({}, false)))).toBe("upstream_malformed");
    await server.idle();
  });

  it("a small body that unpacks into a large one", async () => {
    const bomb = gzipSync(Buffer.alloc(MAX_ANSWER_BYTES + 1024, 0x20));
    const { engine } = await play((_, response) => {
      response.writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" });
      response.end(bomb);
    });
    expect(codeOf(await read(engine, chat({}, false)))).toBe("upstream_malformed");
  });
});

describe("compression that was not asked for", () => {
  it("is not asked for", async () => {
    const { engine, server } = await play(whole(word("a"), END, DONE));
    await read(engine, chat());
    expect(server.requests[0]?.headers["accept-encoding"]).toBe("identity");
  });

  it.each([
    ["gzip", gzipSync],
    ["br", brotliCompressSync],
  ])("is read all the same: %s", async (encoding, compress) => {
    const { engine } = await play((request, response) => {
      const streamed = (request.body as { stream?: boolean }).stream === true;
      const body = streamed ? word("a") + END + USAGE(GOOD_USAGE) + DONE : JSON.stringify(document());
      const type = streamed ? "text/event-stream" : "application/json";
      response.writeHead(200, { "content-type": type, "content-encoding": encoding });
      response.end(compress(Buffer.from(body)));
    });
    const streamed = await read(engine, chat());
    expect([codeOf(streamed), streamed.text, streamed.outcome.usage]).toEqual(["none", "a", GOOD_USAGE]);
    expect((await read(engine, chat({}, false))).text).toBe("hi");
  });

  it.each([
    ["of an unknown kind", "zstd", Buffer.from("x")],
    ["that is broken", "gzip", Buffer.from("not gzip at all")],
    ["that breaks off", "gzip", gzipSync(Buffer.from(JSON.stringify(document()))).subarray(0, 30)],
  ])("is refused %s", async (_, encoding, body) => {
    const { engine } = await play((_request, response) => {
      response.writeHead(200, { "content-type": "application/json", "content-encoding": encoding });
      response.end(body);
    });
    expect(codeOf(await read(engine, chat({}, false)))).toBe("upstream_malformed");
  });
});

describe("usage that cannot be true is replaced by an estimate that says so", () => {
  it.each([
    ["missing", null],
    ["negative", { prompt_tokens: -1, completion_tokens: 2, total_tokens: 1 }],
    ["a fraction", { prompt_tokens: 1.5, completion_tokens: 2, total_tokens: 3.5 }],
    ["a text", { prompt_tokens: "3", completion_tokens: 2 }],
    ["absurd", { prompt_tokens: 1e15, completion_tokens: 2 }],
    ["more than was allowed", { prompt_tokens: 3, completion_tokens: 500 }],
  ])("%s", async (_, usage) => {
    const parts = usage === null ? [] : [USAGE(usage)];
    const { engine } = await play(whole(word("abcd efg"), END, ...parts, DONE));
    const { outcome } = await read(engine, chat({ max_tokens: 10 }));
    expect(outcome.usage).toEqual({ prompt_tokens: 2, completion_tokens: 2, total_tokens: 4, estimated: true });
  });

  it("keeps what is true, with a total of its own and details within bounds", async () => {
    const usage = {
      prompt_tokens: 7,
      completion_tokens: 5,
      total_tokens: 9999,
      prompt_tokens_details: { cached_tokens: 4, audio_tokens: -2 },
      completion_tokens_details: { reasoning_tokens: 900 },
    };
    const { engine } = await play(whole(word("a"), END, USAGE(usage), DONE));
    expect((await read(engine, chat())).outcome.usage).toEqual({
      prompt_tokens: 7,
      completion_tokens: 5,
      total_tokens: 12,
      prompt_tokens_details: { cached_tokens: 4 },
    });
  });
});

describe("after [DONE]", () => {
  const connections = (server: WireServer): (string | undefined)[] =>
    server.requests.map((request) => String(request.headers["x-port"]));
  /** Notes the port of the connection that each request came on. */
  const noting =
    (handler: WireHandler): WireHandler =>
    (request, response) => {
      request.headers["x-port"] = String(response.socket?.remotePort);
      return handler(request, response);
    };

  it("the connection serves the next request", async () => {
    const { engine, server } = await play(noting(whole(word("a"), END, DONE)));
    for (let i = 0; i < 12; i++) expect(codeOf(await read(engine, chat()))).toBe("none");
    // The end of one answer may still be on its way when the next request leaves: it then takes a second connection.
    expect(new Set(connections(server)).size).toBeLessThan(4);
  });

  it("nothing more is read, and a connection with something more is closed", async () => {
    const { engine, server } = await play(
      noting((_, response) => {
        stream(response, word("a"), END, DONE);
        const more = setInterval(() => response.write(word("and more")), 5);
        response.once("close", () => clearInterval(more));
      }),
    );
    const result = await read(engine, chat());
    expect([codeOf(result), result.text]).toEqual(["none", "a"]);
    await server.idle();
    await read(engine, chat());
    expect(new Set(connections(server)).size).toBe(2);
  });

  it("what came in the same piece is not read either", async () => {
    const { engine } = await play(whole(word("a") + END + DONE + word("and more") + END));
    const result = await read(engine, chat());
    expect([codeOf(result), result.text]).toEqual(["none", "a"]);
  });
});

describe("statuses", () => {
  const failing =
    (status: number, body: unknown, headers: Record<string, string> = {}): WireHandler =>
    (_, response) =>
      sendJson(response, status, body as never, headers);
  const saying = (message: string, code: string | null = null): unknown => ({ error: { message, type: "t", code } });

  it.each([
    [400, "upstream_refused"],
    [402, "upstream_refused"],
    [413, "upstream_refused"],
    [422, "upstream_refused"],
    [401, "upstream_unauthorized"],
    [403, "upstream_unauthorized"],
    [404, "model_not_found"],
    [408, "upstream_failed"],
    [429, "upstream_rate_limited"],
    [500, "upstream_failed"],
    [503, "upstream_failed"],
    [529, "upstream_failed"],
  ])("%d is %s", async (status, code) => {
    const { engine } = await play(failing(status, saying("because of the weather")));
    for (const streamed of [true, false]) {
      const result = await read(engine, chat({}, streamed));
      expect(codeOf(result)).toBe(code);
      if (code !== "upstream_unauthorized") expect(result.error?.message).toContain("because of the weather");
    }
  });

  it("a context that is too long has its own code", async () => {
    const { engine } = await play(failing(400, saying("too long", "context_length_exceeded")));
    expect(codeOf(await read(engine, chat()))).toBe("context_exceeded");
  });

  it("never shows the key, or anything like one", async () => {
    const message = `key ${SECRET}, AIzaSyA1234567890abcdefghijklmnopqrs and eyJhbGciOiJIUzI1NiJ9.abc.def\nfaked: line`;
    for (const status of [400, 401, 403, 429, 500]) {
      const { engine } = await play(failing(status, saying(message)));
      const { error } = await read(engine, chat());
      const shown = JSON.stringify([error?.message, error?.hints, String(error?.stack), String(error?.cause)]);
      expect(shown).not.toContain(SECRET);
      expect(shown).not.toContain("AIzaSyA123");
      expect(shown).not.toContain("eyJhbGci");
      expect(error?.message).not.toContain("\n");
    }
  });

  it("passes on a bounded part of a long message, and survives a body that is none", async () => {
    const { engine } = await play(failing(400, saying("word ".repeat(10_000))));
    expect((await read(engine, chat())).error?.message.length).toBeLessThan(MAX_MESSAGE + 100);
    const other = await play((_, response) => {
      response.writeHead(502, { "content-type": "text/html" });
      response.end(`<html>${"x".repeat(1024 * 1024)}`);
    });
    expect(codeOf(await read(other.engine, chat()))).toBe("upstream_failed");
  });

  it.each([
    ["seconds", "7", 7000],
    ["a date", "Thu, 01 Jan 1970 00:01:10 GMT", 10_000],
    ["a date that has passed", "Thu, 01 Jan 1970 00:00:00 GMT", 0],
    ["nonsense", "soon", 1000],
    ["a year", "31536000", 86_400_000],
  ])("Retry-After as %s", async (_, value, expected) => {
    const { engine } = await play(failing(429, saying("slow down"), { "retry-after": value }), { now: () => 60_000 });
    expect(retryAfterOf((await read(engine, chat())).error)).toBe(expected);
  });

  it("a storm of 429 leaves every place free", async () => {
    const { engine, server } = await play(failing(429, saying("slow down")), { limits: { maxRunning: 32 } });
    const results = await Promise.all(Array.from({ length: 32 }, () => read(engine, chat())));
    expect(new Set(results.map(codeOf))).toEqual(new Set(["upstream_rate_limited"]));
    expect(engine.stats().running).toBe(0);
    expect(server.requests).toHaveLength(32);
  });

  it("a redirect is not followed, and the key goes nowhere", async () => {
    const elsewhere = await play(whole(word("a"), END, DONE));
    for (const status of [301, 302, 307, 308]) {
      const { engine } = await play((_, response) => {
        response.writeHead(status, { location: `${elsewhere.server.url}/v1/chat/completions` });
        response.end();
      });
      expect(codeOf(await read(engine, chat()))).toBe("upstream_refused");
    }
    expect(elsewhere.server.requests).toHaveLength(0);
  });

  it.each([
    ["at the beginning", [], "upstream_failed"],
    ["in the middle", [word("a")], "engine_interrupted/upstream_failed"],
  ])("an error that comes as an event %s", async (_, before, code) => {
    const { engine } = await play(
      whole(...before, 'data: {"error":{"message":"the model crashed","code":502}}\n\n', DONE),
    );
    const result = await read(engine, chat());
    expect(codeOf(result)).toBe(code);
    expect(result.error?.message).toContain("the model crashed");
  });

  it("an error that comes with status 200", async () => {
    const { engine } = await play(failing(200, { error: { message: "no credit", code: 402 } }));
    expect(codeOf(await read(engine, chat({}, false)))).toBe("upstream_refused");
  });
});

describe("connections", () => {
  it("nobody listens", async () => {
    const server = await serveWire(() => undefined);
    await server.close();
    const engine = upstreamAt(server.url);
    opened.push(engine.close);
    const { error } = await read(engine, chat());
    expect(error?.code).toBe("upstream_unreachable");
    expect(error?.message).toContain("ECONNREFUSED");
  });

  it("a slow reader holds the upstream's socket back", async () => {
    let sent = 0;
    let socket: Socket | null = null;
    const total = 256 * 1024 * 1024;
    const { engine, server } = await play(async (_, response) => {
      socket = response.socket;
      response.writeHead(200, SSE);
      const piece = word("x".repeat(16 * 1024));
      while (sent < total && !response.destroyed) {
        sent += piece.length;
        if (!response.write(piece)) await drained(response);
      }
    });
    const generation = engine.generate(chat(), { signal: new AbortController().signal });
    for await (const _ of generation.events) {
      // The reader looks away. The server fills what buffers there are, and then stands still.
      for (let still = 0; still < 200; still++) {
        const before = sent;
        await new Promise((resolve) => setImmediate(resolve));
        if (sent !== before) still = 0;
        if (sent >= total) break;
      }
      break;
    }
    expect(socket).not.toBeNull();
    expect(sent).toBeLessThan(32 * 1024 * 1024);
    await server.idle();
  });

  it("an abort closes the upstream's connection, at any time", async () => {
    const begun: (() => void)[] = [];
    const { engine, server } = await play((_, response) => {
      if (begun.length > 0) stream(response, word("a"));
      begun.shift()?.();
    });
    // Before the first byte: nothing was answered.
    const early = new AbortController();
    const first = read(engine, chat(), early.signal);
    await new Promise<void>((resolve) => {
      const look = (): void => (server.open() > 0 ? resolve() : void setImmediate(look));
      look();
    });
    early.abort();
    expect(codeOf(await first)).toBe("request_cancelled");
    await server.idle();
    // And without a stream.
    const late = new AbortController();
    const second = read(engine, chat({}, false), late.signal);
    await new Promise<void>((resolve) => {
      const look = (): void => (server.open() > 0 ? resolve() : void setImmediate(look));
      look();
    });
    late.abort();
    expect(codeOf(await second)).toBe("request_cancelled");
    await server.idle();
    expect(engine.stats().running).toBe(0);
  });

  it("closing the engine ends what runs", async () => {
    const { engine, server } = await play((_, response) => stream(response, word("a")));
    const generation = engine.generate(chat(), { signal: new AbortController().signal });
    let code = "";
    try {
      for await (const _ of generation.events) void engine.close();
    } catch (error) {
      code = codeOf({ error: error as never });
    }
    expect(code).toBe("engine_interrupted/engine_unavailable");
    await server.idle();
  });

  it("an answer is read once", async () => {
    const { engine } = await play(whole(word("a"), END, DONE));
    const generation = engine.generate(chat(), { signal: new AbortController().signal });
    for await (const _ of generation.events);
    await expect(generation.events[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "request_cancelled" });
  });
});
