import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { AssayError } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import { encodeInferRequest, joinBody } from "@assay/protocol";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createApi } from "./api.ts";
import type { ApiModules } from "./api.ts";
import { describe as describeError } from "./describe.ts";
import { startGateway } from "./gateway.ts";
import type { Gateway, GatewayOptions } from "./gateway.ts";
import { problemOf } from "./http-errors.ts";
import type { InferModules } from "./infer.ts";
import { createMetrics } from "./metrics.ts";

// The gateway's own duties, with everything behind it replaced; tests/service has the same server whole.

let gateway: Gateway | undefined;
let lines: string[] = [];
let folder = "";
/** Ends the execution under way; each inference waits for it. */
let finish: (outcome: "refuse") => void = () => undefined;
let began = 0;
let aborted = 0;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "assay-gateway-"));
  lines = [];
  began = 0;
  aborted = 0;
});
afterEach(async () => {
  finish("refuse");
  await gateway?.close();
  rmSync(folder, { recursive: true, force: true });
});

const MAX_BLOB_BYTES = 1000;

async function open(options: Partial<GatewayOptions> = {}, api: Partial<ApiModules> = {}): Promise<string> {
  const metrics = createMetrics([]);
  const auth = {
    caller: (header: string | undefined) =>
      Promise.resolve(header === undefined ? undefined : { owner: "ed25519:aa", scopes: [] }),
  } as unknown as ApiModules["auth"];
  const waiting = new Promise<"refuse">((resolve) => {
    finish = resolve;
  });
  const infer = {
    metrics,
    auth,
    maxBodyBytes: 1000,
    model: () => Promise.resolve({ name: "a/b", version: 1, visibility: "public", owner: "x" }),
    rawInput: () => Promise.resolve({}),
    execute: async ({ signal }: { readonly signal: AbortSignal }) => {
      began++;
      signal.addEventListener("abort", () => aborted++);
      await waiting;
      throw new AssayError("model_failed", "The model failed while running.", { cause: new Error("the inner secret") });
    },
  } as unknown as InferModules;
  gateway = await startGateway(
    { host: "127.0.0.1", port: 0, ...options },
    {
      api: createApi({
        options: { version: "0", maxBlobBytes: MAX_BLOB_BYTES, maxJsonBytes: 100 },
        auth,
        metrics,
        blobs: await openBlobStore({ directory: folder }),
        models: {},
        ...api,
      } as unknown as ApiModules),
      infer,
      logger: pino({ level: "info", base: null }, { write: (line: string) => lines.push(line) }),
    },
  );
  return gateway.url;
}

const body = encodeInferRequest({
  inputs: [{ name: "x", datatype: "BOOL", shape: [1], data: Uint8Array.of(1) }],
  binary: false,
});
const infer = (url: string, signal?: AbortSignal): Promise<Response> =>
  fetch(`${url}/v2/models/a%2Fb/infer`, {
    method: "POST",
    body: Buffer.from(joinBody(body)),
    ...(signal ? { signal } : {}),
  });
const codeOf = async (response: Response): Promise<unknown> => ((await response.json()) as { code: unknown }).code;

