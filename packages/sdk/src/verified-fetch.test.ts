import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { bytesToUtf8, isAssayError, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { makeTextGateway } from "@assay/testkit";
import type { GatewayScript, TextGateway } from "@assay/testkit";
import { createVerifier } from "@assay/verifier";
import { verifiedFetch } from "./index.ts";
import type { CheckedReceipt, VerifiedFetchOptions } from "./index.ts";

const URL_OF = "http://gateway.test";
const ask = { model: "acme/llm", messages: [{ role: "user" as const, content: "What is 17 + 25?" }] };

type Over = {
  readonly client: OpenAI;
  readonly gateway: TextGateway;
  readonly receipts: CheckedReceipt[];
  readonly fetch: ReturnType<typeof verifiedFetch>;
};

async function over(script: GatewayScript = {}, options: Partial<VerifiedFetchOptions> = {}): Promise<Over> {
  const gateway = await makeTextGateway(script, URL_OF);
  const receipts: CheckedReceipt[] = [];
  const fetch = verifiedFetch({
    trust: gateway.trust,
    fetch: gateway.fetch,
    now: () => gateway.now,
    suite: nodeSuite,
    onReceipt: (receipt) => {
      receipts.push(receipt);
    },
    ...options,
  });
  const client = new OpenAI({ baseURL: `${URL_OF}/v1`, apiKey: "unused", fetch });
  return { client, gateway, receipts, fetch };
}

const thrown = async (work: Promise<unknown>): Promise<unknown> => {
  try {
    await work;
  } catch (error) {
    return error;
  }
  return undefined;
};

async function textOf(client: OpenAI): Promise<string> {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...ask, stream: true }))
    text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

