import { once } from "node:events";
import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import OpenAI from "openai";
import { AssayError, utf8ToBytes } from "@assay/core";
import type { Frame } from "@assay/protocol";
import { decodeSidecar } from "@assay/service-gateway";
import { afterEach, describe, expect, test } from "vitest";
import { PAYER, openDesk, payment } from "./paid-desk.ts";
import type { TestDesk } from "./paid-desk.ts";
import { openTextServer, scriptedExecutor } from "./text-server.ts";
import type { Script, ScriptedExecutor, TextServer, TextServerOptions } from "./text-server.ts";

// Payments around the text API: real HTTP, real recorder, real log; executors play scripts, and the desk has no chain.

let server: TextServer | undefined;
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
    yield await Promise.resolve(last({ object: "chat.completion", choices: [{ message: { content: "héllo" } }] }));
    return;
  }
  yield delta("Hél");
  yield delta("lo");
  yield END;
};

function pause(): Promise<void> {
  return new Promise((resolve) => {
    release = resolve;
  });
}

/** One token costs 10, a call 100: a request of 10 tokens in and 10 out is quoted at 300. */
const RATES = { "model:a/b": { call: 100, token: 10 } } as const;
const CAP = 300;

type World = { readonly server: TextServer; readonly desk: TestDesk; readonly executor: ScriptedExecutor };

async function open(
  script: Script = hello,
  options: Omit<TextServerOptions, "candidates"> & { readonly desk?: TestDesk } = {},
): Promise<World> {
  const desk = options.desk ?? openDesk(RATES);
  const executor = scriptedExecutor(script);
  server = await openTextServer({ candidates: [{ name: "one", executor }], ...options, desk });
  return { server, desk, executor };
}

type Asked = {
  readonly stream?: boolean;
  readonly path?: string;
  readonly content?: string;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
};

function ask(
  { url }: TextServer,
  { stream = false, path = "/v1/chat/completions", content = "x", headers, signal }: Asked = {},
) {
  return fetch(`${url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: "a/b", messages: [{ role: "user", content }], stream }),
    ...(signal ? { signal } : {}),
  });
}

const codeOf = async (response: Response): Promise<readonly [number, string]> => {
  const body = (await response.json()) as { readonly code: string; readonly error: { readonly code: string } };
  expect(body.error.code).toBe(body.code);
  return [response.status, body.code];
};
const decoded = (header: string | null): unknown => JSON.parse(atob(header ?? ""));
const STABLE = (response: Response): readonly (readonly [string, string])[] =>
  [...response.headers].filter(
    ([name]) =>
      !["date", "connection", "keep-alive", "assay-replayed", "content-length", "transfer-encoding"].includes(name),
  );

describe("without a payment", () => {
  test("a priced model answers 402 with what would pay, and nothing runs", async () => {
    const { server: at, executor } = await open(hello, {
      paid: { v1: ({ accepts }) => ({ x402Version: 1, accepts, error: "payment_required" }) },
    });
    const response = await ask(at);
    const v1 = (await response.clone().json()) as { readonly x402Version: unknown; readonly error: unknown };
    // For clients of the first version, beside OpenAI's error and not in its place.
    expect([v1.x402Version, v1.error]).toEqual([1, expect.objectContaining({ code: "payment_required" })]);
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.headers.get("access-control-expose-headers")).toContain("payment-required");
    expect(decoded(response.headers.get("payment-required"))).toEqual({
      amount: String(CAP),
      url: `${at.url}/v1/chat/completions`,
      mimeType: "application/json",
    });
    expect(await codeOf(response)).toEqual([402, "payment_required"]);
    expect([executor.taken(), at.receipts.length]).toEqual([0, 0]);
  });

  test("a model without a price is free, and its answer says nothing of payments", async () => {
    const { server: at } = await open(hello, { desk: openDesk({}) });
    const response = await ask(at);
    expect(response.status).toBe(200);
    expect(response.headers.get("payment-response")).toBeNull();
    expect(response.headers.get("cache-control")).toBeNull();
    const { service, openingBytes, owner } = await at.logged(response.headers.get("assay-receipt-id") ?? "");
    expect([service.payment, openingBytes, owner]).toEqual([undefined, 0, undefined]);
  });

  test("what could not run anyway is refused before anybody is asked to pay", async () => {
    const { server: at } = await open();
    const response = await fetch(`${at.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "a/b", messages: "none" }),
    });
    expect(response.status).toBe(400);
  });
});