describe("the gateway", () => {
  test("past what it has in flight it turns requests away, and says when to come again", async () => {
    const url = await open({ maxInFlight: 1 });
    const first = infer(url);
    await expect.poll(() => began).toBe(1);
    const second = await infer(url);
    expect([second.status, second.headers.get("retry-after"), second.headers.get("connection")]).toEqual([
      503,
      "1",
      "close",
    ]);
    expect(await codeOf(second)).toBe("gateway_overloaded");
    finish("refuse");
    expect(await codeOf(await first)).toBe("model_failed");
    expect((await fetch(`${url}/livez`)).status).toBe(200);
  });

  test("closing answers what is under way and takes nothing new", async () => {
    const url = await open();
    const { hostname, port } = new URL(url);
    const first = infer(url);
    await expect.poll(() => began).toBe(1);
    // A request of which the beginning has arrived: when its end does, it is refused in words.
    const socket = connect(Number(port), hostname);
    socket.write("GET /livez HTTP/1.1\r\nhost: x\r\n");
    expect((await fetch(`${url}/livez`)).status).toBe(200);
    const closing = gateway?.close();
    expect(gateway?.draining()).toBe(true);
    socket.write("\r\n");
    let text = "";
    for await (const chunk of socket.setEncoding("utf8")) text += String(chunk);
    expect(text).toMatch(/^HTTP\/1\.1 503 /);
    expect(text).toContain('"code":"gateway_draining"');
    finish("refuse");
    expect(await codeOf(await first)).toBe("model_failed");
    await closing;
    await expect(fetch(`${url}/livez`)).rejects.toThrow("fetch failed");
  });

  test("closing cuts no answer short that is still being sent", async () => {
    const size = 64 * 1024 * 1024;
    const file = { path: "w.bin", sha256: "0".repeat(64), sizeBytes: size };
    const url = await open({}, {
      models: {
        resolve: () => ({ name: "a/b", version: 1, visibility: "public" }),
        facts: () => Promise.resolve({ manifest: { manifest: { files: [file] } } }),
      },
      blobs: {
        stream: async function* stream() {
          for (let sent = 0; sent < size; sent += 1024 * 1024) yield Promise.resolve(new Uint8Array(1024 * 1024));
        },
      },
    } as unknown as Partial<ApiModules>);
    const response = await fetch(`${url}/v1/models/a%2Fb/files/w.bin`);
    const closing = gateway?.close();
    expect((await response.arrayBuffer()).byteLength).toBe(size);
    await closing;
  });

  test("closing does not wait for ever", async () => {
    const url = await open({ drainMs: 20 });
    const stuck = infer(url).catch(() => "cut off");
    await expect.poll(() => began).toBe(1);
    await gateway?.close();
    expect(await stuck).toBe("cut off");
  });

  test("a caller who goes away cancels the execution", async () => {
    const url = await open();
    const leaving = new AbortController();
    const gone = infer(url, leaving.signal).catch(() => "gone");
    await expect.poll(() => began).toBe(1);
    leaving.abort();
    expect(await gone).toBe("gone");
    await expect.poll(() => aborted).toBe(1);
  });

  test("a failure is logged with its causes and answered without them", async () => {
    const url = await open();
    const answer = infer(url);
    finish("refuse");
    const response = await answer;
    expect(response.status).toBe(502);
    expect(await response.text()).not.toContain("secret");
    await expect.poll(() => lines.join("")).toContain("the inner secret");
    expect(lines.find((line) => line.includes("inference failed"))).toContain('"level":50');
  });

  test("what is unexpected on any other route is logged under its request id, and answered without detail", async () => {
    const url = await open({}, {
      models: {
        list: () => {
          throw new TypeError("the inner secret");
        },
      },
    } as unknown as Partial<ApiModules>);
    const response = await fetch(`${url}/v1/models`, { headers: { "x-request-id": "id-1" } });
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(text).toContain("internal_error");
    expect(text).not.toContain("secret");
    await expect.poll(() => lines.find((line) => line.includes("the inner secret"))).toContain('"requestId":"id-1"');
  });

  test("a file past the limit is refused and not kept, declared or in chunks", async () => {
    const url = await open();
    const headers = { authorization: "Bearer x" };
    const put = (bytes: Buffer): Promise<Response> =>
      fetch(`${url}/v1/blobs`, { method: "POST", headers, body: bytes });
    expect((await put(Buffer.alloc(MAX_BLOB_BYTES))).status).toBe(200);
    const over = await put(Buffer.alloc(MAX_BLOB_BYTES + 1));
    expect([over.status, await codeOf(over)]).toEqual([413, "blob_too_large"]);
    const chunked = await fetch(`${url}/v1/blobs`, {
      method: "POST",
      headers,
      body: new Blob([Buffer.alloc(MAX_BLOB_BYTES + 1)]).stream(),
      duplex: "half",
    } as RequestInit);
    expect([chunked.status, await codeOf(chunked)]).toEqual([413, "blob_too_large"]);
    expect((await put(Buffer.alloc(10))).status).toBe(200);
  });

  test("a large file without a token is refused, and the connection is good for the next request", async () => {
    const url = await open();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const { hostname, port } = new URL(url);
    const ask = async (method: string, path: string, bytes?: Buffer): Promise<[number, number]> => {
      const send = httpRequest({
        hostname,
        port,
        agent,
        method,
        path,
        ...(bytes ? { headers: { "content-length": bytes.length } } : {}),
      });
      send.end(bytes);
      const [response] = (await once(send, "response")) as [IncomingMessage];
      const local = response.socket.localPort ?? 0;
      response.resume();
      await once(response, "end");
      return [response.statusCode ?? 0, local];
    };
    const [refused, before] = await ask("POST", "/v1/blobs", Buffer.alloc(4 * 1024 * 1024));
    const [next, after] = await ask("GET", "/livez");
    expect([refused, next]).toEqual([401, 200]);
    expect(after).toBe(before);
    agent.destroy();
  });

  test("a JSON body past its limit is refused before it is read", async () => {
    const url = await open();
    const headers = { "content-type": "application/json", authorization: "Bearer x" };
    const refused = await fetch(`${url}/v1/models/a%2Fb/rollback`, {
      method: "POST",
      headers,
      body: `{"version":1,"x":"${"y".repeat(100)}"}`,
    });
    expect([refused.status, await codeOf(refused)]).toEqual([413, "request_too_large"]);
  });

  test("a JSON body that comes in chunks is read like any other, and refused past its limit", async () => {
    const url = await open();
    const send = (text: string): Promise<Response> =>
      fetch(`${url}/v1/auth/challenge`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: new Blob([text]).stream(),
        duplex: "half",
      } as RequestInit);
    const [wrong, large] = [await send('{"publicKey":7}'), await send(`{"publicKey":"${"x".repeat(100_000)}"}`)];
    expect([wrong.status, await codeOf(wrong)]).toEqual([400, "request_invalid"]);
    expect([large.status, await codeOf(large)]).toEqual([413, "request_too_large"]);
    // What has no body at all comes without a length too.
    const none = await fetch(`${url}/v1/models/none`, { method: "DELETE" });
    expect([none.status, await codeOf(none)]).toEqual([404, "route_not_found"]);
  });

  describe("pages in a browser", () => {
    const preflight = (url: string, headers: Record<string, string> = {}): Promise<Response> =>
      fetch(`${url}/v1/chat/completions`, {
        method: "OPTIONS",
        headers: {
          origin: "https://shop.example",
          "access-control-request-method": "POST",
          "access-control-request-headers": "content-type, payment-signature",
          ...headers,
        },
      });
    const allowed = ({ headers }: Response): readonly (string | null)[] => [
      headers.get("access-control-allow-origin"),
      headers.get("access-control-allow-headers"),
      headers.get("vary"),
    ];

    test("may not call while nobody said so", async () => {
      const response = await preflight(await open());
      expect([response.status, ...allowed(response)]).toEqual([404, null, null, null]);
    });

    test("may call from everywhere when that is configured, and read what they pay", async () => {
      const url = await open({ cors: { origins: "*" } });
      const response = await preflight(url);
      expect([response.status, ...allowed(response)]).toEqual([204, "*", "content-type, payment-signature", null]);
      const live = await fetch(`${url}/livez`, { headers: { origin: "https://shop.example" } });
      expect([live.headers.get("access-control-allow-origin"), live.status]).toEqual(["*", 200]);
      expect(live.headers.get("access-control-expose-headers")).toContain("payment-response");
      const refused = await fetch(`${url}/v2/models/a%2Fb/infer`, {
        method: "POST",
        headers: { origin: "https://shop.example" },
        body: Buffer.alloc(1001),
      });
      expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([413, "*"]);
      expect((await fetch(`${url}/livez`)).headers.get("access-control-allow-origin")).toBeNull();
    });

    test("of other origins than those configured may not", async () => {
      const url = await open({ cors: { origins: ["https://shop.example"] } });
      expect(allowed(await preflight(url))).toEqual([
        "https://shop.example",
        "content-type, payment-signature",
        "origin",
      ]);
      expect(allowed(await preflight(url, { origin: "https://shop.example.evil" }))).toEqual([null, null, "origin"]);
      const strange = await preflight(url, { "access-control-request-headers": "a b; c" });
      expect(allowed(strange)).toEqual(["https://shop.example", null, "origin"]);
    });
  });

  test("a port that is taken is said in words", async () => {
    const url = await open();
    const port = Number(new URL(url).port);
    const first = gateway;
    await expect(open({ port })).rejects.toMatchObject({
      code: "listen_failed",
      message: expect.stringContaining(String(port)),
    });
    gateway = first;
  });
});

