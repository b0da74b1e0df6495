import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, streamText } from "ai";
import OpenAI from "openai";
import { afterEach, describe, expect, test } from "vitest";
import { isAssayError } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { Assay, createPayer, spendLimit } from "@assay/sdk";
import type { CheckedReceipt, Payer } from "@assay/sdk";
import { makeTextGateway } from "@assay/testkit";
import type { GatewayScript, TextGateway } from "@assay/testkit";
import { createVerifier } from "@assay/verifier";
import type { SpendPolicy } from "@assay/x402";
import { nobleEvmSuite } from "@assay/x402/noble";
import { createProxy } from "./index.ts";
import type { Proxy, ProxyEvent, ProxyModules, ProxyOptions } from "./index.ts";

const UPSTREAM = "http://gateway.test";
const ask = { model: "acme/llm", messages: [{ role: "user" as const, content: "What is 17 + 25?" }] };
const open: Proxy[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((proxy) => proxy.close()));
});

type Over = {
  readonly proxy: Proxy;
  readonly gateway: TextGateway;
  readonly client: OpenAI;
  readonly receipts: CheckedReceipt[];
  readonly events: ProxyEvent[];
};

async function over(
  script: GatewayScript = {},
  options: Partial<ProxyOptions> = {},
  modules: Partial<ProxyModules> = {},
): Promise<Over> {
  const gateway = await makeTextGateway(script, UPSTREAM);
  const receipts: CheckedReceipt[] = [];
  const events: ProxyEvent[] = [];
  const proxy = await createProxy(
    { upstreamUrl: UPSTREAM, port: 0, trust: gateway.trust, limits: { drainMs: 50 }, ...options },
    {
      fetch: gateway.fetch,
      now: () => gateway.now,
      suite: nodeSuite,
      onReceipt: (receipt) => {
        receipts.push(receipt);
      },
      onEvent: (event) => {
        events.push(event);
      },
      ...modules,
    },
  );
  open.push(proxy);
  return {
    proxy,
    gateway,
    receipts,
    events,
    client: new OpenAI({ baseURL: `${proxy.url}/v1`, apiKey: "sk-of-somebody-else" }),
  };
}