describe("OpenAI's own client over it", () => {
  test("answers are those of the gateway, and each leaves a receipt that verifies", async () => {
    const { client, gateway, receipts } = await over();
    const { data, response } = await client.chat.completions.create(ask).withResponse();
    expect(data.choices[0]?.message.content).toBe("The answer is 42.");
    expect(data.id).toBe(`chatcmpl-${gateway.receiptIds[0]}`);
    expect(response.headers.get("assay-verified")).toBe("true");
    expect(response.headers.get("assay-verdict")).toBe("verified");
    expect((await client.completions.create({ model: "acme/llm", prompt: "17 + 25 is" })).choices[0]?.text).toBe(
      "The answer is 42.",
    );
    const vectors = await client.embeddings.create({ model: "acme/embed", input: ["a", "b"] });
    expect(vectors.data.map(({ embedding }) => [...embedding])).toEqual([
      [0, 0.5, -0.25],
      [1, 0.5, -0.25],
    ]);
    expect((await client.responses.create({ model: "acme/llm", input: "17 + 25?" })).output_text).toBe(
      "The answer is 42.",
    );
    expect(receipts.map(({ receiptId }) => receiptId)).toEqual(gateway.receiptIds);
    const verify = createVerifier({ trust: gateway.trust, suite: nodeSuite });
    for (const { bytes } of receipts) expect((await verify(bytes, gateway.now)).status).toBe("verified");
  });

  test.each(["before-release", "after"] as const)("streams, with verification %s", async (verify) => {
    const { client, receipts } = await over({}, { verify });
    expect(await textOf(client)).toBe("The answer is 42.");
    const events: string[] = [];
    let text = "";
    for await (const event of await client.responses.create({ model: "acme/llm", input: "17 + 25?", stream: true })) {
      events.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    expect(text).toBe("The answer is 42.");
    expect(events.at(-1)).toBe("response.completed");
    const helper = await client.chat.completions.stream(ask).finalChatCompletion();
    expect(helper.choices[0]?.message.content).toBe("The answer is 42.");
    expect(receipts.map(({ verdict }) => verdict.status)).toEqual(["verified", "verified", "verified"]);
  });

  test("what is not what was signed is an error with its code, and the model runs once", async () => {
    const scripts: readonly [GatewayScript, string][] = [
      [{ body: (text) => text.replace("42", "43") }, "receipt_failed"],
      [{ body: (text) => text.replace('"total_tokens":17', '"total_tokens":1') }, "receipt_failed"],
      [{ headers: (headers) => headers.delete("assay-grant") }, "receipt_missing"],
      [{ signer: "mallory" }, "receipt_inconclusive"],
      [{ execution: { clientNonce: new Uint8Array(16) } }, "receipt_failed"],
    ];
    for (const [script, code] of scripts) {
      const { client, gateway, receipts } = await over(script);
      const error = await thrown(client.chat.completions.create(ask));
      expect(error).toBeInstanceOf(OpenAI.APIError);
      expect(error).toMatchObject({ status: 502, code });
      expect(gateway.calls.filter(({ path }) => path.startsWith("/v1/chat"))).toHaveLength(1);
      expect(receipts).toEqual([]);
    }
  });

  const streams: readonly [string, GatewayScript, string][] = [
    ["an altered frame", { blocks: (blocks) => blocks.map((text) => text.replace(" is", " was")) }, "receipt_failed"],
    ["a stream without [DONE]", { blocks: (blocks) => blocks.slice(0, -1) }, "stream_truncated"],
    ["a stream that ends after its text", { blocks: (blocks) => blocks.slice(0, 2) }, "stream_truncated"],
    ["a stream that the gateway breaks off", { failAfter: 2 }, "engine_interrupted"],
    ["another receipt", { execution: { clientNonce: new Uint8Array(16) } }, "receipt_failed"],
  ];

  test.each(streams)("%s is nothing at all before release", async (_what, script, code) => {
    const { client, gateway } = await over(script);
    expect(await thrown(textOf(client))).toMatchObject({ status: 502, code });
    expect(gateway.calls.filter(({ path }) => path.startsWith("/v1/chat"))).toHaveLength(1);
  });

  test.each(streams)("%s fails where its end would be, when verified after", async (_what, script, code) => {
    const { client } = await over(script, { verify: "after" });
    const finished: unknown[] = [];
    let text = "";
    const error = await thrown(
      (async () => {
        for await (const { choices } of await client.chat.completions.create({ ...ask, stream: true })) {
          text += choices[0]?.delta.content ?? "";
          finished.push(choices[0]?.finish_reason);
        }
      })(),
    );
    expect(isAssayError(error) ? error.code : error).toBe(code);
    expect(text).toMatch(/^The answer/);
    expect(finished.every((reason) => reason === null)).toBe(true);
  });

  test("responses cut before response.completed are no responses", async () => {
    for (const [verify, expected] of [
      ["before-release", { status: 502, code: "stream_truncated" }],
      ["after", { code: "stream_truncated" }],
    ] as const) {
      const { client } = await over({ blocks: (blocks) => blocks.slice(0, 6) }, { verify });
      const stream = async (): Promise<void> => {
        for await (const _ of await client.responses.create({ model: "acme/llm", input: "?", stream: true }));
      };
      expect(await thrown(stream())).toMatchObject(expected);
    }
  });

  test("the gateway's own refusals come through as they are", async () => {
    const { client } = await over();
    const error = await thrown(client.chat.completions.create({ ...ask, temperature: 9 }));
    expect(error).toMatchObject({ status: 400, code: "parameter_invalid" });
    const list = await client.models.list();
    expect(list.data.map(({ id }) => id)).toEqual(["acme/llm"]);
  });
});

describe("the fetch itself", () => {
  const init = (body: RequestInit["body"], more: RequestInit = {}): RequestInit => ({
    method: "POST",
    headers: { "content-type": "application/json" },
    body: body ?? null,
    ...more,
  });
  const path = `${URL_OF}/v1/chat/completions`;

  test("takes a text, bytes, a Request or a stream of bytes, and sends what it was given", async () => {
    const { fetch, gateway } = await over();
    const text = JSON.stringify(ask);
    const asked = [
      () => fetch(path, init(text)),
      () => fetch(new URL(path), init(new TextEncoder().encode(text))),
      () => fetch(new Request(path, init(text))),
      () => fetch(path, init(new Blob([text]).stream(), { duplex: "half" } as RequestInit)),
      () => fetch(`${path}/?x=1`, init(text)),
    ];
    for (const one of asked.slice(0, 4)) expect((await one()).headers.get("assay-verified")).toBe("true");
    expect(gateway.calls.filter(({ path }) => path.includes("chat")).map(({ body }) => bytesToUtf8(body))).toEqual([
      text,
      text,
      text,
      text,
    ]);
    expect(await thrown(fetch(path, { method: "POST" }))).toMatchObject({ code: "request_unsupported" });
  });

  test("a nonce of the caller's is kept, and must come back", async () => {
    const { fetch, gateway } = await over();
    const headers = { "content-type": "application/json", "assay-client-nonce": "ab".repeat(8) };
    expect((await fetch(path, init(JSON.stringify(ask), { headers }))).status).toBe(200);
    expect(gateway.calls[0]?.headers.get("assay-client-nonce")).toBe("ab".repeat(8));
  });

  test("headers of a verdict that the server made up are taken away", async () => {
    const { fetch } = await over({ headers: (headers) => headers.set("assay-verified", "true") }, { verify: "after" });
    const response = await fetch(path, init(JSON.stringify({ ...ask, stream: true })));
    expect(response.headers.get("assay-verified")).toBeNull();
    const text = await response.text();
    expect(text).toMatch(
      /: assay \{"receipt_id":"[0-9a-f]{32}",.*"verified":true,"verdict":"verified"\}\n\ndata: \[DONE\]\n\n$/,
    );
  });

  test("a receipt that cannot be kept keeps its answer back", async () => {
    const { fetch } = await over({}, { onReceipt: () => Promise.reject(new Error("disk full")) });
    const response = await fetch(path, init(JSON.stringify(ask)));
    expect(response.status).toBe(502);
    expect(response.headers.get("assay-failure")).toBe("receipt_not_kept");
    expect(await response.text()).not.toContain("disk full");
  });

  test("a body that is left stops the gateway, also while it waits", async () => {
    let waiting = (): void => undefined;
    const stands = new Promise<void>((resolve) => {
      waiting = resolve;
    });
    const { fetch, gateway } = await over(
      {
        gate: (block) => {
          if (block === 0) return Promise.resolve();
          waiting();
          return new Promise(() => undefined);
        },
      },
      { verify: "after" },
    );
    const response = await fetch(path, init(JSON.stringify({ ...ask, stream: true })));
    const reader = response.body?.getReader();
    await reader?.read();
    const next = reader?.read();
    await stands;
    await reader?.cancel();
    await next;
    expect(gateway.left()).toBe(1);
  });

  test("an abort is thrown as one, and what the platform's fetch throws stays what it was", async () => {
    const stop = new AbortController();
    const { fetch } = await over({
      gate: (block) => {
        if (block === 1) stop.abort();
        return Promise.resolve();
      },
    });
    const work = fetch(path, init(JSON.stringify({ ...ask, stream: true }), { signal: stop.signal }));
    expect(await thrown(work)).toMatchObject({ name: "AbortError" });
    const down = await over({ intercept: () => Promise.reject(new TypeError("refused")) });
    expect(await thrown(down.fetch(path, init(JSON.stringify(ask))))).toBeInstanceOf(TypeError);
  });

  test("everything else passes untouched, without a nonce", async () => {
    const { fetch, gateway } = await over();
    for (const other of ["/v1/models", "/v1/chat/completions", "/v1/chat/completions/x", "/v2/health/live"])
      await fetch(URL_OF + other);
    await fetch(`${URL_OF}/v1/auth/challenge`, { method: "POST", body: "x" });
    expect(gateway.calls.map(({ headers }) => headers.get("assay-client-nonce"))).toEqual([
      null,
      null,
      null,
      null,
      null,
    ]);
    expect(bytesToUtf8(gateway.calls.at(-1)?.body ?? utf8ToBytes("?"))).toBe("x");
  });

  test("trust that is none is refused at once", () => {
    expect(() => verifiedFetch({ trust: "{}" })).toThrow(/version/);
  });
});