describe("problems", () => {
  test.each([
    ["gateway_overloaded", 503],
    ["gateway_draining", 503],
    ["runtime_unavailable", 503],
    ["runtime_overloaded", 503],
    ["receipts_overloaded", 503],
    ["database_unavailable", 503],
    ["log_full", 507],
    ["log_fenced", 503],
    ["clock_changed", 503],
    ["model_timeout", 504],
    ["model_aborted", 502],
    ["request_cancelled", 499],
    ["request_too_large", 413],
    ["opening_too_large", 413],
    ["token_required", 401],
    ["receipt_not_yours", 403],
    ["model_not_found", 404],
    ["record_invalid", 500],
    ["claims_invalid", 500],
    ["input_shape", 400],
  ])("%s is answered with %i", (code, status) => {
    const problem = problemOf(new AssayError(code, "A sentence.", { hints: ["A hint."], cause: new Error("inner") }));
    expect(problem.status).toBe(status);
    expect(problem.body).toEqual({ error: "A sentence.", code, hints: ["A hint."], docs: `/errors/${code}.md` });
    expect(Object.keys(problem.headers)).toEqual(status === 503 || status === 507 ? ["retry-after"] : []);
  });

  test.each([new Error("secret"), new TypeError("secret"), "secret", undefined, null, { code: "model_not_found" }])(
    "%s, which is not ours, becomes an internal error",
    (error) => {
      const { status, body: answer } = problemOf(error);
      expect([status, answer.code]).toEqual([500, "internal_error"]);
      expect(JSON.stringify(answer)).not.toContain("secret");
    },
  );

  test("a log line has the chain of causes, and a stack only for what is not ours", () => {
    const error = new AssayError("log_full", "Outer.", { cause: new TypeError("Inner.", { cause: "text" }) });
    expect(describeError(error)).toEqual({
      message: "Outer.",
      code: "log_full",
      cause: { message: "Inner.", cause: { message: "text" }, stack: expect.stringContaining("TypeError") },
    });
    expect(describeError({ key: "secret" })).toEqual({ message: expect.not.stringContaining("secret") });
  });
});
