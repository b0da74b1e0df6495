import { describe, expect, test } from "vitest";
import { bytesToUtf8, isAssayError, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { decodeBundle, disclosed, encodeBundle, viewReceipt } from "@assay/receipts";
import { makeTextGateway } from "@assay/testkit";
import type { GatewayScript, TextGateway } from "@assay/testkit";
import { createVerifier } from "@assay/verifier";
import { Assay, GatewayError, ReceiptError } from "./index.ts";
import type { AssayOptions, TextDelta } from "./index.ts";

const URL_OF = "http://gateway.test";
const ask = { model: "acme/llm", messages: [{ role: "user" as const, content: "What is 17 + 25?" }] };

async function over(
  script: GatewayScript = {},
  options: Partial<AssayOptions> = {},
): Promise<{ readonly assay: Assay; readonly gateway: TextGateway; readonly pauses: number[] }> {
  const gateway = await makeTextGateway(script, URL_OF);
  const pauses: number[] = [];
  const assay = new Assay({
    url: URL_OF,
    fetch: gateway.fetch,
    trust: gateway.trust,
    now: () => gateway.now,
    suite: nodeSuite,
    random: () => 1,
    sleep: (ms, signal) => {
      signal?.throwIfAborted();
      pauses.push(ms);
      return Promise.resolve();
    },
    ...options,
  });
  return { assay, gateway, pauses };
}

const thrown = async (work: Promise<unknown>): Promise<unknown> => {
  try {
    await work;
  } catch (error) {
    return error;
  }
  return undefined;
};
const code = async (work: Promise<unknown>): Promise<string> => {
  const error = await thrown(work);
  if (error === undefined) return "no error";
  if (isAssayError(error)) return error.code;
  throw error;
};
const collect = async (stream: AsyncIterable<TextDelta>): Promise<TextDelta[]> => {
  const out: TextDelta[] = [];
  for await (const delta of stream) out.push(delta);
  return out;
};
const verdictCode = (error: unknown): string | undefined =>
  error instanceof ReceiptError ? error.verdict?.code : undefined;

describe("chat", () => {
  test("gives text, usage and a receipt that was verified before the answer is handed out", async () => {
    const { assay, gateway } = await over();
    const answer = await assay.chat({ ...ask, temperature: 0, max_tokens: 5, assay: { jurisdiction: ["EU"] } });
    expect(answer).toMatchObject({
      text: "The answer is 42.",
      toolCalls: [],
      finishReason: "stop",
      usage: { total_tokens: 17 },
      verified: true,
      verdict: { status: "verified", pinned: true },
      receiptId: gateway.receiptIds[0],
      id: `chatcmpl-${gateway.receiptIds[0]}`,
    });
    const [call, bundle] = gateway.calls;
    expect(call?.path).toBe("/v1/chat/completions");
    expect(JSON.parse(bytesToUtf8(call?.body ?? new Uint8Array()))).toEqual({
      ...ask,
      temperature: 0,
      max_tokens: 5,
      assay: { jurisdiction: ["EU"] },
    });
    expect(call?.headers.get("authorization")).toBeNull();
    expect(bundle?.path).toMatch(/\/bundle\?waitMs=5000$/);
    expect(gateway.calls).toHaveLength(2);
  });

  test("the receipt is a file that opens question and answer, and verifies by itself", async () => {
    const { assay, gateway } = await over();
    const { bytes, receiptId } = await (await assay.chat(ask)).receipt();
    const verdict = await createVerifier({ trust: gateway.trust, suite: nodeSuite })(bytes, gateway.now);
    expect(verdict).toMatchObject({ status: "verified", receiptId });
    const taken = viewReceipt(nodeSuite, bytes);
    if ("fault" in taken) throw new Error(taken.fault.message);
    const texts = new Map(disclosed(taken.view).texts.map(({ side, name, text }) => [`${side} ${name}`, text]));
    expect(texts.get("request messages")).toContain("What is 17 + 25?");
    expect(texts.get("response choices")).toContain("The answer is 42.");
    expect(gateway.calls).toHaveLength(2);
  });

  test("the nonce that was sent stands in the receipt, another each time", async () => {
    const { assay, gateway } = await over();
    await assay.chat(ask);
    await assay.chat(ask);
    await assay.chat(ask, { nonce: new Uint8Array(8).fill(7) });
    const nonces = gateway.calls
      .map(({ headers }) => headers.get("assay-client-nonce"))
      .filter((sent) => sent !== null);
    expect(nonces[2]).toBe("0707070707070707");
    expect(new Set(nonces).size).toBe(3);
    expect(nonces[0]).toMatch(/^[0-9a-f]{32}$/);
  });

  test("tool calls and several choices come as OpenAI has them", async () => {
    const { assay } = await over({
      steps: () => [
        {
          index: 0,
          delta: { tool_calls: [{ index: 0, id: "call_1", function: { name: "add", arguments: '{"a":17}' } }] },
          finish_reason: null,
        },
        { index: 1, delta: { content: "42" }, finish_reason: "length" },
        { index: 0, delta: {}, finish_reason: "tool_calls" },
      ],
    });
    const request = {
      ...ask,
      n: 2,
      tools: [{ type: "function" as const, function: { name: "add" } }],
    };
    const expected = {
      text: "",
      finishReason: "tool_calls",
      toolCalls: [{ id: "call_1", type: "function", function: { name: "add", arguments: '{"a":17}' } }],
      choices: [{ index: 0 }, { index: 1, finishReason: "length", message: { content: "42" } }],
      verified: true,
    };
    expect(await assay.chat(request)).toMatchObject(expected);
    expect(await assay.chat.stream(request).final()).toMatchObject(expected);
  });

  test("routing defaults and the most that a call may cost stand in the request; a call's own options win", async () => {
    const { assay, gateway } = await over(
      {},
      { routing: { objective: "price", mode: "vanilla" }, maxSpend: "0.10", token: "assay_t" },
    );
    await assay.chat({ ...ask, assay: { objective: "latency", maxPrice: "0.1" } }, { retention: "server-encrypted" });
    await assay.chat(ask);
    const [first, , second] = gateway.calls;
    const assayOf = (body: Uint8Array | undefined) =>
      (JSON.parse(bytesToUtf8(body ?? new Uint8Array())) as { assay: unknown }).assay;
    expect(assayOf(first?.body)).toEqual({ objective: "latency", mode: "vanilla", maxPrice: "0.1" });
    expect(assayOf(second?.body)).toEqual({ objective: "price", mode: "vanilla", maxPrice: "0.10" });
    expect(first?.headers.get("authorization")).toBe("Bearer assay_t");
    expect(first?.headers.get("assay-retention")).toBe("server-encrypted");
    const spent = gateway.calls.length;
    expect(await code(assay.chat({ ...ask, assay: { maxPrice: "0.100000000000000001" } }))).toBe("spend_exceeded");
    expect(await code(assay.chat({ ...ask, assay: { maxPrice: "1e3" } }))).toBe("parameter_invalid");
    expect(gateway.calls).toHaveLength(spent);
    expect(() => new Assay({ maxSpend: "-1" })).toThrow(/decimal/);
  });

  test("a request that is too large is not sent", async () => {
    const { assay, gateway } = await over();
    const content = "x".repeat(32 * 1024 * 1024);
    expect(await code(assay.chat({ ...ask, messages: [{ role: "user", content }] }))).toBe("request_too_large");
    expect(gateway.calls).toHaveLength(0);
  });
});

describe("complete, embed, models, infer", () => {
  test("completions", async () => {
    const { assay } = await over();
    const request = { model: "acme/llm", prompt: "17 + 25 is", max_tokens: 4 };
    const expected = { text: "The answer is 42.", finishReason: "stop", verified: true };
    expect(await assay.complete(request)).toMatchObject(expected);
    const stream = assay.complete.stream(request);
    expect((await collect(stream)).map(({ text }) => text).join("")).toBe("The answer is 42.");
    expect(await stream.final()).toMatchObject(expected);
  });

  test("embeddings travel as base64 and arrive as float32", async () => {
    const { assay, gateway } = await over();
    const answer = await assay.embed({ model: "acme/embed", input: ["a", "b"] });
    expect(answer.vectors).toEqual([Float32Array.of(0, 0.5, -0.25), Float32Array.of(1, 0.5, -0.25)]);
    expect(answer).toMatchObject({ verified: true, usage: { prompt_tokens: 14 } });
    expect(bytesToUtf8(gateway.calls[0]?.body ?? new Uint8Array())).toContain('"encoding_format":"base64"');
  });

  test("models in OpenAI's words", async () => {
    const { assay } = await over();
    expect(await assay.models()).toEqual([{ id: "acme/llm", createdS: 1_795_255_200, ownedBy: "ed25519:00" }]);
    expect(assay.client.url).toBe(URL_OF);
  });

  test("tensors go the way they went before", async () => {
    const { assay, gateway } = await over();
    const input = { name: "x", datatype: "FP32" as const, shape: [1], data: new Uint8Array(4) };
    expect(await code(assay.infer({ model: "acme/net", inputs: [input] }))).toBe("route_not_found");
    expect(gateway.calls[0]?.path).toBe("/v2/models/acme%2Fnet/infer");
  });
});

describe("a stream", () => {
  test("gives text as it is made, and its end only after the verdict", async () => {
    const seen: string[] = [];
    const { assay, gateway } = await over({
      gate: (block) => {
        seen.push(`block ${block}`);
        return Promise.resolve();
      },
      intercept: ({ path }) => {
        if (path.includes("/bundle")) seen.push("bundle");
        return undefined;
      },
    });
    for await (const { text, finishReason } of assay.chat.stream(ask)) seen.push(finishReason ?? text);
    expect(seen.filter((entry) => !entry.startsWith("block"))).toEqual(["The answer", " is", " 42.", "bundle", "stop"]);
    // The first text is out before the second block was asked for.
    expect(seen.indexOf("The answer")).toBeLessThan(seen.indexOf("block 1"));
    expect(gateway.calls[0]?.headers.get("assay-client-nonce")).toMatch(/^[0-9a-f]{32}$/);
  });

  test("before-release gives nothing before the verdict; off asks for none until told", async () => {
    const held = await over({}, { verify: "before-release" });
    const stream = held.assay.chat.stream(ask)[Symbol.asyncIterator]();
    expect((await stream.next()).value).toMatchObject({ text: "The answer" });
    expect(held.gateway.calls.map(({ path }) => path.includes("/bundle"))).toEqual([false, true]);

    const off = await over({}, { verify: "off" });
    const answer = await off.assay.chat.stream(ask).final();
    expect(answer).toMatchObject({ verified: false, text: "The answer is 42." });
    expect(answer.verdict).toBeUndefined();
    expect(off.gateway.calls).toHaveLength(1);
    expect((await answer.receipt()).verdict).toMatchObject({ status: "verified", pinned: true });
    expect(await off.assay.chat(ask, { verify: "after" })).toMatchObject({ verified: true });
  });

  test("final alone reads it whole; twice is the same answer", async () => {
    const { assay } = await over();
    const stream = assay.chat.stream({ ...ask, stream_options: { include_usage: true } });
    const first = await stream.final();
    expect(first).toMatchObject({ text: "The answer is 42.", usage: { total_tokens: 17 }, verified: true });
    expect(await stream.final()).toBe(first);
    expect((await stream.receipt()).verdict.checks.find(({ check }) => check === "commitments")?.facts).toMatchObject({
      transcript: "all 5 frames",
    });
  });

  test("left early it stops the gateway, and has no end", async () => {
    const { assay, gateway } = await over();
    const stream = assay.chat.stream(ask);
    for await (const { text } of stream) if (text === "The answer") break;
    expect(gateway.left()).toBe(1);
    expect(await code(stream.final())).toBe("request_cancelled");
    // The request can be shown from the receipt all the same; of the frames, what was seen is said.
    const { verdict, bytes } = await stream.receipt();
    expect(verdict).toMatchObject({ status: "verified" });
    expect(verdict.checks.find(({ check }) => check === "commitments")?.facts).toEqual({
      request: "all 3 fields",
      transcript: "1 of 4 frames received, not compared",
    });
    expect(decodeBundle(bytes).openings?.map(({ side }) => side)).toEqual(["request"]);
  });

  test("nothing is sent before it is read, and a receipt of nothing is none", async () => {
    const { assay, gateway } = await over();
    const stream = assay.chat.stream(ask);
    expect(await code(stream.receipt())).toBe("receipt_missing");
    expect(gateway.calls).toHaveLength(0);
  });

  test("an abort stops it with the caller's own reason", async () => {
    const stop = new AbortController();
    const { assay, gateway } = await over({
      gate: (block) => {
        if (block === 2) stop.abort(new Error("enough"));
        return Promise.resolve();
      },
    });
    const stream = assay.chat.stream(ask, { signal: stop.signal });
    await expect(collect(stream)).rejects.toThrow("enough");
    await expect(stream.final()).rejects.toThrow("enough");
    expect(gateway.left()).toBe(1);
    await expect(assay.chat(ask, { signal: stop.signal })).rejects.toThrow("enough");
  });

  test("one that stands still is given up", async () => {
    const { assay, gateway } = await over(
      { gate: (block) => (block === 1 ? new Promise(() => undefined) : Promise.resolve()) },
      { textTimeoutMs: 20 },
    );
    expect(await code(collect(assay.chat.stream(ask)))).toBe("gateway_timeout");
    expect(gateway.left()).toBe(1);
  });
});

describe("what is not what was signed is not let through", () => {
  const swapText = (text: string): string => text.replace("42", "43");
  const hostile: readonly [string, GatewayScript, string, string | undefined][] = [
    ["an altered body", { body: swapText }, "receipt_failed", "commitment_mismatch"],
    [
      "altered usage",
      { body: (text) => text.replace('"total_tokens":17', '"total_tokens":9') },
      "receipt_failed",
      "commitment_mismatch",
    ],
    [
      "a member more",
      { body: (text) => `${text.slice(0, -1)},"system_fingerprint":"x"}` },
      "receipt_failed",
      "commitment_mismatch",
    ],
    [
      "a member twice, of which a reader takes the last",
      { body: (text) => `${text.slice(0, -1)},"choices":[]}` },
      "response_malformed",
      undefined,
    ],
    ["no JSON", { body: () => "42" }, "response_malformed", undefined],
    [
      "another receipt's id",
      { headers: (headers) => headers.set("assay-receipt-id", "ab".repeat(16)) },
      "route_not_found",
      undefined,
    ],
    [
      "another execution's digest",
      { headers: (headers) => headers.set("assay-execution-digest", "ab".repeat(32)) },
      "receipt_failed",
      "exchange_mismatch",
    ],
    [
      "another salt",
      { headers: (headers) => headers.set("assay-opening", "A".repeat(43)) },
      "receipt_failed",
      "commitment_mismatch",
    ],
    ["no receipt", { headers: (headers) => headers.delete("assay-receipt-id") }, "receipt_missing", undefined],
    ["no opening", { headers: (headers) => headers.delete("assay-opening") }, "receipt_missing", undefined],
    ["a grant that is none", { headers: (headers) => headers.set("assay-grant", "no") }, "receipt_missing", undefined],
    [
      "a receipt with another nonce",
      { execution: { clientNonce: new Uint8Array(16).fill(1) } },
      "receipt_failed",
      "nonce_mismatch",
    ],
    ["a receipt of other work", { execution: { kind: "completion" } }, "receipt_failed", "exchange_mismatch"],
    [
      "a receipt that says incomplete",
      { execution: { finishReason: "incomplete" } },
      "receipt_failed",
      "exchange_mismatch",
    ],
    ["a bundle that is none", { bundle: () => utf8ToBytes("no bundle") }, "receipt_failed", "cbor_invalid"],
    [
      "a bundle with a bit changed",
      {
        bundle: (id, of) => {
          const bytes = of(id)?.slice() ?? new Uint8Array();
          const at = bytes.length >> 1;
          bytes[at] = (bytes[at] ?? 0) ^ 1;
          return bytes;
        },
      },
      "receipt_failed",
      undefined,
    ],
    ["a bundle without end", { bundle: () => new Response(endless()) }, "response_too_large", undefined],
    ["no bundle", { bundle: () => new Response("{}", { status: 410 }) }, "http_410", undefined],
    ["a signer that nobody named", { signer: "mallory" }, "receipt_inconclusive", "keyset_not_trusted"],
  ];

  test.each(hostile)("%s", async (_what, script, expected, verdict) => {
    const { assay } = await over(script, { retries: 0 });
    const error = await thrown(assay.chat(ask));
    expect(isAssayError(error) ? error.code : error).toBe(expected);
    if (verdict !== undefined) expect(verdictCode(error)).toBe(verdict);
  });

  const edit =
    (change: (blocks: string[]) => readonly string[]): NonNullable<GatewayScript["blocks"]> =>
    (blocks) =>
      change([...blocks]);
  // Blocks of a plain stream: three of text, the last frame, the comment, [DONE].
  const streams: readonly [string, GatewayScript, string, string | undefined][] = [
    ["an altered frame", { blocks: edit((blocks) => blocks.map(swapText)) }, "receipt_failed", "commitment_mismatch"],
    [
      "altered usage",
      { blocks: edit((blocks) => blocks.map((text) => text.replace('"total_tokens":17', '"total_tokens":9'))) },
      "receipt_failed",
      "commitment_mismatch",
    ],
    [
      "two frames as one, which add up to the same answer",
      {
        blocks: edit(([a = "", b = "", ...rest]) => [
          a.replace('"The answer"', '"The answer is"'),
          ...(b === "" ? [] : rest),
        ]),
      },
      "receipt_failed",
      "transcript_mismatch",
    ],
    [
      "one frame as two",
      {
        blocks: edit(([a = "", ...rest]) => [
          a.replace('"The answer"', '"The "'),
          a.replace('"The answer"', '"answer"'),
          ...rest,
        ]),
      },
      "receipt_failed",
      "transcript_mismatch",
    ],
    [
      "white space in a frame",
      { blocks: edit(([a = "", ...rest]) => [a.replace("data: {", "data: { "), ...rest]) },
      "receipt_failed",
      "transcript_mismatch",
    ],
    [
      "a frame left out",
      { blocks: edit((blocks) => blocks.filter((_, i) => i !== 1)) },
      "receipt_failed",
      "commitment_mismatch",
    ],
    [
      "frames in another order",
      { blocks: edit(([a = "", b = "", ...rest]) => [b, a, ...rest]) },
      "receipt_failed",
      undefined,
    ],
    [
      "the last frame left out",
      { blocks: edit((blocks) => blocks.filter((_, i) => i !== 3)) },
      "receipt_failed",
      undefined,
    ],
    ["no [DONE]", { blocks: edit((blocks) => blocks.slice(0, -1)) }, "stream_truncated", undefined],
    ["an end after the text", { blocks: edit((blocks) => blocks.slice(0, 3)) }, "stream_truncated", undefined],
    ["an end within a frame", { blocks: edit(([a = ""]) => [a.slice(0, 30)]) }, "stream_truncated", undefined],
    ["nothing", { blocks: () => [] }, "stream_truncated", undefined],
    ["[DONE] alone", { blocks: () => ["data: [DONE]\n\n"] }, "response_malformed", undefined],
    ["no JSON", { blocks: edit((blocks) => ["data: no\n\n", ...blocks]) }, "response_malformed", undefined],
    ["a list", { blocks: edit((blocks) => ["data: []\n\n", ...blocks]) }, "response_malformed", undefined],
    [
      "a name that the data does not have",
      { blocks: edit((blocks) => blocks.map((text) => `event: error\n${text}`)) },
      "response_malformed",
      undefined,
    ],
    [
      "a comment about another receipt",
      { blocks: edit((blocks) => [`: assay {"receipt_id":"${"ab".repeat(16)}"}\n\n`, ...blocks]) },
      "response_malformed",
      undefined,
    ],
    [
      "a comment with another digest",
      {
        blocks: edit((blocks) =>
          blocks.map((text) => text.replace(/("execution_digest":")[0-9a-f]{64}/, `$1${"ab".repeat(32)}`)),
        ),
      },
      "receipt_failed",
      "exchange_mismatch",
    ],
    [
      "a receipt without a transcript",
      { execution: { transcript: undefined } as unknown as NonNullable<GatewayScript["execution"]> },
      "receipt_failed",
      "transcript_mismatch",
    ],
    ["another nonce", { execution: { clientNonce: new Uint8Array(16) } }, "receipt_failed", "nonce_mismatch"],
    [
      "a frame without end",
      { blocks: () => Array.from({ length: 40 }, () => "data: x".padEnd(1024 * 1024, "x")) },
      "response_too_large",
      undefined,
    ],
    [
      "frames without end",
      { blocks: () => Array.from({ length: 40 }, () => `data: {"x":"${"x".repeat(1024 * 1024)}","choices":[]}\n\n`) },
      "response_too_large",
      undefined,
    ],
    [
      "more frames than there can be",
      { blocks: () => Array.from({ length: 26 }, () => 'data: {"choices":[]}\n\n'.repeat(10_000)) },
      "response_too_large",
      undefined,
    ],
    ["a signer that nobody named", { signer: "mallory" }, "receipt_inconclusive", "keyset_not_trusted"],
  ];

  test.each(streams)("in a stream: %s", async (_what, script, expected, verdict) => {
    for (const verify of ["after", "before-release"] as const) {
      const { assay } = await over(script, { retries: 0, verify });
      const out: TextDelta[] = [];
      const stream = assay.chat.stream(ask);
      const error = await thrown(
        (async () => {
          for await (const delta of stream) out.push(delta);
        })(),
      );
      expect(isAssayError(error) ? error.code : error).toBe(expected);
      if (verdict !== undefined) expect(verdictCode(error)).toBe(verdict);
      // Whatever was shown, nothing said that it was the end.
      expect(out.every(({ finishReason }) => finishReason === null)).toBe(true);
      if (verify === "before-release") expect(out).toEqual([]);
      expect(await code(stream.final())).toBe(expected);
    }
  });

  test("the receipt of an earlier answer to the same question", async () => {
    let first: string | undefined;
    const swapped: GatewayScript = {
      bundle: (id, of) => {
        first ??= id;
        return of(first) ?? new Uint8Array();
      },
    };
    const { assay } = await over(swapped);
    const nonce = new Uint8Array(16);
    await assay.chat(ask, { nonce });
    const error = await thrown(assay.chat(ask, { nonce }));
    expect(isAssayError(error) && error.code).toBe("receipt_failed");
    expect(verdictCode(error)).toBe("commitment_mismatch");
  });

  test("a receipt that is whole in itself and has another id than its answer", async () => {
    const { assay, gateway } = await over({ execution: { receiptId: new Uint8Array(16).fill(9) } });
    for (const work of [() => assay.chat(ask), () => assay.chat.stream(ask).final()]) {
      const error = await thrown(work());
      expect(error).toMatchObject({ code: "receipt_failed", receiptId: gateway.receiptIds.at(-1) });
      expect(verdictCode(error)).toBe("exchange_mismatch");
    }
  });
});

describe("a stream that the gateway broke off", () => {
  test("throws the gateway's code, and its receipt shows what was received", async () => {
    for (const verify of ["after", "before-release", "off"] as const) {
      const { assay } = await over({ failAfter: 2 }, { verify });
      const stream = assay.chat.stream(ask);
      const error = await thrown(collect(stream));
      expect(error).toBeInstanceOf(GatewayError);
      expect(error).toMatchObject({ code: "engine_interrupted", status: 200 });
      const { verdict, bytes } = await stream.receipt();
      expect(verdict).toMatchObject({ status: "verified" });
      expect(verdict.checks.find(({ check }) => check === "commitments")?.facts).toMatchObject({
        transcript: "all 2 frames",
        request: "all 3 fields",
      });
      expect(decodeBundle(bytes).openings?.map(({ side }) => side)).toEqual(["request", "response"]);
    }
  });

  test("frames that are not the signed ones are told there, too", async () => {
    const { assay } = await over({
      failAfter: 2,
      blocks: (blocks) => blocks.map((text) => text.replace("answer", "reply")),
    });
    const stream = assay.chat.stream(ask);
    expect(await code(collect(stream))).toBe("engine_interrupted");
    expect((await stream.receipt()).verdict).toMatchObject({ status: "failed", code: "commitment_mismatch" });
  });
});

describe("verdicts that are open", () => {
  // Without its log part a bundle is signed and not yet logged.
  const unlogged: GatewayScript = {
    bundle: (id, of) => {
      const { log: _log, checkpoints: _checkpoints, ...rest } = decodeBundle(of(id) ?? new Uint8Array());
      return encodeBundle(rest);
    },
  };

  test("are refused by default, and taken when asked for if the signatures hold", async () => {
    const strict = await over(unlogged);
    const error = await thrown(strict.assay.chat(ask));
    expect(error).toMatchObject({ code: "receipt_inconclusive", verdict: { code: "not_logged" } });
    const lenient = await over(unlogged, { accept: "signed", waitMs: 0 });
    expect(await lenient.assay.chat(ask)).toMatchObject({ verified: false, verdict: { code: "not_logged" } });
    expect(lenient.gateway.calls[1]?.path).toMatch(/waitMs=0$/);
    const stranger = await over({ signer: "mallory" }, { accept: "signed" });
    expect(await code(stranger.assay.chat(ask))).toBe("receipt_inconclusive");
  });

  test("are asked for again by receipt(), and not once they are verified", async () => {
    let logged = false;
    const { assay, gateway } = await over(
      { bundle: (id, of) => (logged ? (of(id) ?? new Uint8Array()) : (unlogged.bundle?.(id, of) ?? new Uint8Array())) },
      { accept: "signed" },
    );
    const answer = await assay.chat(ask);
    expect((await answer.receipt()).verdict.status).toBe("inconclusive");
    logged = true;
    expect((await answer.receipt()).verdict.status).toBe("verified");
    const asked = gateway.calls.length;
    await answer.receipt();
    expect(gateway.calls).toHaveLength(asked);
  });

  test("a policy that is not met is a failure", async () => {
    const { assay } = await over({}, { policy: { modes: ["tee"] } });
    expect(verdictCode(await thrown(assay.chat(ask)))).toBe("mode_refused");
  });
});

describe("without trust", () => {
  test("the gateway's own is taken once, and verdicts say so", async () => {
    const gateway = await makeTextGateway({}, URL_OF);
    const assay = new Assay({ url: URL_OF, fetch: gateway.fetch, now: () => gateway.now, suite: nodeSuite });
    const [answer] = await Promise.all([assay.chat(ask), assay.chat(ask), assay.chat(ask)]);
    expect(answer).toMatchObject({ verified: true, verdict: { pinned: false } });
    expect(answer.verdict?.residualTrust.at(-1)).toMatch(/taken on first use/);
    expect(gateway.calls.filter(({ path }) => path === "/v1/trust")).toHaveLength(1);
  });

  test("trust that could not be had is asked for again", async () => {
    let down = true;
    const { assay, gateway } = await over(
      { intercept: ({ path }) => (path === "/v1/trust" && down ? new Response("{}", { status: 500 }) : undefined) },
      { trust: undefined } as unknown as AssayOptions,
    );
    expect(await code(assay.chat(ask))).toBe("http_500");
    down = false;
    expect(await assay.chat(ask)).toMatchObject({ verified: true });
    expect(gateway.calls.filter(({ path }) => path === "/v1/trust")).toHaveLength(2);
  });

  test("a trust file's text is as good as a trust; one that is none is refused at once", async () => {
    const { gateway } = await over();
    const text = await (await gateway.fetch(`${URL_OF}/v1/trust`)).text();
    const assay = new Assay({
      url: URL_OF,
      fetch: gateway.fetch,
      trust: text,
      now: () => gateway.now,
      suite: nodeSuite,
    });
    expect(await assay.chat(ask)).toMatchObject({ verified: true, verdict: { pinned: true } });
    expect(() => new Assay({ trust: "{}" })).toThrow(/version/);
  });
});

describe("trying again", () => {
  const refusals = (status: number, times: number): GatewayScript => ({
    intercept: ({ path }, count) =>
      path.startsWith("/v1/chat") && count <= times
        ? Response.json(
            {
              error: { message: "Busy.", type: "x", param: null, code: "engine_overloaded" },
              code: "engine_overloaded",
            },
            { status },
          )
        : undefined,
  });

  test("only when nothing was begun: 429 and 503, and no connection at all", async () => {
    for (const status of [429, 503]) {
      const { assay, pauses } = await over(refusals(status, 2));
      expect(await assay.chat(ask)).toMatchObject({ verified: true });
      expect(pauses).toEqual([100, 200]);
    }
    for (const status of [400, 404, 409, 500, 502, 504]) {
      const { assay, gateway } = await over(refusals(status, 1));
      expect(await thrown(assay.chat(ask))).toMatchObject({ code: "engine_overloaded", status });
      expect(gateway.calls).toHaveLength(1);
    }
  });

  test("a refused connection is tried again, a broken one is not", async () => {
    const failing = (cause: unknown) => async () => {
      let tries = 0;
      const { assay, gateway } = await over({
        intercept: ({ path }) => {
          if (path.startsWith("/v1/chat") && tries++ === 0) throw new TypeError("fetch failed", { cause });
          return undefined;
        },
      });
      return [await code(assay.chat(ask)), gateway.calls.length];
    };
    expect(await failing(Object.assign(new Error("refused"), { code: "ECONNREFUSED" }))()).toEqual(["no error", 3]);
    expect(await failing(Object.assign(new Error("reset"), { code: "ECONNRESET" }))()).toEqual([
      "gateway_unreachable",
      1,
    ]);
    expect(await failing(undefined)()).toEqual(["gateway_unreachable", 1]);
  });

  test("never after the first byte", async () => {
    const { assay, gateway } = await over({ blocks: (blocks) => blocks.slice(0, 2) });
    expect(await code(collect(assay.chat.stream(ask)))).toBe("stream_truncated");
    expect(gateway.calls).toHaveLength(1);
  });
});

function endless(): ReadableStream<Uint8Array> {
  const piece = new Uint8Array(4 * 1024 * 1024);
  return new ReadableStream({ pull: (controller) => controller.enqueue(piece) }, { highWaterMark: 0 });
}