describe("a paid answer", () => {
  test("is charged, and receipt, record and headers say so", async () => {
    const { server: at, desk } = await open();
    const response = await ask(at, { headers: payment("one", CAP, "upto") });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ object: "chat.completion" });
    // 100 for the call, 10 for each of 3 tokens in and 1 out.
    expect(decoded(response.headers.get("payment-response"))).toEqual({ success: true, amount: "140" });
    expect(response.headers.get("cache-control")).toBe("private, no-store");
    expect(response.headers.get("assay-answer-kept")).toBeNull();
    const id = response.headers.get("assay-receipt-id") ?? "";
    expect(desk.settled()).toEqual([{ receiptId: id, amount: 140n, nonce: "one" }]);
    const { service, owner } = await at.logged(id);
    expect(service.payment).toMatchObject({ payer: PAYER, scheme: "upto", amountAtomic: "140", settlement: "batch" });
    expect(service.price).toMatchObject({ amountAtomic: "140", rateSource: "listing:00" });
    expect(service.promises).toEqual({ answerKeptUntilMs: expect.any(Number) });
    expect(owner).toBe(`eip155:31337:${PAYER}`);
    const record = await at.log.read(Number(response.headers.get("assay-log-index")));
    expect(decodeSidecar(record?.claims ?? new Uint8Array()).payment).toEqual(utf8ToBytes("settle one 140"));
  });

  test("exact pays its price, whatever was used", async () => {
    const { server: at, desk } = await open();
    expect((await ask(at, { headers: payment("one", CAP) })).status).toBe(200);
    expect(desk.settled().map(({ amount }) => amount)).toEqual([300n]);
  });

  test("whose opening is to be kept costs that beside it, and not when it grew too large to be kept", async () => {
    const rates = { ...RATES, "service:openings": { call: 7 } } as const;
    const keep = { "assay-retention": "server-encrypted" };
    const { server: at, desk } = await open(hello, { desk: openDesk(rates) });
    expect(await codeOf(await ask(at, { headers: { ...payment("low", CAP, "upto"), ...keep } }))).toEqual([
      402,
      "payment_underpaid",
    ]);
    for (const stream of [false, true]) {
      const headers = { ...payment(`kept ${stream}`, CAP + 7, "upto"), ...keep };
      await (await ask(at, { stream, headers })).text();
    }
    expect(desk.settled().map(({ amount }) => amount)).toEqual([147n, 167n]);
    await at.close();
    const scripted = scriptedExecutor(hello);
    const large: typeof scripted = {
      ...scripted,
      execute(request) {
        const execution = scripted.execute(request);
        const responseFields = [{ name: "id", value: new Uint8Array(9 * 1024 * 1024) }];
        return { ...execution, finish: async () => ({ ...(await execution.finish()), responseFields }) };
      },
    };
    const again = { desk: openDesk(rates) };
    server = await openTextServer({ candidates: [{ name: "one", executor: large }], desk: again.desk });
    const response = await ask(server, { headers: { ...payment("large", CAP + 7, "upto"), ...keep } });
    await response.arrayBuffer();
    expect(response.headers.get("assay-retention")).toBe("none");
    expect(again.desk.settled().map(({ amount }) => amount)).toEqual([140n]);
  });

  test("costs what was quoted at most, however much was used", async () => {
    const long: Script = async function* long() {
      for (let i = 0; i < 40; i++) yield await Promise.resolve(delta("x"));
      yield END;
    };
    const { server: at, desk } = await open(long);
    await (await ask(at, { stream: true, headers: payment("one", CAP, "upto") })).text();
    expect(desk.settled().map(({ amount }) => amount)).toEqual([300n]);
  });

  test("of a caller with a token stays the token's owner's", async () => {
    const { server: at } = await open();
    const response = await ask(at, { headers: { ...payment("one", CAP), authorization: "Bearer assay_good" } });
    expect((await at.logged(response.headers.get("assay-receipt-id") ?? "")).owner).toBe("ed25519:aa");
  });

  test("the metric and the log line name it, without what was signed", async () => {
    const { server: at } = await open();
    await (await ask(at, { headers: payment("one", CAP) })).text();
    await expect.poll(() => at.lines.join("")).toContain('"paymentId":"0x');
    expect(at.lines.join("")).not.toContain(btoa("x"));
    expect(at.lines.join("")).not.toContain(payment("one", CAP)["payment-signature"]);
    const text = await at.modules.metrics.registry.metrics();
    expect(text).toContain('assay_payments_total{scheme="exact",outcome="charged"} 1');
  });
});