const thrown = async (work: Promise<unknown>): Promise<unknown> => {
  try {
    await work;
  } catch (error) {
    return error;
  }
  return undefined;
};
const textOf = async (client: OpenAI): Promise<string> => {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true }))
    text += chunk.choices[0]?.delta.content ?? "";
  return text;
};
const post = (proxy: Proxy, body: string, init: RequestInit = {}): Promise<Response> =>
  fetch(`${proxy.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    ...init,
  });
/** A request with headers that `fetch` does not let one set. */
const raw = (proxy: Proxy, path: string, headers: Record<string, string>, method = "GET"): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const request = httpRequest(proxy.url + path, { method, headers, agent: false }, (response) => {
      response.resume();
      resolve(response);
    });
    request.on("error", reject);
    request.end(method === "POST" ? JSON.stringify(ask) : undefined);
  });
const codeOf = async (response: Response): Promise<unknown> =>
  ((await response.json()) as { error: { code: unknown } }).error.code;

describe("the official client, unchanged", () => {
  test("all it asks for, each answer with a receipt that verifies", async () => {
    const { client, gateway, receipts, events } = await over();
    const { data, response } = await client.chat.completions.create(ask).withResponse();
    expect(data.choices[0]?.message.content).toBe("The answer is 42.");
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "assay-verified": "true",
      "assay-verdict": "verified",
      "assay-receipt-id": gateway.receiptIds[0],
      "content-type": "application/json",
    });
    expect((await client.completions.create({ model: "acme/llm", prompt: "17 + 25 is" })).choices[0]?.text).toBe(
      "The answer is 42.",
    );
    expect((await client.embeddings.create({ model: "acme/embed", input: "a" })).data[0]?.embedding).toHaveLength(3);
    expect((await client.responses.create({ model: "acme/llm", input: "?" })).output_text).toBe("The answer is 42.");
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(["acme/llm"]);
    const verify = createVerifier({ trust: gateway.trust, suite: nodeSuite });
    expect(receipts).toHaveLength(4);
    for (const { bytes } of receipts) expect((await verify(bytes, gateway.now)).status).toBe("verified");
    expect(events.map(({ route, status, verdict }) => [route, status, verdict])).toEqual([
      ["/v1/chat/completions", 200, "verified"],
      ["/v1/completions", 200, "verified"],
      ["/v1/embeddings", 200, "verified"],
      ["/v1/responses", 200, "verified"],
      ["/v1/models", 200, undefined],
    ]);
    // A provider's key is nothing that a gateway should see.
    expect(gateway.calls.map(({ headers }) => headers.get("authorization")).filter(Boolean)).toEqual([]);
  });

  test.each(["before-release", "after"] as const)("streams, verified %s", async (mode) => {
    const { client, receipts } = await over({}, { mode });
    expect(await textOf(client)).toBe("The answer is 42.");
    const events: string[] = [];
    for await (const event of await client.responses.create({ model: "acme/llm", input: "?", stream: true }))
      events.push(event.type);
    expect(events.at(-1)).toBe("response.completed");
    expect(receipts).toHaveLength(2);
  });

  const hostile: readonly [string, GatewayScript, string][] = [
    ["an altered frame", { blocks: (blocks) => blocks.map((text) => text.replace(" is", " was")) }, "receipt_failed"],
    ["a frame left out", { blocks: (blocks) => blocks.filter((_, i) => i !== 1) }, "receipt_failed"],
    ["a stream without [DONE]", { blocks: (blocks) => blocks.slice(0, -1) }, "stream_truncated"],
    ["a stream cut after its text", { blocks: (blocks) => blocks.slice(0, 2) }, "stream_truncated"],
    ["a stream that breaks off", { failAfter: 2 }, "engine_interrupted"],
    ["a signer that nobody trusts", { signer: "mallory" }, "receipt_inconclusive"],
    ["another nonce", { execution: { clientNonce: new Uint8Array(16) } }, "receipt_failed"],
    ["no receipt", { headers: (headers) => headers.delete("assay-opening") }, "receipt_missing"],
  ];

  test.each(hostile)("%s: nothing comes through before release", async (_what, script, code) => {
    const { client, proxy, gateway, receipts } = await over(script);
    expect(await thrown(textOf(client))).toMatchObject({ status: 502, code });
    expect(gateway.calls.filter(({ path }) => path.startsWith("/v1/chat"))).toHaveLength(1);
    const response = await post(proxy, JSON.stringify({ ...ask, stream: true }));
    expect(response.status).toBe(502);
    expect(response.headers.get("assay-verified")).toBe("false");
    const text = await response.text();
    expect(text).not.toContain('"content":"The answer');
    expect(text).not.toContain("[DONE]");
    expect(receipts).toEqual([]);
  });

  test.each(hostile)("%s: the end does not come, when verified after", async (_what, script, code) => {
    const { client, proxy } = await over(script, { mode: "after" });
    expect(await thrown(textOf(client))).toMatchObject({ code });
    const text = await (await post(proxy, JSON.stringify({ ...ask, stream: true }))).text();
    expect(text).not.toContain("[DONE]");
    expect(text).not.toContain('"finish_reason":"stop"');
    expect(text).toContain(`"code":"${code}"`);
  });

  test.each([
    ["an altered answer", { body: (text: string) => text.replace("42", "43") }, "receipt_failed"],
    [
      "altered usage",
      { body: (text: string) => text.replace('"total_tokens":17', '"total_tokens":1') },
      "receipt_failed",
    ],
    [
      "a server that is no gateway",
      { intercept: ({ method }) => (method === "POST" ? Response.json({ id: "x" }) : undefined) },
      "receipt_missing",
    ],
  ] as readonly [string, GatewayScript, string][])("%s is a 502", async (_what, script, code) => {
    for (const mode of ["before-release", "after"] as const) {
      const { client, events } = await over(script, { mode });
      expect(await thrown(client.chat.completions.create(ask))).toMatchObject({ status: 502, code });
      expect(events).toMatchObject([{ status: 502, failure: code }]);
    }
  });

  test("refusals of the gateway come through, and one that is not there is told", async () => {
    const { client } = await over();
    expect(await thrown(client.chat.completions.create({ ...ask, temperature: 9 }))).toMatchObject({
      status: 400,
      code: "parameter_invalid",
    });
    const down = await over({ intercept: () => Promise.reject(new TypeError("refused")) });
    const refused = { status: 502, code: "gateway_unreachable" };
    expect(await thrown(down.client.chat.completions.create(ask))).toMatchObject(refused);
    expect(await thrown(Promise.resolve(down.client.models.list({ maxRetries: 0 })))).toMatchObject(refused);
    expect((await fetch(`${down.proxy.url}/health`)).status).toBe(503);
  });
});

describe("the AI SDK, unchanged", () => {
  const providerOf = (proxy: Proxy) =>
    createOpenAICompatible({ name: "assay", baseURL: `${proxy.url}/v1`, apiKey: "unused", includeUsage: true });

  test("text, streams and vectors", async () => {
    const { proxy, receipts } = await over();
    const provider = providerOf(proxy);
    const { text, usage } = await generateText({ model: provider("acme/llm"), prompt: "17 + 25?" });
    expect([text, usage.totalTokens]).toEqual(["The answer is 42.", 17]);
    const stream = streamText({ model: provider("acme/llm"), prompt: "17 + 25?" });
    let streamed = "";
    for await (const piece of stream.textStream) streamed += piece;
    expect(streamed).toBe("The answer is 42.");
    expect(await stream.finishReason).toBe("stop");
    const { embeddings } = await embedMany({ model: provider.embeddingModel("acme/embed"), values: ["a", "b"] });
    expect(embeddings).toEqual([
      [0, 0.5, -0.25],
      [1, 0.5, -0.25],
    ]);
    expect(receipts).toHaveLength(3);
  });

  test("an altered stream is an error and never an end", async () => {
    for (const mode of ["before-release", "after"] as const) {
      const { proxy } = await over({ blocks: (blocks) => blocks.map((text) => text.replace(" is", " was")) }, { mode });
      const errors: unknown[] = [];
      const stream = streamText({
        model: providerOf(proxy)("acme/llm"),
        prompt: "17 + 25?",
        maxRetries: 0,
        onError: ({ error }) => {
          errors.push(error);
        },
      });
      const parts: string[] = [];
      for await (const part of stream.fullStream) parts.push(part.type);
      expect(errors).toHaveLength(1);
      expect(parts).toContain("error");
      if (mode === "before-release") expect(parts).not.toContain("text-delta");
    }
  });
});

describe("our own client", () => {
  test("finds over the proxy what it finds at the gateway, without asking for the receipt", async () => {
    const { proxy } = await over({}, { mode: "after" });
    const assay = new Assay({ url: proxy.url, verify: "off" });
    expect(await assay.chat.stream(ask).final()).toMatchObject({ text: "The answer is 42." });
    expect(await assay.models()).toHaveLength(1);
  });
});

describe("what a request is given on its way", () => {
  test("routing and a token where it has none; its own win", async () => {
    const { proxy, gateway } = await over(
      {},
      { token: "assay_default", routing: { objective: "price", jurisdiction: ["EU", "CH"], maxLatencyMs: 900 } },
    );
    const headers = { "content-type": "application/json", cookie: "a=b", "x-other": "1" };
    await post(proxy, JSON.stringify(ask), { headers });
    await post(proxy, JSON.stringify(ask), {
      headers: {
        ...headers,
        authorization: "Bearer assay_mine",
        "assay-objective": "latency",
        "x-settlement-type": "private",
      },
    });
    const [first, , second] = gateway.calls.map(({ headers }) => Object.fromEntries(headers));
    expect(first).toMatchObject({
      authorization: "Bearer assay_default",
      "assay-objective": "price",
      "assay-jurisdiction": "EU,CH",
      "assay-max-latency-ms": "900",
    });
    expect(second).toMatchObject({
      authorization: "Bearer assay_mine",
      "assay-objective": "latency",
      "x-settlement-type": "private",
    });
    for (const seen of [first, second]) expect(Object.keys(seen ?? {})).not.toEqual(expect.arrayContaining(["cookie"]));
    expect(first?.["x-other"]).toBeUndefined();
  });

  test("a policy that is not met, and a receipt that cannot be kept, hold the answer back", async () => {
    const strict = await over({}, { policy: { modes: ["tee"] } });
    const refused = await post(strict.proxy, JSON.stringify(ask));
    expect([refused.status, refused.headers.get("assay-verdict"), await codeOf(refused)]).toEqual([
      502,
      "mode_refused",
      "receipt_failed",
    ]);
    const full = await over({}, {}, { onReceipt: () => Promise.reject(new Error("disk full")) });
    expect(await codeOf(await post(full.proxy, JSON.stringify(ask)))).toBe("receipt_not_kept");
  });

  test("without trust the gateway's own is taken, and health says so", async () => {
    const { proxy, receipts } = await over({}, { trust: undefined } as unknown as ProxyOptions);
    expect((await post(proxy, JSON.stringify(ask))).status).toBe(200);
    expect(receipts[0]?.verdict).toMatchObject({ status: "verified", pinned: false });
    expect(await (await fetch(`${proxy.url}/health`)).json()).toEqual({
      status: "ok",
      gateway: "ready",
      verify: "before-release",
      pinned: false,
    });
  });
});

describe("whom it serves", () => {
  test("only who asks for the loopback by name: rebound names are refused", async () => {
    const { proxy } = await over({}, { allowedHosts: ["assay.internal"] });
    const status = async (host: string): Promise<number | undefined> =>
      (await raw(proxy, "/health", { host })).statusCode;
    for (const host of ["127.0.0.1", `localhost:${proxy.port}`, "[::1]:1", "LOCALHOST", "assay.internal:80"])
      expect(await status(host), host).toBe(200);
    for (const host of [
      "evil.example",
      "127.0.0.1.evil.example",
      "localhost.evil.example:8403",
      "127.0.0.1:x",
      "0.0.0.0",
    ])
      expect(await status(host), host).toBe(403);
  });

  test("no page, unless its origin was named", async () => {
    const { proxy, gateway } = await over({}, { allowedOrigins: ["https://chat.example"] });
    const from = (origin: string, method = "POST") =>
      raw(proxy, "/v1/chat/completions", { origin, "content-type": "application/json" }, method);
    for (const origin of [
      "https://evil.example",
      "null",
      proxy.url,
      "https://chat.example.evil",
      "http://chat.example",
    ]) {
      const response = await from(origin);
      expect(response.statusCode, origin).toBe(403);
      expect(response.headers["access-control-allow-origin"]).toBeUndefined();
      expect((await from(origin, "OPTIONS")).statusCode, origin).toBe(403);
    }
    expect(gateway.calls).toHaveLength(0);
    const allowed = await from("https://chat.example");
    expect([allowed.statusCode, allowed.headers["access-control-allow-origin"]]).toEqual([200, "https://chat.example"]);
    expect(allowed.headers["access-control-allow-credentials"]).toBeUndefined();
    const before = await from("https://chat.example", "OPTIONS");
    expect([before.statusCode, before.headers["access-control-allow-methods"]]).toEqual([204, "GET, POST"]);
  });

  test("what a page can send without being asked is not taken: other types than JSON, compressed bodies", async () => {
    const { proxy, gateway } = await over();
    for (const headers of [
      { "content-type": "text/plain" },
      { "content-type": "application/x-www-form-urlencoded" },
      { "content-type": "application/json", "content-encoding": "gzip" },
    ]) {
      const response = await post(proxy, JSON.stringify(ask), { headers });
      expect([response.status, await codeOf(response)]).toEqual([415, "content_type_unsupported"]);
    }
    expect(gateway.calls).toHaveLength(0);
  });

  test("other machines only when told to", async () => {
    for (const host of ["0.0.0.0", "::", "192.0.2.1", "assay.internal"])
      expect(await thrown(createProxy({ upstreamUrl: UPSTREAM, host, port: 0 }))).toMatchObject({
        code: "proxy_exposed",
      });
    const { proxy } = await over({}, { host: "0.0.0.0", exposed: true });
    expect((await fetch(`http://127.0.0.1:${proxy.port}/health`)).status).toBe(200);
  });

  test("an upstream that is none, trust that is none and a port that is taken are refused at once", async () => {
    const { proxy } = await over();
    expect(await thrown(createProxy({ upstreamUrl: "ftp://x", port: 0 }))).toMatchObject({
      code: "gateway_url_invalid",
    });
    expect(await thrown(createProxy({ upstreamUrl: UPSTREAM, port: 0, trust: "{}" }))).toMatchObject({
      code: "trust_invalid",
    });
    expect(await thrown(createProxy({ upstreamUrl: UPSTREAM, port: proxy.port }))).toMatchObject({
      code: "listen_failed",
    });
  });

  test("no other routes, and no way around by a model's name", async () => {
    const { proxy, gateway } = await over();
    for (const path of [
      "/",
      "/v1",
      "/v1/receipts",
      "/v1/auth/token",
      "/v1/models/a/b/files/c",
      "/v1/models/%2e%2e%2ftrust",
      "/v1/models/..",
    ]) {
      const response = await raw(proxy, path, { host: "127.0.0.1" });
      expect(response.statusCode, path).toBe(404);
    }
    expect((await fetch(`${proxy.url}/v1/chat/completions`)).status).toBe(404);
    expect((await fetch(`${proxy.url}/v1/models`, { method: "POST" })).status).toBe(404);
    expect(gateway.calls).toHaveLength(0);
    await fetch(`${proxy.url}/v1/models/acme%2Fllm`);
    expect(gateway.calls.map(({ path }) => path)).toEqual(["/v1/models/acme%2Fllm"]);
  });
});

