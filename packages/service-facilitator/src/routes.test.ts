import { createHash } from "node:crypto";
import { OpenAPIHono } from "@hono/zod-openapi";
import { expect, test } from "vitest";
import { AssayError } from "@assay/core";
import { createCallers } from "./callers.ts";
import { createCatalogue } from "./catalogue.ts";
import { FACILITATOR_LIMITS } from "./limits.ts";
import { addFacilitatorRoutes } from "./routes.ts";
import type { FacilitatorRoutesModules } from "./routes.ts";
import type { Facilitator, FacilitatorCaller } from "./types.ts";

const token = "a-token-of-decent-length";
const callers = createCallers([{ id: "shop", tokenSha256: createHash("sha256").update(token).digest("hex") }]);
const body = JSON.stringify({
  x402Version: 2,
  paymentPayload: { x402Version: 2, payload: {} },
  paymentRequirements: { network: "eip155:31337" },
});

function serve(parts: Partial<Facilitator> = {}, more: Partial<FacilitatorRoutesModules> = {}) {
  const asked: (FacilitatorCaller | undefined)[] = [];
  const errors: unknown[] = [];
  const app = new OpenAPIHono();
  addFacilitatorRoutes(app, {
    facilitator: {
      verify: async (_payload, _requirements, request) => {
        asked.push(request?.caller);
        return { isValid: true, payer: `0x${"11".repeat(20)}` };
      },
      settle: async (_payload, _requirements, request) => {
        asked.push(request?.caller);
        return { success: true, transaction: `0x${"22".repeat(32)}`, network: "eip155:31337" };
      },
      supported: async () => ({ kinds: [], extensions: [], signers: {} }),
      discovery: async (query) => createCatalogue({ now: () => 0 }).page(query),
      health: async () => ({ status: "ok", networks: [] }),
      ...parts,
    },
    callers,
    addressOf: (context) => context.req.header("x-test-address"),
    onError: (error) => errors.push(error),
    ...more,
  });
  const post = (path: string, sent = body, headers: Record<string, string> = {}) =>
    app.request(`/facilitator/${path}`, {
      method: "POST",
      body: sent,
      headers: { "content-type": "application/json", ...headers },
    });
  return { app, post, asked, errors };
}

test("passes requests on with their caller", async () => {
  const { post, asked } = serve();
  const verified = await post("verify");
  expect(verified.status).toBe(200);
  expect(await verified.json()).toEqual({ isValid: true, payer: `0x${"11".repeat(20)}` });
  expect(verified.headers.get("cache-control")).toBe("no-store");
  const settled = await post("settle", body, { authorization: `Bearer ${token}` });
  expect(await settled.json()).toMatchObject({ success: true });
  expect(asked).toEqual([undefined, { id: "shop", payTo: "any" }]);
});

test.each([
  ["text", "application/json", "{", 400, "facilitator_request_invalid"],
  ["a list", "application/json", "[]", 400, "facilitator_request_invalid"],
  ["nothing", "application/json", "", 400, "facilitator_request_invalid"],
  ["no payload", "application/json", '{"paymentRequirements":{}}', 400, "facilitator_request_invalid"],
  ["no requirements", "application/json", '{"paymentPayload":{}}', 400, "facilitator_request_invalid"],
  [
    "two versions",
    "application/json",
    '{"x402Version":1,"paymentPayload":{"x402Version":2},"paymentRequirements":{}}',
    400,
    "facilitator_request_invalid",
  ],
  ["too deep", "application/json", `${"[".repeat(40)}${"]".repeat(40)}`, 400, "facilitator_request_invalid"],
  ["no JSON", "text/plain", body, 415, "content_type_unsupported"],
  ["too much", "application/json", " ".repeat(FACILITATOR_LIMITS.maxBodyBytes + 1), 413, "request_too_large"],
])("refuses %s", async (_, type, sent, status, code) => {
  const { post, asked, errors } = serve();
  for (const path of ["verify", "settle"]) {
    const response = await post(path, sent, { "content-type": type });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({
      code,
      docs: `/errors/${code}.md`,
      ...(path === "verify" ? { isValid: false, invalidReason: code } : { success: false, errorReason: code }),
    });
  }
  expect(asked).toEqual([]);
  expect(errors).toEqual([]);
});

test("a body without a length is cut off at the limit", async () => {
  const { app } = serve();
  let pulled = 0;
  const stream = new ReadableStream({
    pull: (controller) => {
      pulled++;
      controller.enqueue(new Uint8Array(64 * 1024));
    },
  });
  const response = await app.request("/facilitator/verify", {
    method: "POST",
    body: stream,
    headers: { "content-type": "application/json" },
    duplex: "half",
  } as RequestInit);
  expect(response.status).toBe(413);
  expect(pulled).toBeLessThan(20);
});

