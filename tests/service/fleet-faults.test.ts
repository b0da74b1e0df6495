import type { ServerResponse } from "node:http";
import { openAiHandler } from "@assay/testkit/upstream";
import type { WireHandler } from "@assay/testkit/upstream";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ending, openUpstreamHome, piece, streaming, whole } from "./fleet-upstream.ts";
import type { UpstreamHome } from "./fleet-upstream.ts";
import { trustOf, until, verify, viewOf } from "./fleet-world.ts";
import { ask } from "./running-server.ts";
import type { Json } from "./running-server.ts";

// What a client sees, and what is stated, when an upstream fails in every way that is known: through the whole server.

const IDLE_MS = 300;
let chat: UpstreamHome;
beforeAll(async () => {
  chat = await openUpstreamHome(["little", "other"], openAiHandler, {
    upstreamLimits: { firstByteTimeoutMs: IDLE_MS, idleTimeoutMs: IDLE_MS, totalTimeoutMs: 4 * IDLE_MS },
  });
});
afterAll(() => chat?.close());
beforeEach(() => {
  for (const wire of Object.values(chat.upstreams)) wire.use(openAiHandler);
});

// Failures count against who failed: each test begins with a clean name, which is a new upstream to the router.
let names = 0;
/** Configures `little` under a name that nothing is known of, answered by `handler`; resolves with its model's name. */
async function failing(handler: (response: ServerResponse, stream: boolean) => Promise<void> | void): Promise<string> {
  const wire = chat.upstreams["little"];
  const name = `fails-${names++}`;
  const answered: WireHandler = (request, response) => {
    if (request.path.endsWith("/models")) return openAiHandler(request, response);
    return handler(response, (request.body as { stream?: boolean }).stream === true);
  };
  wire?.use(answered);
  const json = { name, kind: "openai-compatible", baseUrl: `${wire?.url}/v1` };
  const { status, body } = await ask(chat.url, "/v1/upstreams", { token: chat.token, json });
  expect(status, JSON.stringify(body)).toBeLessThan(300);
  return `${name}/little-chat`;
}

type Seen = {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Code of a refusal, or of the error frame that ends a stream. */
  readonly code: string | undefined;
  readonly receipt: "complete" | "incomplete" | "none";
};

