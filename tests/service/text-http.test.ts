import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import type { ClientRequest, IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { AssayError, bytesToHex } from "@assay/core";
import { withRetryAfter } from "@assay/protocol";
import type { Frame } from "@assay/protocol";
import { grantOf } from "@assay/service-gateway";
import { nodeSuite } from "@assay/driver-crypto";
import { afterEach, describe, expect, test } from "vitest";
import { SELF_SIGNED } from "./self-signed.ts";
import { openTextServer, scriptedExecutor } from "./text-server.ts";
import type { Candidate, Script, ScriptedExecutor, TextServer, TextServerOptions } from "./text-server.ts";

// What the HTTP surface of the text API promises whatever answers behind it: scripted executors, everything else real.

let server: TextServer | undefined;
/** Lets scripts that wait go on. */
let release: () => void = () => undefined;

afterEach(async () => {
  release();
  await server?.close();
  server = undefined;
});

const frame = (value: unknown): Frame => ({ data: JSON.stringify(value) });
const last = (value: unknown): Frame => ({ ...frame(value), final: true });
const delta = (content: string): Frame => frame({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
const END = last({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }], usage: { total_tokens: 5 } });

const hello: Script = async function* hello({ parsed }) {
  if (!parsed.stream) {
    yield await Promise.resolve(last({ object: "chat.completion", choices: [] }));
    return;
  }
  yield delta("Hel");
  yield delta("lo");
  yield END;
};

function pause(): Promise<void> {
  return new Promise((resolve) => {
    release = resolve;
  });
}

const only = (executor: ScriptedExecutor): readonly Candidate[] => [{ name: "one", executor }];

async function open(
  script: Script | readonly Candidate[],
  options: Omit<TextServerOptions, "candidates"> = {},
): Promise<TextServer> {
  server = await openTextServer({
    candidates: typeof script === "function" ? only(scriptedExecutor(script)) : script,
    ...options,
  });
  return server;
}

type Asked = { readonly stream?: boolean; readonly path?: string; readonly headers?: Record<string, string> };

function ask({ url }: TextServer, { stream = false, path = "/v1/chat/completions", headers }: Asked = {}) {
  return fetch(`${url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: "a/b", messages: [{ role: "user", content: "the secret prompt" }], stream }),
  });
}

/** A streaming request over a connection of its own, whose reading the test decides. */
async function openStream(url: string): Promise<{ readonly sent: ClientRequest; readonly response: IncomingMessage }> {
  const sent = httpRequest(`${url}/v1/chat/completions`, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json" },
  });
  sent.on("error", () => undefined);
  sent.end(JSON.stringify({ model: "a/b", messages: [{ role: "user", content: "x" }], stream: true }));
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  response.on("error", () => undefined);
  return { sent, response };
}

const problemOf = async (
  response: Response,
): Promise<{ status: number; code: unknown; type: unknown; param: unknown; retryAfter: string | null }> => {
  const body = (await response.json()) as { error: { code: string; type: string; param: unknown }; code: string };
  expect(body.code).toBe(body.error.code);
  return {
    status: response.status,
    code: body.error.code,
    type: body.error.type,
    param: body.error.param,
    retryAfter: response.headers.get("retry-after"),
  };
};

describe("an answer", () => {
  test("comes whole with its receipt in the headers, durable before it", async () => {
    const { url, receipts, logged, events, callers } = await open(hello);
    const response = await ask({ url } as TextServer, {
      headers: { "assay-client-nonce": "00".repeat(8), "x-settlement-type": "Batch", authorization: "Bearer 0x1234" },
    });
    expect(response.status).toBe(200);
    const id = response.headers.get("assay-receipt-id") ?? "";
    expect(receipts).toEqual([id]);
    expect(await response.json()).toEqual({ object: "chat.completion", choices: [] });
    const { execution, service, statements, owner, openingBytes } = await logged(id);
    expect(execution.finishReason).toBe("stop");
    expect(response.headers.get("assay-execution-digest")).toBe(bytesToHex(statements[0]?.digest ?? new Uint8Array()));
    expect(service.executionDigest).toEqual(statements[0]?.digest);
    expect(response.headers.get("assay-log-index")).toMatch(/^\d+$/);
    expect(response.headers.get("assay-node")).toBe("urn:assay:node:scripted");
    expect(service.route).toEqual({ chosen: "urn:assay:node:scripted" });
    expect(service.assurance).toEqual({ asked: "vanilla", given: "vanilla" });
    expect([owner, openingBytes]).toEqual([undefined, 0]);
    const salt = Buffer.from(response.headers.get("assay-opening") ?? "", "base64url");
    expect(salt).toHaveLength(32);
    expect(response.headers.get("assay-grant")).toBe(bytesToHex(grantOf(nodeSuite, new Uint8Array(salt))));
    expect(events.map(({ what }) => what)).toEqual(["started", "firstByte", "ok"]);
    expect(callers).toMatchObject([{ settlement: "batch" }]);
    expect(callers[0]?.owner).toBeUndefined();
  });

  test("as a stream keeps its end back until the receipt is durable", async () => {
    let durable: () => void = () => undefined;
    const hold = new Promise<void>((resolve) => {
      durable = resolve;
    });
    const s = await open(hello, {
      recorder: (recorder) => ({
        record: async (draft) => {
          await hold;
          return recorder.record(draft);
        },
        recordSigned: () => Promise.reject(new Error("nobody signs for itself here")),
      }),
    });
    const response = await ask(s, { stream: true });
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    expect(response.headers.get("content-encoding")).toBeNull();
    const id = response.headers.get("assay-receipt-id") ?? "";
    expect(response.headers.get("assay-execution-digest")).toBeNull();
    const decoder = new TextDecoder();
    let text = "";
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    while (!text.includes('"lo"')) text += decoder.decode((await reader.read()).value, { stream: true });
    expect(text).not.toContain('"stop"');
    expect(s.receipts).toEqual([]);
    durable();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
    expect(s.receipts).toEqual([id]);
    const { statements } = await s.logged(id);
    expect(text).toBe(
      [
        `data: ${delta("Hel").data}`,
        `data: ${delta("lo").data}`,
        `data: ${END.data}`,
        `: assay {"receipt_id":"${id}","execution_digest":"${bytesToHex(statements[0]?.digest ?? new Uint8Array())}","log_index":2}`,
        "data: [DONE]",
        "",
      ].join("\n\n"),
    );
    expect(text).not.toContain('"usage":null');
  });

  test("belongs to its caller's token, and is kept when the caller says so", async () => {
    const s = await open(hello);
    const response = await ask(s, {
      headers: { authorization: "Bearer assay_good", "assay-retention": "server-encrypted" },
    });
    const id = response.headers.get("assay-receipt-id") ?? "";
    const { owner, service, openingBytes } = await s.logged(id);
    expect([owner, service.retention]).toEqual(["ed25519:aa", "server-encrypted"]);
    expect(openingBytes).toBeGreaterThan(32);
    expect(s.callers[0]?.principal).toEqual({ caller: "ed25519:aa", authentication: "token" });
  });

  test("that grew too large to be kept is answered, and says that it is not kept", async () => {
    const grown: Script = async function* grown(request) {
      yield await Promise.resolve(request.parsed.stream ? delta("x") : last({}));
      if (request.parsed.stream) yield END;
    };
    const scripted = scriptedExecutor(grown);
    const executor: ScriptedExecutor = {
      ...scripted,
      execute(request) {
        const execution = scripted.execute(request);
        const value = new Uint8Array(9 * 1024 * 1024);
        return {
          ...execution,
          finish: async () => ({ ...(await execution.finish()), responseFields: [{ name: "id", value }] }),
        };
      },
    };
    const s = await open(only(executor));
    const headers = { "assay-retention": "server-encrypted" };
    const whole = await ask(s, { headers });
    expect([whole.status, whole.headers.get("assay-retention")]).toEqual([200, "none"]);
    expect(await (await ask(s, { headers, stream: true })).text()).toMatch(/,"retention":"none"\}\n\ndata: \[DONE\]/);
    for (const id of s.receipts) {
      const { service, openingBytes } = await s.logged(id);
      expect([service.retention, openingBytes]).toEqual(["none", 0]);
    }
    expect(s.receipts).toHaveLength(2);
  });

  test("leaves a log line that says nothing of what was asked or answered", async () => {
    const s = await open(hello);
    await (await ask(s, { stream: true, headers: { "x-request-id": "r-1" } })).text();
    await expect.poll(() => s.lines.length).toBe(1);
    const line = JSON.parse(s.lines[0] ?? "") as Record<string, unknown>;
    expect(line).toMatchObject({
      requestId: "r-1",
      dialect: "chat",
      model: "a/b",
      status: 200,
      frames: 3,
      tries: 1,
      finish: "stop",
      receiptId: s.receipts[0],
      msg: "text",
    });
    expect(s.lines.join("")).not.toMatch(/secret prompt|Hel/);
    expect(await s.metric("assay_text_requests_total")).toBe(1);
    expect(await s.metric("assay_text_frames_total")).toBe(3);
    expect(await s.metric("assay_text_tokens_total")).toBe(6);
    expect(await s.metric("assay_text_streams_open")).toBe(0);
    expect(await s.metric("assay_text_incomplete_total")).toBe(0);
    expect(await s.metric("assay_text_first_frame_seconds_count")).toBe(1);
  });
});

describe("refused before anything runs", () => {
  const post = (url: string, init: RequestInit): Promise<Response> =>
    fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      ...init,
      headers: { "content-type": "application/json", ...(init.headers as Record<string, string> | undefined) },
    });
  const good = JSON.stringify({ model: "a/b", messages: [{ role: "user", content: "x" }] });

  test.each([
    ["another type", { headers: { "content-type": "text/plain" }, body: good }, 415, "content_type_unsupported"],
    ["no type", { headers: { "content-type": "" }, body: good }, 415, "content_type_unsupported"],
    [
      "another charset",
      { headers: { "content-type": "application/json; charset=latin1" }, body: good },
      415,
      "content_type_unsupported",
    ],
    ["a compressed body", { headers: { "content-encoding": "gzip" }, body: good }, 415, "content_type_unsupported"],
    ["no JSON", { body: "{" }, 400, "json_invalid"],
    ["no UTF-8", { body: Buffer.from([0x7b, 0xff, 0x7d]) }, 400, "json_invalid"],
    ["an unknown settlement", { headers: { "x-settlement-type": "later" }, body: good }, 400, "header_invalid"],
    ["an unknown retention", { headers: { "assay-retention": "for ever" }, body: good }, 400, "header_invalid"],
    ["a nonce that is too short", { headers: { "assay-client-nonce": "00" }, body: good }, 400, "header_invalid"],
    [
      "a token of ours that is unknown",
      { headers: { authorization: "Bearer assay_bad" }, body: good },
      401,
      "token_invalid",
    ],
    ["a body past the limit", { body: `${good}${" ".repeat(2000)}` }, 413, "request_too_large"],
  ] as const)("%s", async (_, init, status, code) => {
    const executor = scriptedExecutor(hello);
    const { url, receipts, metric } = await open(only(executor), { maxBodyBytes: 1000 });
    const problem = await problemOf(await post(url, init));
    expect(problem).toMatchObject({
      status,
      code,
      type: status === 401 ? "authentication_error" : "invalid_request_error",
    });
    expect([executor.taken(), receipts]).toEqual([0, []]);
    expect(await metric("assay_refusals_total")).toBe(1);
  });

  test("a body past the limit that announces no length", async () => {
    const { url } = await open(hello, { maxBodyBytes: 1000 });
    const body = ReadableStream.from([Buffer.from(good), Buffer.alloc(2000, " ")]);
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      duplex: "half",
    } as RequestInit);
    expect(await problemOf(response)).toMatchObject({ status: 413, code: "request_too_large" });
  });

  test("bodies that do not fit into memory together, and they are let go afterwards", async () => {
    const s = await open(
      async function* waiting() {
        await pause();
        yield END;
      },
      { gateway: { text: { maxBodiesBytes: 150 } } },
    );
    const first = ask(s);
    await expect.poll(() => s.events.length).toBe(1);
    expect(await problemOf(await ask(s))).toMatchObject({ status: 503, code: "gateway_overloaded", retryAfter: "1" });
    release();
    expect((await first).status).toBe(200);
    const third = ask(s);
    await expect.poll(() => s.events.filter(({ what }) => what === "started").length).toBe(2);
    release();
    expect((await third).status).toBe(200);
  });

  test("a body too large to be kept", async () => {
    const { url } = await open(hello);
    const body = JSON.stringify({
      model: "a/b",
      messages: [{ role: "user", content: "x".repeat(4 * 1024 * 1024) }],
    });
    const response = await post(url, { body, headers: { "assay-retention": "server-encrypted" } });
    expect(await problemOf(response)).toMatchObject({ status: 413, code: "opening_too_large" });
  });

  test("every other method, at every route", async () => {
    const { url } = await open(hello);
    for (const path of ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]) {
      const response = await fetch(`${url}${path}`);
      expect(response.headers.get("allow")).toBe("POST");
      expect(await problemOf(response)).toMatchObject({ status: 405, code: "method_not_allowed" });
    }
  });

  test("an unknown model, in OpenAI's words", async () => {
    const { url } = await open([]);
    expect(await problemOf(await ask({ url } as TextServer))).toMatchObject({
      status: 404,
      code: "model_not_found",
      type: "not_found_error",
      param: "model",
    });
  });

  test("more requests than are taken at a time, while other routes still answer", async () => {
    const s = await open(
      async function* waiting() {
        await pause();
        yield END;
      },
      { gateway: { text: { maxConcurrent: 1 } } },
    );
    const first = ask(s);
    await expect.poll(() => s.events.length).toBe(1);
    const second = await ask(s);
    expect(await problemOf(second)).toEqual({
      status: 429,
      code: "engine_overloaded",
      type: "rate_limit_error",
      param: null,
      retryAfter: "1",
    });
    expect((await fetch(`${s.url}/livez`)).status).toBe(200);
    release();
    expect((await first).status).toBe(200);
    await expect.poll(() => s.gateway.inFlight()).toBe(0);
  });
});

describe("codes of engines", () => {
  test.each([
    ["kind_unsupported", 400, "invalid_request_error"],
    ["parameter_unsupported", 400, "invalid_request_error"],
    ["content_unsupported", 400, "invalid_request_error"],
    ["context_exceeded", 400, "invalid_request_error"],
    ["upstream_refused", 400, "invalid_request_error"],
    ["engine_overloaded", 429, "rate_limit_error"],
    ["upstream_rate_limited", 429, "rate_limit_error"],
    ["engine_unavailable", 503, "server_error"],
    ["upstream_unauthorized", 502, "server_error"],
    ["upstream_failed", 502, "server_error"],
    ["upstream_unreachable", 502, "server_error"],
    ["upstream_malformed", 502, "server_error"],
    ["upstream_timeout", 504, "server_error"],
    ["model_digest_mismatch", 500, "server_error"],
    ["model_aborted", 502, "server_error"],
  ])("%s is %i, %s", async (code, status, type) => {
    const executor = scriptedExecutor(hello, {
      check: () =>
        Promise.reject(
          withRetryAfter(new AssayError(code, "It does not.", { hints: ["top_k", "Leave it out."] }), 2500),
        ),
    });
    const s = await open(only(executor));
    expect(await problemOf(await ask(s))).toEqual({
      status,
      code,
      type,
      param: code === "parameter_unsupported" ? "top_k" : null,
      retryAfter: status === 429 || status === 503 ? "3" : null,
    });
    expect(s.events.at(-1)).toEqual({ candidate: "one", what: "failed", facts: { code } });
    expect(s.receipts).toEqual([]);
  });

  test("what is not ours says nothing of itself", async () => {
    const s = await open(async function* broken() {
      await Promise.reject(new Error("/etc/inner secret"));
      yield END;
    });
    const response = await ask(s);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("secret");
    expect(s.lines.join("")).toContain("inner secret");
  });
});

describe("another candidate", () => {
  const failing = (code: string): ScriptedExecutor =>
    scriptedExecutor(
      async function* failing() {
        await Promise.reject(new AssayError(code, "This one cannot."));
        yield END;
      },
      { subject: `urn:assay:node:${code}` },
    );

  test("is asked when one fails before its first frame, and the receipt tells of both", async () => {
    const seen: string[] = [];
    const good = scriptedExecutor(
      async function* good(request) {
        seen.push(bytesToHex(request.receiptId));
        yield* hello(request);
      },
      { subject: "urn:assay:node:good" },
    );
    const s = await open([
      { name: "a", executor: failing("engine_unavailable") },
      { name: "b", executor: good, service: () => ({ route: { chosen: "b", objective: "price", facts: { of: 2 } } }) },
    ]);
    const response = await ask(s, { stream: true });
    expect(await response.text()).toContain("data: [DONE]");
    expect(response.headers.get("assay-node")).toBe("urn:assay:node:good");
    const id = response.headers.get("assay-receipt-id") ?? "";
    expect(seen).toEqual([id]);
    const { service } = await s.logged(id);
    expect(service.route).toEqual({
      chosen: "b",
      objective: "price",
      facts: {
        of: 2,
        tries: [
          { candidate: "a", outcome: "engine_unavailable" },
          { candidate: "b", outcome: "stop" },
        ],
      },
    });
    expect(s.events.map(({ candidate, what }) => `${candidate} ${what}`)).toEqual([
      "a started",
      "a failed",
      "b started",
      "b firstByte",
      "b ok",
    ]);
  });

  test("is not asked a fourth time, nor for what is the caller's fault, nor without one left", async () => {
    const five = ["a", "b", "c", "d", "e"].map((name) => ({ name, executor: failing("upstream_failed") }));
    const s = await open(five);
    expect(await problemOf(await ask(s))).toMatchObject({ status: 502, code: "upstream_failed" });
    expect(s.events.filter(({ what }) => what === "started").map(({ candidate }) => candidate)).toEqual([
      "a",
      "b",
      "c",
    ]);
    await s.close();

    const refusing = await open([
      { name: "a", executor: failing("upstream_refused") },
      { name: "b", executor: scriptedExecutor(hello) },
    ]);
    expect(await problemOf(await ask(refusing))).toMatchObject({ status: 400, code: "upstream_refused" });
    expect(refusing.events).toHaveLength(2);
    await refusing.close();

    const alone = await open([{ name: "a", executor: failing("upstream_timeout") }]);
    expect(await problemOf(await ask(alone))).toMatchObject({ status: 504, code: "upstream_timeout" });
  });

  test("is never asked after the first frame: the stream ends with an error and without [DONE]", async () => {
    const broken = scriptedExecutor(async function* broken() {
      yield delta("Hel");
      await Promise.reject(new AssayError("engine_interrupted", "The engine broke off."));
    });
    const s = await open([
      { name: "a", executor: broken },
      { name: "b", executor: scriptedExecutor(hello) },
    ]);
    const response = await ask(s, { stream: true });
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).toBe(
      `data: ${delta("Hel").data}\n\ndata: {"error":{"message":"The engine broke off.","type":"server_error","param":null,"code":"engine_interrupted"}}\n\n`,
    );
    const id = response.headers.get("assay-receipt-id") ?? "";
    const { execution, service } = await s.logged(id);
    expect(execution.finishReason).toBe("incomplete");
    expect(service.route).toEqual({ chosen: "urn:assay:node:scripted" });
    expect(s.events.at(-1)).toMatchObject({ candidate: "a", what: "failed", facts: { code: "engine_interrupted" } });
    expect(await s.metric("assay_text_incomplete_total")).toBe(1);
  });
});

describe("no receipt, no answer", () => {
  const recorder = (): NonNullable<TextServerOptions["recorder"]> => () => ({
    record: () => Promise.reject(new AssayError("log_failed", "The log cannot be written.")),
    recordSigned: () => Promise.reject(new Error("unused")),
  });

  test("a whole answer is withheld", async () => {
    const s = await open(hello, { recorder: recorder() });
    expect(await problemOf(await ask(s))).toMatchObject({ status: 503, code: "log_failed", type: "server_error" });
  });

  test("a stream's end is withheld", async () => {
    const s = await open(hello, { recorder: recorder() });
    const text = await (await ask(s, { stream: true })).text();
    expect(text).not.toMatch(/"stop"|\[DONE\]/);
    expect(text.split("\n\n").at(-2)).toContain('"code":"log_failed"');
    expect(s.lines.join("")).toContain("text broken off");
  });

  test("claims that have no form fail their own request alone", async () => {
    const bad: Candidate = {
      name: "bad",
      executor: scriptedExecutor(hello),
      service: () => ({ route: { chosen: "x".repeat(600) } }),
    };
    const s = await open([bad]);
    expect(await problemOf(await ask(s))).toMatchObject({ status: 500, code: "claims_invalid" });
    expect(s.receipts).toEqual([]);
  });

  test("a node that signed for itself is recorded by its own envelope", async () => {
    const signing = scriptedExecutor(hello);
    const envelopes: Uint8Array[] = [];
    const executor: ScriptedExecutor = {
      ...signing,
      execute(request) {
        const execution = signing.execute(request);
        return {
          ...execution,
          finish: async () => ({ ...(await execution.finish()), envelope: new Uint8Array([1, 2]), mode: "tee" }),
        };
      },
    };
    const s = await open(only(executor), {
      recorder: (real) => ({
        record: () => Promise.reject(new Error("the gateway must not sign for a node")),
        recordSigned({ envelope, ...draft }) {
          envelopes.push(envelope);
          expect(draft.mode).toBe("tee");
          return real.record(draft);
        },
      }),
    });
    expect((await ask(s)).status).toBe(200);
    expect(envelopes).toEqual([new Uint8Array([1, 2])]);
    expect((await s.logged(s.receipts[0] ?? "")).service.assurance).toEqual({ asked: "vanilla", given: "tee" });
  });
});

describe("a client", () => {
  /** Yields for ever until its signal says that nobody listens. */
  const endless = (text: string): Script =>
    async function* endless({ signal }) {
      const gone = new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
      gone.catch(() => undefined);
      for (let i = 0; i < 3; i++) yield delta(text);
      await gone;
    };

  test("that goes away mid-stream ends the execution at once, and leaves a receipt that says so", async () => {
    const executor = scriptedExecutor(endless("x"));
    const s = await open(only(executor));
    const { sent, response } = await openStream(s.url);
    await once(response, "data");
    expect(executor.running()).toBe(1);
    sent.destroy();
    await expect.poll(() => executor.running()).toBe(0);
    await expect.poll(() => s.receipts.length).toBe(1);
    expect((await s.logged(s.receipts[0] ?? "")).execution.finishReason).toBe("incomplete");
    await expect.poll(() => s.gateway.inFlight()).toBe(0);
    expect(s.events.at(-1)).toMatchObject({ what: "cancelled", facts: { code: "request_cancelled" } });
    expect(await s.metric("assay_text_streams_open")).toBe(0);
    expect(s.lines.join("")).not.toContain('"level":50');
  });

  test("that goes away before the first frame leaves nothing", async () => {
    const executor = scriptedExecutor(async function* waiting({ signal }) {
      await new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
      yield END;
    });
    const s = await open([
      { name: "a", executor },
      { name: "b", executor },
    ]);
    const away = new AbortController();
    const asked = fetch(`${s.url}/v1/chat/completions`, {
      method: "POST",
      signal: away.signal,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "a/b", messages: [{ role: "user", content: "x" }] }),
    });
    await expect.poll(() => executor.running()).toBe(1);
    away.abort();
    await expect(asked).rejects.toThrow("aborted");
    await expect.poll(() => s.gateway.inFlight()).toBe(0);
    expect(s.receipts).toEqual([]);
    expect(executor.taken()).toBe(1);
    expect(s.events.map(({ what }) => what)).toEqual(["started", "cancelled"]);
  });

  test("that goes away while its request arrives", async () => {
    const s = await open(hello);
    const { hostname, port } = new URL(s.url);
    const socket = connect(Number(port), hostname);
    socket.write("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
    socket.write("content-length: 100\r\n\r\n{");
    await expect.poll(() => s.gateway.inFlight()).toBe(1);
    socket.destroy();
    await expect.poll(() => s.gateway.inFlight()).toBe(0);
    expect(s.lines.join("")).toContain('"code":"request_aborted"');
    expect(s.events).toEqual([]);
  });

  test("that reads slowly holds the execution back, and gets everything", async () => {
    const size = 64 * 1024;
    let yielded = 0;
    const total = 400;
    const s = await open(async function* large() {
      for (; yielded < total; yielded++) yield await Promise.resolve(delta("y".repeat(size)));
      yield END;
    });
    const { response } = await openStream(s.url);
    response.pause();
    // What the kernel and the process take is far less than the whole: the script stands still before its end.
    let before = -1;
    await expect
      .poll(
        () => {
          const still = before === yielded;
          before = yielded;
          return still;
        },
        { interval: 100 },
      )
      .toBe(true);
    expect(yielded).toBeLessThan(total);
    let bytes = 0;
    let tail = "";
    for await (const chunk of response) {
      bytes += (chunk as Buffer).length;
      tail = String(chunk).slice(-40);
    }
    expect(bytes).toBeGreaterThan(total * size);
    expect(tail).toContain("data: [DONE]");
    expect((await s.logged(s.receipts[0] ?? "")).execution.finishReason).toBe("stop");
  });

  test("that stops reading is cut off, and the receipt says so", async () => {
    const executor = scriptedExecutor(async function* large({ signal }) {
      while (!signal.aborted) yield await Promise.resolve(delta("z".repeat(256 * 1024)));
    });
    const s = await open(only(executor), { gateway: { text: { stallMs: 200 } } });
    const { response } = await openStream(s.url);
    response.pause();
    await expect.poll(() => s.receipts.length, { timeout: 10_000 }).toBe(1);
    expect((await s.logged(s.receipts[0] ?? "")).execution.finishReason).toBe("incomplete");
    await expect.poll(() => s.gateway.inFlight()).toBe(0);
    expect(executor.running()).toBe(0);
    expect(s.events.at(-1)).toMatchObject({ what: "cancelled" });
    response.destroy();
  });

  test("that never reads a whole answer is cut off", async () => {
    const s = await open(
      async function* large() {
        yield await Promise.resolve(last({ text: "w".repeat(64 * 1024 * 1024) }));
      },
      { gateway: { text: { stallMs: 200 } } },
    );
    const { hostname, port } = new URL(s.url);
    const socket = connect(Number(port), hostname);
    socket.on("error", () => undefined);
    socket.pause();
    const body = JSON.stringify({ model: "a/b", messages: [{ role: "user", content: "x" }] });
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await expect.poll(() => s.receipts.length).toBe(1);
    await expect.poll(() => s.gateway.inFlight()).toBe(0);
    socket.destroy();
  });
});

describe("closing", () => {
  test("lets streams under way end, and cuts those that do not, with their receipts", async () => {
    const endless = scriptedExecutor(async function* endless({ signal }) {
      yield delta("x");
      await new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    });
    const s = await open(only(endless), { gateway: { drainMs: 100 } });
    const { response } = await openStream(s.url);
    await once(response, "data");
    await s.gateway.close();
    expect(s.receipts).toHaveLength(1);
    expect((await s.logged(s.receipts[0] ?? "")).execution.finishReason).toBe("incomplete");
    expect(s.gateway.inFlight()).toBe(0);
  });

  test("answers what can still be answered", async () => {
    const s = await open(async function* waiting() {
      yield delta("x");
      await pause();
      yield END;
    });
    const { response } = await openStream(s.url);
    await once(response, "data");
    const closing = s.gateway.close();
    release();
    let text = "";
    for await (const chunk of response) text += String(chunk);
    await closing;
    expect(text).toContain("[DONE]");
    expect(s.receipts).toHaveLength(1);
  });
});

describe("HTTPS", () => {
  test("with a certificate of one's own, which callers pin", async () => {
    const s = await open(hello, { gateway: { tls: SELF_SIGNED } });
    expect(s.url).toMatch(/^https:/);
    const body = JSON.stringify({ model: "a/b", messages: [{ role: "user", content: "x" }], stream: true });
    const get = async (ca: string | undefined): Promise<string> => {
      const sent = httpsRequest(`${s.url}/v1/chat/completions`, {
        method: "POST",
        agent: false,
        headers: { "content-type": "application/json" },
        ...(ca === undefined ? {} : { ca }),
      });
      sent.end(body);
      const [response] = (await once(sent, "response")) as [IncomingMessage];
      let text = "";
      for await (const chunk of response) text += String(chunk);
      return text;
    };
    expect(await get(SELF_SIGNED.cert)).toMatch(/^data: [^]*data: \[DONE\]\n\n$/);
    await expect(get(undefined)).rejects.toThrow("self-signed certificate");
    expect(s.receipts).toHaveLength(1);
  });

  test.each([
    ["no PEM", { cert: "x", key: "y" }],
    [
      "another certificate's key",
      {
        cert: SELF_SIGNED.cert,
        key: generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }),
      },
    ],
  ] as const)("is refused with %s", async (_, tls) => {
    await expect(open(hello, { gateway: { tls: { ...tls, key: String(tls.key) } } })).rejects.toMatchObject({
      code: "tls_invalid",
    });
  });
});

describe("models of upstreams and contracts", () => {
  const models = [
    { name: "openai/gpt-x", kinds: ["chat"], ownedBy: "openai", createdS: 5, price: { asset: "USD", prompt: "0.1" } },
    { name: "support", kinds: ["chat", "completion"], maxOutputTokens: 9 },
  ] as const;

  test("are listed beside the hub's, and found by their names", async () => {
    const { url } = await open(hello, { models });
    const gpt = {
      id: "openai/gpt-x",
      object: "model",
      created: 5,
      owned_by: "openai",
      kinds: ["chat"],
      price: { asset: "USD", prompt: "0.1" },
    };
    const support = {
      id: "support",
      object: "model",
      created: 0,
      owned_by: "upstream",
      kinds: ["chat", "completion"],
      max_output_tokens: 9,
    };
    const json = async (path: string): Promise<unknown> => (await fetch(`${url}${path}`)).json();
    expect(await json("/v1/models")).toEqual({ object: "list", data: [gpt, support], models: [] });
    expect(await json("/v1/models?prefix=sup")).toEqual({ object: "list", data: [support], models: [] });
    // Other servers' clients write the slash of a name as it is.
    for (const name of ["openai%2Fgpt-x", "openai/gpt-x", "openai/gpt-x?x=1"])
      expect(await json(`/v1/models/${name}`), name).toEqual(gpt);
    expect(await json("/v1/models/support")).toEqual(support);
  });

  test.each(["other", "openai/gpt", "openai/gpt-x/files", "support/files", "support/releases"])(
    "%s is none of them",
    async (name) => {
      const { url } = await open(hello, { models });
      expect((await fetch(`${url}/v1/models/${name}`)).status).toBe(404);
    },
  );
});

test("a thousand streams at a time, each with its receipt", async () => {
  const streams = 1000;
  const frames = 20;
  let begun = 0;
  let go: () => void = () => undefined;
  const all = new Promise<void>((resolve) => {
    go = resolve;
  });
  const executor = scriptedExecutor(async function* many() {
    yield delta("first");
    if (++begun === streams) go();
    await all;
    for (let i = 0; i < frames; i++) yield await Promise.resolve(delta(`word ${i} `));
    yield END;
  });
  const s = await open(only(executor));
  const before = process.memoryUsage();
  let during = before;
  void all.then(() => {
    during = process.memoryUsage();
  });
  const texts = await Promise.all(
    Array.from({ length: streams }, async () => {
      const { response } = await openStream(s.url);
      let text = "";
      for await (const chunk of response) text += String(chunk);
      return { text, id: response.headers["assay-receipt-id"] };
    }),
  );
  expect(texts.filter(({ text }) => text.endsWith("data: [DONE]\n\n"))).toHaveLength(streams);
  expect(new Set(texts.map(({ id }) => id))).toEqual(new Set(s.receipts));
  expect(s.receipts).toHaveLength(streams);
  await expect.poll(() => s.gateway.inFlight()).toBe(0);
  expect(await s.metric("assay_text_streams_open")).toBe(0);
  const kib = (name: "rss" | "heapUsed"): number => Math.round((during[name] - before[name]) / 1024 / streams);
  // Both ends live in this process, so what stands here is a client's share and the server's together.
  console.info(`${streams} open streams: ${kib("rss")} KiB resident, ${kib("heapUsed")} KiB of heap each`);
});