test("a wrong token is refused, and guessing uses the address's allowance up", async () => {
  const { post, asked } = serve({}, { perAddress: { perSecond: 0.1, burst: 3 }, now: () => 0 });
  for (let i = 0; i < 3; i++) {
    const response = await post("settle", body, { authorization: `Bearer wrong-${token}` });
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toMatch(/^Bearer/);
    expect(await response.text()).not.toContain(token);
  }
  const limited = await post("settle", body, { authorization: `Bearer wrong-${token}` });
  expect(limited.status).toBe(429);
  expect(limited.headers.get("retry-after")).toBe("10");
  // Whoever has the token is not held up by others behind the same address.
  expect((await post("settle", body, { authorization: `Bearer ${token}` })).status).toBe(200);
  expect(asked).toHaveLength(1);
});

test("allowances: each address has its own, each caller its own, on every route", async () => {
  const rate = { perSecond: 1, burst: 2 };
  const { app, post } = serve({}, { perAddress: rate, perCaller: rate, now: () => 0 });
  const from = (address: string) => ({ "x-test-address": address });
  const statuses = async (...answers: (Response | Promise<Response>)[]) =>
    (await Promise.all(answers.map(async (answer) => answer))).map(({ status }) => status);
  expect(
    await statuses(
      post("verify", body, from("192.0.2.1")),
      app.request("/facilitator/supported", { headers: from("192.0.2.1") }),
      app.request("/facilitator/discovery/resources", { headers: from("192.0.2.1") }),
      post("verify", body, from("192.0.2.2")),
    ),
  ).toEqual([200, 200, 429, 200]);
  const mine = { ...from("192.0.2.1"), authorization: `Bearer ${token}` };
  expect(await statuses(post("settle", body, mine), post("settle", body, mine), post("settle", body, mine))).toEqual([
    200, 200, 429,
  ]);
});

test("verify needs a token where the operator wants it so", async () => {
  const { post } = serve({}, { verifyNeedsToken: true });
  const refused = await post("verify");
  expect(refused.status).toBe(401);
  expect(await refused.json()).toMatchObject({ isValid: false, invalidReason: "token_required" });
  expect((await post("verify", body, { authorization: `Bearer ${token}` })).status).toBe(200);
});

test.each([
  ["chain_unavailable", 503],
  ["chain_rpc_error", 502],
  ["payee_refused", 403],
  ["facilitator_overloaded", 503],
  ["token_required", 401],
])("%s is answered with %i and says no secret", async (code, status) => {
  const cause = new Error("http://node.example/key-4711 failed");
  const throwing = async (): Promise<never> => {
    throw new AssayError(code, "It did not work.", { cause });
  };
  const { post, errors } = serve({ settle: throwing, verify: throwing });
  const settled = await post("settle");
  expect(settled.status).toBe(status);
  expect(settled.headers.get("retry-after")).toBe(status === 503 ? "1" : null);
  const text = await settled.text();
  expect(JSON.parse(text)).toMatchObject({
    success: false,
    errorReason: code,
    transaction: "",
    network: "eip155:31337",
  });
  expect(text).not.toContain("4711");
  expect((await post("verify")).status).toBe(status);
  expect(errors).toHaveLength(status >= 500 ? 2 : 0);
});

test("what is no error of ours is internal, and stays inside", async () => {
  const { post, errors } = serve({
    verify: async () => {
      throw new Error("the key 4711");
    },
  });
  const response = await post("verify");
  expect(response.status).toBe(500);
  const text = await response.text();
  expect(JSON.parse(text)).toMatchObject({ code: "internal_error", isValid: false });
  expect(text).not.toContain("4711");
  expect(errors).toHaveLength(1);
});

test("pages of the catalogue, and counts that are none", async () => {
  const { app } = serve();
  const page = await app.request("/facilitator/discovery/resources?type=http&limit=5&offset=10");
  expect(await page.json()).toEqual({ x402Version: 2, items: [], pagination: { limit: 5, offset: 10, total: 0 } });
  for (const query of ["limit=x", "offset=-1", "limit=1e3", "limit="]) {
    const refused = await app.request(`/facilitator/discovery/resources?${query}`);
    expect(refused.status).toBe(400);
  }
});

test("a facilitator whose chains are away says so with 503", async () => {
  const { app } = serve({
    health: async () => ({ status: "down", networks: [{ network: "eip155:1", up: false, code: "chain_unavailable" }] }),
  });
  const response = await app.request("/facilitator/health");
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({ status: "down" });
});

test("stands in the OpenAPI document", () => {
  const { app } = serve();
  const document = app.getOpenAPI31Document({ openapi: "3.1.0", info: { title: "x", version: "1" } });
  expect(Object.keys(document.paths ?? {})).toEqual([
    "/facilitator/verify",
    "/facilitator/settle",
    "/facilitator/supported",
    "/facilitator/discovery/resources",
    "/facilitator/health",
  ]);
});