async function send(model: string, stream: boolean): Promise<Seen> {
  const before = chat.home.server.log.size();
  const response = await fetch(`${chat.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }], max_tokens: 64, stream }),
  });
  const text = await response.text();
  const last = text.split("\n\n").findLast((event) => event.startsWith("data: {"));
  const body = JSON.parse(stream && response.ok ? (last?.slice(6) ?? "{}") : text) as Json;
  const error = body["error"] as { code?: string } | undefined;
  return {
    status: response.status,
    headers: response.headers,
    text,
    code: error?.code,
    receipt: await receiptOf(response, before),
  };
}

/** Whether there is a receipt, what it says, and that it verifies by the home's trust. */
async function receiptOf({ headers }: Response, before: number): Promise<Seen["receipt"]> {
  const id = headers.get("assay-receipt-id");
  if (id === null) {
    expect(chat.home.server.log.size()).toBe(before);
    return "none";
  }
  const bundle = await fetch(`${chat.url}/v1/receipts/${id}/bundle?waitMs=5000`, {
    headers: { "assay-grant": headers.get("assay-grant") ?? "" },
  });
  if (bundle.status === 404) return "none";
  const bytes = new Uint8Array(await bundle.arrayBuffer());
  expect((await verify(trustOf(chat.home.directory), bytes)).status).toBe("verified");
  return viewOf(bytes).execution.claims.finishReason === "incomplete" ? "incomplete" : "complete";
}

const open = (response: ServerResponse, ...parts: readonly string[]): void => {
  streaming(response);
  for (const part of parts) response.write(part);
};

describe.each([
  ["says nothing", () => undefined, [504, "upstream_timeout", "none"], [504, "upstream_timeout", "none"]],
  [
    "falls silent in the middle",
    (response, stream) => {
      if (stream) open(response, piece("One "), piece("two"));
      else response.writeHead(200, { "content-type": "application/json" }).write(whole("One").slice(0, 40));
    },
    [504, "upstream_timeout", "none"],
    [200, "engine_interrupted", "incomplete"],
  ],
  [
    "ends too early",
    (response, stream) => {
      if (stream) open(response, piece("One "), piece("two"));
      else response.writeHead(200, { "content-type": "application/json" }).write(whole("One").slice(0, 40));
      response.end();
    },
    [502, "upstream_malformed", "none"],
    [200, "engine_interrupted", "incomplete"],
  ],
  [
    "writes what is no event",
    (response, stream) => {
      if (stream) open(response, piece("One "), 'data: {"choices":[{"ind\n\n');
      else response.writeHead(200, { "content-type": "application/json" }).write("[1, 2");
      response.end();
    },
    [502, "upstream_malformed", "none"],
    [200, "engine_interrupted", "incomplete"],
  ],
  [
    "begins with what is no event",
    (response, stream) => {
      if (stream) open(response, "data: <html>\n\n");
      else response.writeHead(200, { "content-type": "text/html" }).write("<html>");
      response.end();
    },
    [502, "upstream_malformed", "none"],
    [502, "upstream_malformed", "none"],
  ],
  [
    "counts tokens that cannot be",
    (response, stream) => {
      const usage = { prompt_tokens: -3, completion_tokens: 9_999_999, total_tokens: 1 };
      if (stream) open(response, piece("One"), ending(usage));
      else response.writeHead(200, { "content-type": "application/json" }).write(whole("One", usage));
      response.end();
    },
    [200, undefined, "complete"],
    [200, undefined, "complete"],
  ],
  [
    "fails",
    (response) => {
      response.writeHead(500, { "content-type": "application/json" }).end('{"error":{"message":"no"}}');
    },
    [502, "upstream_failed", "none"],
    [502, "upstream_failed", "none"],
  ],
  [
    "dies in the middle",
    (response, stream) => {
      if (stream) open(response, piece("One "), piece("two"));
      else response.writeHead(200, { "content-type": "application/json" }).write(whole("One").slice(0, 40));
      setTimeout(() => response.destroy(), 20);
    },
    [502, "upstream_failed", "none"],
    [200, "engine_interrupted", "incomplete"],
  ],
  [
    "refuses the key",
    (response) => {
      response.writeHead(401, { "content-type": "application/json" }).end('{"error":{"message":"sk-secret is wrong"}}');
    },
    [502, "upstream_unauthorized", "none"],
    [502, "upstream_unauthorized", "none"],
  ],
] as readonly (readonly [
  string,
  (response: ServerResponse, stream: boolean) => void,
  readonly [number, string | undefined, Seen["receipt"]],
  readonly [number, string | undefined, Seen["receipt"]],
])[])("an upstream that %s", (_name, handler, plain, streamed) => {
  test.each([
    ["whole", false, plain],
    ["streamed", true, streamed],
  ] as const)("%s", async (_how, stream, [status, code, receipt]) => {
    const seen = await send(await failing(handler), stream);
    expect(seen, seen.text).toMatchObject({ status, receipt });
    expect(seen.code).toBe(code);
    expect(/^data: \[DONE\]$/m.test(seen.text)).toBe(stream && code === undefined);
    // Nothing of the upstream's key, nor a stack, reaches the client.
    expect(seen.text).not.toMatch(/sk-secret|node:internal|at async/);
    if (code === undefined) expect(seen.text).toContain('"estimated":true');
    await until("nothing is under way", () => chat.upstreams["little"]?.open() === 0);
  });
});

describe("an upstream that is rate limited", () => {
  const limited: WireHandler = (request, response) => {
    if (request.path.endsWith("/models")) return openAiHandler(request, response);
    response.writeHead(429, { "content-type": "application/json", "retry-after": "17" });
    response.end('{"error":{"message":"slow down"}}');
  };

  test("is told on with the time that it names", async () => {
    const model = await failing((response) => {
      response.writeHead(429, { "content-type": "application/json", "retry-after": "17" });
      response.end('{"error":{"message":"slow down"}}');
    });
    for (const stream of [false, true]) {
      const seen = await send(model, stream);
      // A moment after, it is not even asked.
      expect(["upstream_rate_limited", "nodes_unavailable"]).toContain(seen.code);
      expect([429, 503]).toContain(seen.status);
      expect(seen.receipt).toBe("none");
      if (!stream) expect(seen.headers.get("retry-after")).toBe("17");
      else expect(Number(seen.headers.get("retry-after"))).toBeGreaterThan(0);
    }
  });

  test("is passed over where a contract names another; a storm reaches nobody twice", async () => {
    const contract = { models: ["little/little-chat", "other/little-chat"] };
    const put = await fetch(`${chat.url}/v1/contracts/either`, {
      method: "PUT",
      headers: { "content-type": "application/json", authorization: `Bearer ${chat.token}` },
      body: JSON.stringify(contract),
    });
    expect(put.ok, await put.text()).toBe(true);
    chat.upstreams["little"]?.use(limited);
    const seen = await Promise.all(Array.from({ length: 40 }, (_, i) => send("either", i % 2 === 0)));
    expect(seen.map(({ status, receipt }) => [status, receipt])).toEqual(seen.map(() => [200, "complete"]));
    chat.upstreams["other"]?.use(limited);
    const storm = await Promise.all(Array.from({ length: 40 }, (_, i) => send("either", i % 2 === 0)));
    for (const one of storm) {
      expect(["upstream_rate_limited", "nodes_unavailable"]).toContain(one.code);
      expect(Number(one.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(one.receipt).toBe("none");
    }
  });
});

test("a client that goes away in the middle: the upstream is let go, and a receipt says what there was", async () => {
  const model = await failing(async (response) => {
    streaming(response);
    for (let i = 0; !response.destroyed && i < 10_000; i++) {
      response.write(piece(`${i} `));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  });
  const away = new AbortController();
  const response = await fetch(`${chat.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "Hello" }], stream: true }),
    signal: away.signal,
  });
  const reader = response.body?.getReader();
  await reader?.read();
  await reader?.read();
  away.abort();
  await until("the upstream is let go", () => chat.upstreams["little"]?.open() === 0);
  expect(
    await until("there is a receipt", async () => {
      const found = await receiptOf(response, -1);
      return found !== "none" && found;
    }),
  ).toBe("incomplete");
});