describe("a paid stream", () => {
  test("says first that it is settled later, and before its end what it cost", async () => {
    const { server: at, desk } = await open();
    const response = await ask(at, { stream: true, headers: payment("one", CAP, "upto") });
    expect(decoded(response.headers.get("payment-response"))).toMatchObject({ success: true, transaction: "" });
    expect(response.headers.get("cache-control")).toBe("private, no-store, no-transform");
    const text = await response.text();
    const settlement = /event: x402-settlement\ndata: (.*)\n\n: assay (.*)\n\ndata: \[DONE\]\n\n$/.exec(text);
    expect(JSON.parse(settlement?.[1] ?? "")).toEqual({
      success: true,
      paymentResponse: btoa(JSON.stringify({ success: true, amount: "160" })),
      // Whoever looks at the first choice of every frame finds one, which adds nothing.
      choices: [{ index: 0, delta: {}, finish_reason: null }],
    });
    expect(JSON.parse(settlement?.[2] ?? "")).toMatchObject({ receipt_id: desk.settled()[0]?.receiptId });
    expect(text.indexOf('finish_reason":"stop')).toBeLessThan(text.indexOf("x402-settlement"));
  });

  test.each(["/v1/chat/completions", "/v1/responses"])(
    "is read by OpenAI's client at %s as if it were free",
    async (path) => {
      const script: Script = async function* script({ parsed }) {
        if (parsed.dialect === "chat") {
          yield* hello({ parsed } as Parameters<Script>[0]);
          return;
        }
        const response = { id: "resp_1", object: "response", output: [], status: "in_progress" };
        yield {
          event: "response.created",
          data: JSON.stringify({ type: "response.created", sequence_number: 0, response }),
        };
        yield await Promise.resolve({
          event: "response.completed",
          data: JSON.stringify({
            type: "response.completed",
            sequence_number: 1,
            response: { ...response, status: "completed" },
          }),
          final: true as const,
        });
      };
      const { server: at, desk } = await open(script);
      const client = new OpenAI({
        baseURL: `${at.url}/v1`,
        apiKey: "sk-x",
        defaultHeaders: payment("one", CAP),
        maxRetries: 0,
      });
      if (path === "/v1/responses") {
        const stream = client.responses.stream({ model: "a/b", input: "x" });
        expect((await stream.finalResponse()).status).toBe("completed");
      } else {
        let content = "";
        for await (const chunk of await client.chat.completions.create({
          model: "a/b",
          messages: [{ role: "user", content: "x" }],
          stream: true,
        }))
          content += chunk.choices[0]?.delta.content ?? "";
        expect(content).toBe("Héllo");
      }
      expect(desk.settled()).toHaveLength(1);
    },
  );

  test("that its client leaves is charged for what was produced, and can be had again", async () => {
    const slow: Script = async function* slow({ signal }) {
      yield delta("one");
      yield delta("two");
      await Promise.race([pause(), once(signal, "abort")]);
      yield END;
    };
    const { server: at, desk, executor } = await open(slow);
    const headers = { "content-type": "application/json", ...payment("one", CAP, "upto") };
    const sent = httpRequest(`${at.url}/v1/chat/completions`, { method: "POST", agent: false, headers });
    sent.on("error", () => undefined);
    sent.end(JSON.stringify({ model: "a/b", messages: [{ role: "user", content: "x" }], stream: true }));
    const [response] = (await once(sent, "response")) as [IncomingMessage];
    response.on("error", () => undefined);
    await once(response, "data");
    response.destroy();
    await expect.poll(() => desk.settled().length).toBe(1);
    // 3 tokens in and the 2 that came out.
    expect(desk.settled()[0]?.amount).toBe(150n);
    expect((await at.logged(desk.settled()[0]?.receiptId ?? "")).execution.finishReason).toBe("incomplete");
    const again = await ask(at, { stream: true, headers: payment("one", CAP, "upto") });
    expect([again.status, again.headers.get("assay-replayed")]).toEqual([200, "true"]);
    const text = await again.text();
    expect(text).toContain('"two"');
    expect(text).toContain("request_cancelled");
    expect(text).not.toContain("[DONE]");
    expect(executor.taken()).toBe(1);
  });
});