describe("what has a price", () => {
  const quote = (accepts: readonly object[]): Response =>
    Response.json(
      { error: { message: "Pay.", type: "invalid_request_error", param: null, code: "payment_required" } },
      {
        status: 402,
        headers: {
          "payment-required": Buffer.from(
            JSON.stringify({ x402Version: 2, resource: { url: `${UPSTREAM}/v1/chat/completions` }, accepts }),
          ).toString("base64"),
        },
      },
    );
  const usdc = {
    symbol: "USDC",
    address: `0x${"a".repeat(40)}`,
    decimals: 6,
    network: "eip155:84532",
  } as const;
  const requirement = {
    scheme: "exact",
    network: usdc.network,
    amount: "2000",
    asset: usdc.address,
    payTo: `0x${"1".repeat(40)}`,
    maxTimeoutSeconds: 900,
    extra: { name: "USDC", version: "2" },
  };
  /** A gateway that asks for `accepts`, and a payer whose signatures are counted. */
  const priced = async (
    accepts: readonly object[],
    policy: Partial<SpendPolicy> = {},
    options: Partial<ProxyOptions> = {},
  ) => {
    let signatures = 0;
    const payer: Payer = createPayer({
      signer: {
        address: `0x${"b".repeat(40)}`,
        signDigest: () => {
          signatures++;
          return Promise.resolve(new Uint8Array(65).fill(27));
        },
      },
      suite: nobleEvmSuite,
      policy: { assets: [spendLimit(usdc, { perCall: "0.01", perHour: "0.015" })], ...policy },
      now: () => 1_000_000_000_000,
      sleep: () => Promise.resolve(),
    });
    const intercept: GatewayScript["intercept"] = ({ path, headers }) =>
      path.startsWith("/v1/chat") && !headers.has("payment-signature") ? quote(accepts) : undefined;
    return { ...(await over({ intercept }, options, { payer })), signatures: () => signatures };
  };

  const hostile: readonly [string, object, Partial<SpendPolicy>, string][] = [
    ["more than a call may cost", { amount: "10001" }, {}, "spend_over_call"],
    ["all there is", { amount: String(2n ** 256n - 1n) }, {}, "spend_over_call"],
    ["another token", { asset: `0x${"c".repeat(40)}` }, {}, "spend_asset_unknown"],
    ["another network", { network: "eip155:1" }, {}, "spend_asset_unknown"],
    ["for somebody who is not allowed", {}, { payees: [`0x${"2".repeat(40)}`] }, "spend_payee_refused"],
  ];
  test.each(hostile)(
    "a quote of %s is refused in OpenAI's words, and nothing is signed",
    async (_what, changes, policy, code) => {
      const { client, signatures, events } = await priced([{ ...requirement, ...changes }], policy);
      const error = await thrown(client.chat.completions.create(ask));
      expect(error).toMatchObject({ status: 402, code });
      expect([signatures(), events.at(-1)?.failure]).toEqual([0, code]);
    },
  );

  test("ways that are not known are refused", async () => {
    const { client } = await priced([{ ...requirement, scheme: "barter" }]);
    expect(await thrown(client.chat.completions.create(ask))).toMatchObject({ status: 402, code: "payment_unpayable" });
  });

  test("the proxy's own limit for a call holds beside the policy", async () => {
    const { client, signatures } = await priced([requirement], {}, { maxSpend: "0.001" });
    expect(await thrown(client.chat.completions.create(ask))).toMatchObject({ status: 402, code: "spend_over_call" });
    expect(signatures()).toBe(0);
  });

  test("within the policy it is paid; a receipt that names no payment holds the answer back", async () => {
    const { client, signatures, gateway } = await priced([requirement]);
    expect(await thrown(client.chat.completions.create(ask))).toMatchObject({ status: 502, code: "receipt_failed" });
    expect(signatures()).toBe(1);
    expect(gateway.calls.filter(({ headers }) => headers.has("payment-signature"))).toHaveLength(1);
  });

  test("the limit of the hour ends it", async () => {
    const { client, signatures } = await priced([{ ...requirement, amount: "10000" }]);
    await thrown(client.chat.completions.create(ask));
    expect(await thrown(client.chat.completions.create(ask))).toMatchObject({ status: 402, code: "spend_over_hour" });
    expect(signatures()).toBe(1);
  });

  test("whoever brings a payment pays by it", async () => {
    const { proxy, signatures, gateway } = await priced([requirement]);
    const answer = await post(proxy, JSON.stringify(ask), {
      headers: { "content-type": "application/json", "payment-signature": "mine", "idempotency-key": "one" },
    });
    expect(answer.status).toBe(200);
    expect(gateway.calls[0]?.headers.get("payment-signature")).toBe("mine");
    expect(gateway.calls[0]?.headers.get("idempotency-key")).toBe("one");
    expect(signatures()).toBe(0);
  });

  test("without a payer the gateway's 402 comes through as it is", async () => {
    const { client } = await over({
      intercept: ({ path }) => (path.startsWith("/v1/chat") ? quote([requirement]) : undefined),
    });
    expect(await thrown(client.chat.completions.create(ask))).toMatchObject({ status: 402, code: "payment_required" });
  });
});