test("a paid answer of the Responses API says in its comment what it cost", async () => {
  const script: Script = async function* script() {
    yield await Promise.resolve({
      event: "response.completed",
      data: '{"type":"response.completed"}',
      final: true as const,
    });
  };
  const { server: at } = await open(script);
  const response = await fetch(`${at.url}/v1/responses`, {
    method: "POST",
    headers: { "content-type": "application/json", ...payment("one", CAP, "upto") },
    body: JSON.stringify({ model: "a/b", input: "x", stream: true }),
  });
  const comment = /: assay (.*)\n\n$/.exec(await response.text());
  expect(JSON.parse(comment?.[1] ?? "")).toMatchObject({
    receipt_id: at.receipts[0],
    settlement: { success: true, paymentResponse: btoa(JSON.stringify({ success: true, amount: "140" })) },
  });
});

describe("once", () => {
  test.each([false, true])(
    "the same payment again gets the same answer, byte for byte (stream: %s)",
    async (stream) => {
      const { server: at, desk, executor } = await open();
      const first = await ask(at, { stream, headers: payment("one", CAP, "upto") });
      const [body, headers] = [Buffer.from(await first.arrayBuffer()), STABLE(first)];
      const again = await ask(at, { stream, headers: payment("one", CAP, "upto") });
      expect(again.headers.get("assay-replayed")).toBe("true");
      expect(STABLE(again)).toEqual(headers);
      expect(Buffer.from(await again.arrayBuffer()).equals(body)).toBe(true);
      expect([executor.taken(), desk.settled().length, at.receipts.length]).toEqual([1, 1, 1]);
    },
  );

  test("two copies in parallel: one runs, the other hears so", async () => {
    const slow: Script = async function* slow(request) {
      await pause();
      yield* hello(request);
    };
    const { server: at, desk, executor } = await open(slow);
    const first = ask(at, { headers: payment("one", CAP) });
    await expect.poll(() => executor.running()).toBe(1);
    const second = await ask(at, { headers: payment("one", CAP) });
    expect(second.headers.get("retry-after")).toBe("1");
    expect(await codeOf(second)).toEqual([409, "payment_in_flight"]);
    release();
    expect((await first).status).toBe(200);
    expect([executor.taken(), desk.settled().length]).toEqual([1, 1]);
  });

  test("50 copies in parallel run once", async () => {
    const { server: at, executor } = await open();
    const answers = await Promise.all(Array.from({ length: 50 }, () => ask(at, { headers: payment("one", CAP) })));
    const ids = new Set<string | null>();
    for (const answer of answers) {
      await answer.arrayBuffer();
      expect([200, 409]).toContain(answer.status);
      if (answer.status === 200) ids.add(answer.headers.get("assay-receipt-id"));
    }
    expect([ids.size, executor.taken(), at.receipts.length]).toEqual([1, 1, 1]);
  });

  test.each([
    ["another body", { content: "y" }],
    ["another path", { path: "/v1/responses" }],
  ] as const)("%s with the same payment is refused", async (_, change) => {
    const { server: at, executor } = await open();
    await (await ask(at, { headers: payment("one", CAP) })).text();
    const { path = "/v1/chat/completions", content = "x" } = change as { path?: string; content?: string };
    const body =
      path === "/v1/responses"
        ? { model: "a/b", input: content }
        : { model: "a/b", messages: [{ role: "user", content }], stream: false };
    const refused = await fetch(`${at.url}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...payment("one", CAP) },
      body: JSON.stringify(body),
    });
    expect(await codeOf(refused)).toEqual([409, "payment_bound"]);
    expect(executor.taken()).toBe(1);
  });

  test("who wants nothing kept gets nothing twice, and is told so before", async () => {
    const { server: at, desk } = await open();
    const headers = { ...payment("one", CAP), "assay-retention": "none" };
    const first = await ask(at, { headers });
    expect([first.status, first.headers.get("assay-answer-kept")]).toEqual([200, "false"]);
    const id = first.headers.get("assay-receipt-id") ?? "";
    const { service, openingBytes } = await at.logged(id);
    expect([service.promises, openingBytes]).toEqual([undefined, 0]);
    const again = await ask(at, { headers });
    const text = await again.clone().text();
    expect(await codeOf(again)).toEqual([409, "answer_not_kept"]);
    expect(text).toContain(id);
    expect(desk.settled()).toHaveLength(1);
  });

  test("an answer larger than what is kept is sent all the same, and says that it is not kept", async () => {
    const huge: Script = async function* huge({ parsed }) {
      const content = "x".repeat(9 * 1024 * 1024);
      if (parsed.stream) yield await Promise.resolve(delta(content));
      yield parsed.stream ? END : last({ content });
    };
    const { server: at, desk } = await open(huge);
    const whole = await ask(at, { headers: payment("one", CAP) });
    expect((await whole.text()).length).toBeGreaterThan(9 * 1024 * 1024);
    expect(whole.headers.get("assay-answer-kept")).toBe("false");
    const stream = await ask(at, { stream: true, headers: payment("two", CAP) });
    expect(await stream.text()).toContain('"answer_kept":false');
    expect(await codeOf(await ask(at, { headers: payment("one", CAP) }))).toEqual([409, "answer_not_kept"]);
    expect(desk.settled()).toHaveLength(2);
  });

  test("an answer is given for as long as it is kept", async () => {
    let nowMs = Date.now();
    const { server: at } = await open(hello, { paid: { keepMs: 1000, now: () => nowMs } });
    await (await ask(at, { headers: payment("one", CAP) })).text();
    expect((await ask(at, { headers: payment("one", CAP) })).status).toBe(200);
    nowMs += 1000;
    expect(await codeOf(await ask(at, { headers: payment("one", CAP) }))).toEqual([409, "answer_not_kept"]);
  });

  test("an answer that another gateway has sealed is not here", async () => {
    const { server: at } = await open();
    await (await ask(at, { headers: payment("one", CAP) })).text();
    const sealed = at.modules.vault;
    Object.assign(sealed, {
      answer: () => {
        throw new AssayError("opening_unreadable", "It is sealed with another secret.");
      },
    });
    expect(await codeOf(await ask(at, { headers: payment("one", CAP) }))).toEqual([409, "answer_not_kept"]);
    expect(at.lines.join("")).toContain("another secret");
  });

  test("an erased opening takes the answer with it", async () => {
    const { server: at } = await open();
    const first = await ask(at, { headers: payment("one", CAP) });
    await at.log.eraseOpening(Number(first.headers.get("assay-log-index")));
    expect(await codeOf(await ask(at, { headers: payment("one", CAP) }))).toEqual([409, "answer_not_kept"]);
  });

  test("an opening that its owner keeps is there beside the answer", async () => {
    const { server: at } = await open();
    const first = await ask(at, { headers: { ...payment("one", CAP), "assay-retention": "server-encrypted" } });
    const id = first.headers.get("assay-receipt-id") ?? "";
    const { service } = await at.logged(id);
    expect(service.retention).toBe("server-encrypted");
    const record = await at.log.read(Number(first.headers.get("assay-log-index")));
    const openings = at.modules.vault.open(Buffer.from(id, "hex"), record?.opening ?? new Uint8Array());
    expect(openings?.map(({ side }) => side)).toEqual(["request", "response"]);
    expect((await ask(at, { headers: { ...payment("one", CAP), "assay-retention": "server-encrypted" } })).status).toBe(
      200,
    );
  });
});

describe("a stream that takes longer than its payment is good for", () => {
  test("is ended in time, and what was sent of it is charged", async () => {
    const script: Script = async function* script(request) {
      yield await Promise.resolve(delta("as much as came"));
      await Promise.race([pause(), once(request.signal, "abort")]);
      throw new AssayError("request_cancelled", "It was ended.");
    };
    const desk = openDesk(RATES, { goodForMs: 2000 });
    const { server: at } = await open(script, { desk });
    const text = await (await ask(at, { stream: true, headers: payment("one", CAP, "upto") })).text();
    expect([text.includes("as much as came"), text.includes("payment_expired"), text.includes("[DONE]")]).toEqual([
      true,
      true,
      false,
    ]);
    expect([desk.releases(), desk.settled().length]).toEqual([0, 1]);
  });

  test("because its caller does not read it, is ended all the same", async () => {
    const script: Script = async function* script(request) {
      while (!request.signal.aborted) yield await Promise.resolve(delta("x".repeat(65_536)));
      throw new AssayError("request_cancelled", "It was ended.");
    };
    const desk = openDesk(RATES, { goodForMs: 2000 });
    const { server: at } = await open(script, { desk });
    // Fetched, and never read: the connection fills up.
    const stream = await ask(at, { stream: true, headers: payment("one", CAP, "upto") });
    await expect.poll(() => desk.settled().length, { timeout: 15_000 }).toBe(1);
    expect(desk.releases()).toBe(0);
    await stream.body?.cancel();
  });
});

describe("nothing is charged", () => {
  test.each([
    ["a header that is none", { "payment-signature": "%%%" }, 400, "payment_malformed"],
    ["a payment of less than the quote", payment("one", CAP - 1), 402, "payment_underpaid"],
  ])("for %s", async (_, headers, status, code) => {
    const { server: at, desk, executor } = await open();
    expect(await codeOf(await ask(at, { headers }))).toEqual([status, code]);
    expect([desk.taken(), executor.taken()]).toEqual([0, 0]);
  });

  test.each([false, true])(
    "when the engine fails before output, and the payment may be tried again (stream: %s)",
    async (stream) => {
      let failing = true;
      const script: Script = async function* script(request) {
        if (failing) throw new AssayError("engine_unavailable", "It is not there.");
        yield* hello(request);
      };
      const { server: at, desk } = await open(script);
      expect(await codeOf(await ask(at, { stream, headers: payment("one", CAP) }))).toEqual([
        503,
        "engine_unavailable",
      ]);
      expect([desk.releases(), desk.settled().length]).toEqual([1, 0]);
      failing = false;
      const again = await ask(at, { stream, headers: payment("one", CAP) });
      await again.text();
      expect([again.status, desk.settled().length]).toEqual([200, 1]);
    },
  );

  test("when the engine fails in the midst of a stream, whose receipt stands without a payment", async () => {
    const script: Script = async function* script() {
      yield await Promise.resolve(delta("one"));
      throw new AssayError("engine_interrupted", "It broke off.");
    };
    const { server: at, desk } = await open(script);
    const response = await ask(at, { stream: true, headers: payment("one", CAP) });
    expect(await response.text()).toContain("engine_interrupted");
    expect([desk.releases(), desk.settled().length, at.receipts.length]).toEqual([1, 0, 1]);
    expect((await at.logged(at.receipts[0] ?? "")).service.payment).toBeUndefined();
  });

  test("for an answer in one piece that takes longer than its payment is good for, which is not given", async () => {
    const script: Script = async function* script(request) {
      yield await Promise.resolve(delta("most of it"));
      await Promise.race([pause(), once(request.signal, "abort")]);
      throw new AssayError("request_cancelled", "It was ended.");
    };
    const desk = openDesk(RATES, { goodForMs: 100 });
    const { server: at } = await open(script, { desk });
    const refused = await ask(at, { headers: payment("one", CAP) });
    expect(await codeOf(refused)).toEqual([400, "payment_expired"]);
    expect([desk.releases(), desk.settled()]).toEqual([1, []]);
  });

  test("and nothing is kept of what its caller left before it had to be paid", async () => {
    let begun = false;
    const script: Script = async function* script(request) {
      yield await Promise.resolve(delta("most of it"));
      begun = true;
      await Promise.race([pause(), once(request.signal, "abort")]);
      throw new AssayError("request_cancelled", "It was left.");
    };
    const keep = { "assay-retention": "server-encrypted" };
    const { server: at, desk } = await open(script);
    const leaving = new AbortController();
    const gone = ask(at, { headers: { ...payment("one", CAP), ...keep }, signal: leaving.signal }).catch(() => "gone");
    await expect.poll(() => begun).toBe(true);
    leaving.abort();
    expect(await gone).toBe("gone");
    await expect.poll(() => at.receipts.length).toBe(1);
    expect([desk.releases(), desk.settled().length]).toEqual([1, 0]);
    const { service, openingBytes } = await at.logged(at.receipts[0] ?? "");
    expect([service.payment, service.retention, openingBytes]).toEqual([undefined, "none", 0]);
  });

  test.each([false, true])("when no receipt can be written (stream: %s)", async (stream) => {
    let full = true;
    const { server: at, desk } = await open(hello, {
      recorder: (recorder) => ({
        ...recorder,
        record: (draft) => {
          if (!full) return recorder.record(draft);
          // As the recorder does when an append fails: the payment is told, then the caller.
          draft.payment?.lost();
          return Promise.reject(new AssayError("log_full", "No space is left."));
        },
      }),
    });
    const refused = await ask(at, { stream, headers: payment("one", CAP) });
    const text = await refused.text();
    expect(text).toContain("log_full");
    expect(text).not.toContain("[DONE]");
    expect([desk.releases(), desk.settled().length]).toEqual([1, 0]);
    full = false;
    const again = await ask(at, { stream, headers: payment("one", CAP) });
    await again.text();
    expect([again.status, desk.settled().length]).toEqual([200, 1]);
  });

  test("when the log does not answer the payment is neither charged nor given back: the log will tell", async () => {
    const { server: at, desk } = await open(hello, {
      recorder: (recorder) => ({
        ...recorder,
        record: () => Promise.reject(new AssayError("log_unreachable", "The log does not answer.")),
      }),
    });
    expect((await ask(at, { headers: payment("one", CAP) })).status).toBe(503);
    expect([desk.releases(), desk.settled().length]).toEqual([0, 0]);
    expect(await codeOf(await ask(at, { headers: payment("one", CAP) }))).toEqual([409, "payment_in_flight"]);
  });

  test("when the client leaves before the first frame", async () => {
    const slow: Script = async function* slow(request) {
      await Promise.race([pause(), once(request.signal, "abort")]);
      yield* hello(request);
    };
    const { server: at, desk, executor } = await open(slow);
    const leaving = new AbortController();
    const gone = ask(at, { headers: payment("one", CAP), signal: leaving.signal }).catch(() => "gone");
    await expect.poll(() => executor.running()).toBe(1);
    leaving.abort();
    expect(await gone).toBe("gone");
    await expect.poll(() => desk.releases()).toBe(1);
    expect(desk.settled()).toEqual([]);
  });
});

describe("a GET on a route that has a price", () => {
  const refund: NonNullable<TestDesk["refund"]> = (use, headers) =>
    Promise.resolve(
      headers["payment-signature"] === undefined
        ? {
            kind: "problem",
            problem: {
              status: 402,
              code: "payment_required",
              message: "What could pay.",
              headers: { "payment-required": btoa(use.subjects.join()) },
            },
          }
        : { kind: "done", status: 200, headers: { "payment-response": "x" }, body: '{"channelId":"0x01"}' },
    );
  const paths = ["/v1/chat/completions?model=a/b", "/v2/models/a%2Fb/infer"];

  test.each(paths)("says what could pay, and gives a channel's rest back (%s)", async (path) => {
    const { server: at, executor } = await open(hello, { desk: { ...openDesk(RATES), refund } });
    const offer = await fetch(`${at.url}${path}`);
    expect([offer.status, offer.headers.get("payment-required")]).toEqual([402, btoa("model:a/b")]);
    expect(((await offer.json()) as { code: string }).code).toBe("payment_required");
    const done = await fetch(`${at.url}${path}`, { headers: { "payment-signature": "refund" } });
    expect([done.status, done.headers.get("payment-response"), await done.json()]).toEqual([
      200,
      "x",
      { channelId: "0x01" },
    ]);
    expect(done.headers.get("cache-control")).toBe("private, no-store");
    expect(executor.taken()).toBe(0);
  });

  test.each(paths)("is not taken where there are no channels (%s)", async (path) => {
    const { server: at } = await open();
    const response = await fetch(`${at.url}${path}`, { headers: { "payment-signature": "refund" } });
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([405, "method_not_allowed"]);
  });
});

describe("a gateway in which nothing has a price", () => {
  test("does not look for one", async () => {
    const desk = openDesk(RATES);
    const { server: at } = await open(hello, { desk, paid: { allFree: () => true } });
    expect((await ask(at)).status).toBe(200);
    expect((await ask(at, { headers: payment("one", CAP) })).headers.get("payment-response")).toBeNull();
    expect(desk.taken()).toBe(0);
  });
});

describe("a settlement of its own", () => {
  const facts = { headers: { "x-settlement-tx-hash": "0x01" }, event: { transaction: "0x01" } };

  test("is in the head of the answer, again too", async () => {
    const asked: string[] = [];
    const { server: at } = await open(hello, {
      desk: openDesk(RATES, { settlement: "individual" }),
      paid: {
        individual: (receipt) => {
          asked.push(receipt.receiptId);
          return Promise.resolve(facts);
        },
      },
    });
    const first = await ask(at, { headers: payment("one", CAP) });
    const again = await ask(at, { headers: payment("one", CAP) });
    for (const response of [first, again]) expect(response.headers.get("x-settlement-tx-hash")).toBe("0x01");
    const stream = await ask(at, { stream: true, headers: payment("two", CAP) });
    expect(await stream.text()).toContain('"finish_reason":null}],"transaction":"0x01"}');
    expect(new Set(asked).size).toBe(2);
  });

  test("costs what its listing says beside the answer, and nothing where nobody anchors by itself", async () => {
    const rates = { ...RATES, "service:anchoring": { call: 9 } } as const;
    const alone = { "x-settlement-type": "Individual" };
    const desk = openDesk(rates, { settlement: "individual" });
    const { server: at } = await open(hello, { desk, paid: { individual: () => Promise.resolve(facts) } });
    expect(await codeOf(await ask(at, { headers: { ...payment("low", CAP), ...alone } }))).toEqual([
      402,
      "payment_underpaid",
    ]);
    for (const stream of [false, true])
      await (await ask(at, { stream, headers: { ...payment(`${stream}`, CAP + 9, "upto"), ...alone } })).text();
    expect(desk.settled().map(({ amount }) => amount)).toEqual([149n, 169n]);
    await at.close();
    const elsewhere = await open(hello, { desk: openDesk(rates, { settlement: "individual" }) });
    expect((await ask(elsewhere.server, { headers: { ...payment("one", CAP), ...alone } })).status).toBe(200);
    expect(elsewhere.desk.settled().map(({ amount }) => amount)).toEqual([BigInt(CAP)]);
  });

  test("that fails costs nobody the answer", async () => {
    const { server: at, desk } = await open(hello, {
      desk: openDesk(RATES, { settlement: "individual" }),
      paid: { individual: () => Promise.reject(new Error("no chain")) },
    });
    const response = await ask(at, { headers: payment("one", CAP) });
    expect([response.status, response.headers.get("x-settlement-tx-hash")]).toEqual([200, null]);
    expect(desk.settled()).toHaveLength(1);
    expect(at.lines.join("")).toContain("no chain");
  });
});