describe("limits", () => {
  test("a body that is too large is not read on", async () => {
    const { proxy, gateway } = await over({}, { limits: { maxBodyBytes: 1000 } });
    const large = JSON.stringify({ ...ask, user: "x".repeat(1000) });
    const declared = await post(proxy, large);
    expect([declared.status, await codeOf(declared)]).toEqual([413, "request_too_large"]);
    const streamed = await post(proxy, "", { body: new Blob([large]).stream(), duplex: "half" } as RequestInit);
    expect([streamed.status, await codeOf(streamed)]).toEqual([413, "request_too_large"]);
    expect(gateway.calls).toHaveLength(0);
    expect((await post(proxy, JSON.stringify(ask))).status).toBe(200);
  });

  test("more requests at a time than allowed are sent away, and there is room again after one", async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let reached = (): void => undefined;
    const there = new Promise<void>((resolve) => {
      reached = resolve;
    });
    const { proxy } = await over(
      {
        gate: () => {
          reached();
          return held;
        },
      },
      { limits: { maxConcurrent: 1 } },
    );
    const first = post(proxy, JSON.stringify({ ...ask, stream: true }));
    await there;
    const second = await post(proxy, JSON.stringify(ask));
    expect([second.status, second.headers.get("retry-after"), await codeOf(second)]).toEqual([
      503,
      "1",
      "proxy_overloaded",
    ]);
    expect((await fetch(`${proxy.url}/health`)).status).toBe(200);
    release();
    expect((await first).status).toBe(200);
    expect((await post(proxy, JSON.stringify(ask))).status).toBe(200);
  });

  test("a request that does not arrive is given up", async () => {
    const { proxy, gateway } = await over({}, { limits: { requestTimeoutMs: 100 } });
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect(proxy.port, "127.0.0.1", () =>
        socket.write("POST /v1/chat/completions HTTP/1.1\r\nhost: "),
      );
      let text = "";
      socket.on("data", (chunk) => {
        text += String(chunk);
      });
      socket.on("close", () => resolve(text));
      socket.on("error", reject);
    });
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect(gateway.calls).toHaveLength(0);
  });

  test("a list of models without end is not passed on", async () => {
    const piece = new Uint8Array(4 * 1024 * 1024);
    const endless = new ReadableStream<Uint8Array>({ pull: (controller) => controller.enqueue(piece) });
    const { proxy } = await over({ intercept: () => new Response(endless) });
    const response = await fetch(`${proxy.url}/v1/models`);
    expect([response.status, await codeOf(response)]).toEqual([502, "response_too_large"]);
  });

  test("an answer that stands still is given up", async () => {
    const { proxy, gateway } = await over(
      { gate: (block) => (block === 2 ? new Promise(() => undefined) : Promise.resolve()) },
      { limits: { answerTimeoutMs: 30 } },
    );
    const response = await post(proxy, JSON.stringify({ ...ask, stream: true }));
    expect([response.status, await codeOf(response)]).toEqual([502, "gateway_timeout"]);
    expect(gateway.left()).toBe(1);
  });

  test.each(["before-release", "after"] as const)("a client that leaves stops the gateway (%s)", async (mode) => {
    let reached = (): void => undefined;
    const there = new Promise<void>((resolve) => {
      reached = resolve;
    });
    let ended = (): void => undefined;
    const over_ = new Promise<void>((resolve) => {
      ended = resolve;
    });
    const { proxy, gateway, events } = await over(
      {
        gate: (block) => {
          if (block < 2) return Promise.resolve();
          reached();
          return new Promise(() => undefined);
        },
      },
      { mode },
      { onEvent: () => ended() },
    );
    const stop = new AbortController();
    const work = post(proxy, JSON.stringify({ ...ask, stream: true }), { signal: stop.signal }).then((response) =>
      response.text(),
    );
    await there;
    stop.abort();
    expect(await thrown(work)).toMatchObject({ name: "AbortError" });
    await over_;
    expect(gateway.left()).toBe(1);
    expect(events).toEqual([]);
  });

  test("a client that does not read is not read for: the gateway waits", async () => {
    const filler = "x".repeat(256 * 1024);
    let asked = 0;
    const steps = Array.from({ length: 64 }, () => ({ index: 0, delta: { content: filler }, finish_reason: null }));
    let stalled = (): void => undefined;
    const cut = new Promise<void>((resolve) => {
      stalled = resolve;
    });
    const { proxy } = await over(
      {
        steps: () => [...steps, { index: 0, delta: {}, finish_reason: "stop" as const }],
        gate: () => {
          asked++;
          return Promise.resolve();
        },
      },
      { mode: "after", limits: { stallMs: 200 } },
      { onEvent: () => stalled() },
    );
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest(
        `${proxy.url}/v1/chat/completions`,
        { method: "POST", headers: { "content-type": "application/json" }, agent: false },
        resolve,
      );
      request.on("error", reject);
      request.end(JSON.stringify({ ...ask, stream: true }));
    });
    // Nothing reads the response, so the connection fills and is cut after the time that a client may stall.
    await cut;
    expect(asked).toBeLessThan(60);
    response.destroy();
  });

  test("closing lets what runs end, and cuts what does not", async () => {
    let reached = (): void => undefined;
    const there = new Promise<void>((resolve) => {
      reached = resolve;
    });
    const { proxy, gateway } = await over({
      gate: (block) => {
        if (block === 0) return Promise.resolve();
        reached();
        return new Promise(() => undefined);
      },
    });
    const stuck = thrown(post(proxy, JSON.stringify({ ...ask, stream: true })));
    await there;
    await proxy.close();
    expect(await stuck).toBeInstanceOf(Error);
    expect(gateway.left()).toBe(1);
    expect(isAssayError(await thrown(fetch(`${proxy.url}/health`)))).toBe(false);
  });
});
