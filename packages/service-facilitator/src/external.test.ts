import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { createExternalFacilitator } from "./external.ts";
import { FACILITATOR_LIMITS } from "./limits.ts";

const network = "eip155:31337";
const payload = { x402Version: 2, payload: { signature: "0x00" } };
const requirements = { scheme: "exact", network };
const transaction = `0x${"ab".repeat(32)}`;
const payer = `0x${"11".repeat(20)}`;

type Answer = { readonly status?: number; readonly body?: unknown; readonly headers?: Record<string, string> };
type Heard = { readonly path: string; readonly authorization: string | undefined; readonly body: unknown };

const closers: (() => void)[] = [];
afterAll(() => {
  for (const close of closers) close();
});

/** A server that answers by a function; a missing answer is a connection that is cut. */
async function serve(answer: (heard: Heard) => Answer | undefined | "hang") {
  const heard: Heard[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const text = Buffer.concat(chunks).toString();
      const one = {
        path: request.url ?? "",
        authorization: request.headers.authorization,
        body: text === "" ? undefined : (JSON.parse(text) as unknown),
      };
      heard.push(one);
      const given = answer(one);
      if (given === "hang") return;
      if (given === undefined) {
        response.destroy();
        return;
      }
      const { status = 200, body, headers = {} } = given;
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = (): void => {
    server.closeAllConnections();
    server.close();
  };
  closers.push(close);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/facilitator`, heard, close };
}
const settled = { success: true, transaction, network, payer };
const good = () => serve(({ path }) => ({ body: path.endsWith("/verify") ? { isValid: true, payer } : settled }));
/** An address where nobody listens. */
async function nobody(): Promise<string> {
  const { url, close } = await serve(() => undefined);
  close();
  return url;
}

test("sends what x402 has, with the authorization, and takes null for absent", async () => {
  const { url, heard } = await serve(({ path }) => ({
    body: path.endsWith("/verify")
      ? { isValid: true, invalidReason: null, payer, extra: { channelId: "0x01" } }
      : { ...settled, errorReason: null, amount: "7" },
  }));
  const facilitator = createExternalFacilitator({ endpoints: [{ url: `${url}/`, authorization: "Bearer secret" }] });
  expect(await facilitator.verify(payload, requirements)).toEqual({
    isValid: true,
    payer,
    extra: { channelId: "0x01" },
  });
  expect(await facilitator.settle(payload, requirements)).toEqual({ ...settled, amount: "7" });
  const body = { x402Version: 2, paymentPayload: payload, paymentRequirements: requirements };
  expect(heard).toEqual([
    { path: "/facilitator/verify", authorization: "Bearer secret", body },
    { path: "/facilitator/settle", authorization: "Bearer secret", body },
  ]);
});

test("a refused payment is a result, with whichever status", async () => {
  const { url } = await serve(({ path }) => ({
    status: path.endsWith("/verify") ? 400 : 402,
    body: path.endsWith("/verify")
      ? { isValid: false, invalidReason: "invalid_exact_evm_signature" }
      : { success: false, errorReason: "invalid_exact_evm_nonce_already_used", transaction: "", network },
  }));
  const facilitator = createExternalFacilitator({ endpoints: [{ url }] });
  expect(await facilitator.verify(payload, requirements)).toMatchObject({ isValid: false });
  expect(await facilitator.settle(payload, requirements)).toMatchObject({ success: false, transaction: "" });
});

test("goes on to the next when one is away, refuses us or answers nonsense to a verify", async () => {
  const other = await good();
  for (const answer of [
    { status: 401, body: { isValid: false } },
    { status: 429, body: {} },
    { status: 500, body: "oops" },
    { status: 200, body: "<html>" },
    { status: 200, body: { isValid: "yes" } },
    { status: 400, body: { isValid: true } },
    { status: 302, headers: { location: other.url }, body: "" },
    { status: 200, body: `{"isValid":true,"payer":"${"x".repeat(FACILITATOR_LIMITS.maxAnswerBytes)}"}` },
    undefined,
  ]) {
    const { url, heard } = await serve(() => answer);
    const facilitator = createExternalFacilitator({ endpoints: [{ url }, { url: other.url }] });
    expect(await facilitator.verify(payload, requirements)).toEqual({ isValid: true, payer });
    expect(heard).toHaveLength(1);
  }
  expect(other.heard).toHaveLength(9);
});

test("settles at the next only when the first cannot have begun", async () => {
  const other = await good();
  const refusing = await serve(() => ({ status: 429, body: {} }));
  const facilitator = createExternalFacilitator({
    endpoints: [{ url: await nobody() }, { url: refusing.url }, { url: other.url }],
  });
  expect(await facilitator.settle(payload, requirements)).toMatchObject({ success: true, transaction });
  expect([refusing.heard.length, other.heard.length]).toEqual([1, 1]);
});

test.each<[string, Answer | undefined]>([
  ["a cut connection", undefined],
  ["a fault of the server", { status: 500, body: { error: "x" } }],
  ["a gateway's page", { status: 502, body: "<html>" }],
  ["an answer that is none", { body: { done: true } }],
  ["a transaction that is none", { body: { ...settled, transaction: "soon" } }],
  ["another network", { body: { ...settled, network: "eip155:1" } }],
  ["a success with a refusal's status", { status: 402, body: settled }],
])("after %s it is not known whether it was settled, and the same facilitator is asked again", async (_, answer) => {
  const other = await good();
  let broken = true;
  const first = await serve(() => (broken ? answer : { body: settled }));
  const facilitator = createExternalFacilitator({ endpoints: [{ url: first.url }, { url: other.url }] });
  await expect(facilitator.settle(payload, requirements)).rejects.toMatchObject({
    code: "facilitator_outcome_unknown",
  });
  await expect(facilitator.settle(payload, requirements)).rejects.toMatchObject({
    code: "facilitator_outcome_unknown",
  });
  broken = false;
  expect(await facilitator.settle(payload, requirements)).toMatchObject({ success: true });
  expect([first.heard.length, other.heard.length]).toEqual([3, 0]);
});

test("a pending settlement is asked of the one that has it", async () => {
  let pending = true;
  const answer = { success: false, errorReason: "settlement_pending", transaction, network };
  const first = await serve(() => (pending ? { status: 502, body: answer } : { body: settled }));
  const refusing = await serve(() => ({ status: 401, body: {} }));
  const facilitator = createExternalFacilitator({ endpoints: [{ url: refusing.url }, { url: first.url }] });
  expect(await facilitator.settle(payload, requirements)).toMatchObject({ errorReason: "settlement_pending" });
  pending = false;
  expect(await facilitator.settle(payload, requirements)).toMatchObject({ success: true });
  expect(refusing.heard).toHaveLength(1);
});

test("nobody there and nobody willing", async () => {
  const away = createExternalFacilitator({ endpoints: [{ url: await nobody() }] });
  await expect(away.verify(payload, requirements)).rejects.toMatchObject({ code: "facilitator_unreachable" });
  await expect(away.settle(payload, requirements)).rejects.toMatchObject({ code: "facilitator_unreachable" });
  expect(await away.health()).toEqual({ status: "down", networks: [] });
  const { url } = await serve(() => ({ status: 403, body: { error: "x" } }));
  const refused = createExternalFacilitator({ endpoints: [{ url, authorization: "Bearer secret-4711" }] });
  const error: unknown = await refused.settle(payload, requirements).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "facilitator_refused" });
  expect(String(error)).not.toContain("4711");
  const odd = await serve(() => ({ status: 400, body: { error: "what?" } }));
  await expect(
    createExternalFacilitator({ endpoints: [{ url: odd.url }] }).settle(payload, requirements),
  ).rejects.toMatchObject({ code: "facilitator_refused" });
});

test("a slow one is not waited for", async () => {
  const { url } = await serve(() => "hang");
  const other = await good();
  const facilitator = createExternalFacilitator({ endpoints: [{ url }, { url: other.url }], timeoutMs: 700 });
  expect(await facilitator.verify(payload, requirements)).toMatchObject({ isValid: true });
  await expect(facilitator.settle(payload, requirements)).rejects.toMatchObject({
    code: "facilitator_outcome_unknown",
  });
});

test("a caller that goes away ends the exchange", async () => {
  const { url } = await serve(() => "hang");
  const facilitator = createExternalFacilitator({ endpoints: [{ url }] });
  const controller = new AbortController();
  const verifying = facilitator.verify(payload, requirements, { signal: controller.signal });
  controller.abort();
  await expect(verifying).rejects.toMatchObject({ name: "AbortError" });
});

test("kinds, catalogue and health, parsed", async () => {
  const supported = {
    kinds: [{ x402Version: 2, scheme: "exact", network, extra: null }],
    signers: { "eip155:*": [payer] },
  };
  const { url, heard } = await serve(({ path }) => ({
    body: path.endsWith("/supported")
      ? supported
      : {
          x402Version: 2,
          items: [{ resource: "https://a", type: "http", x402Version: 2, accepts: [], lastUpdated: 0 }],
          pagination: { limit: 1, offset: 2, total: 3 },
        },
  }));
  const facilitator = createExternalFacilitator({ endpoints: [{ url }] });
  expect(await facilitator.supported()).toMatchObject({ kinds: [{ scheme: "exact" }], extensions: [] });
  await facilitator.supported();
  expect(await facilitator.health()).toEqual({ status: "ok", networks: [{ network, up: true }] });
  expect(await facilitator.discovery({ limit: 1, offset: 2, type: "http" })).toMatchObject({
    items: [{ lastUpdated: "1970-01-01T00:00:00.000Z" }],
    pagination: { total: 3 },
  });
  expect(heard.map(({ path }) => path)).toEqual([
    "/facilitator/supported",
    "/facilitator/supported",
    "/facilitator/discovery/resources?type=http&limit=1&offset=2",
  ]);
});

test.each([
  [[]],
  [[{ url: "facilitator.example" }]],
  [[{ url: "http://facilitator.example" }]],
  [[{ url: "ftp://127.0.0.1" }]],
  [[{ url: "https://me:secret@facilitator.example" }]],
  [[{ url: "https://facilitator.example/?key=secret" }]],
  [Array.from({ length: 9 }, () => ({ url: "https://facilitator.example" }))],
])("refuses a faulty configuration", (endpoints) => {
  const attempt = (): unknown => createExternalFacilitator({ endpoints });
  expect(attempt).toThrow(expect.objectContaining({ code: "facilitator_config_invalid" }) as Error);
  expect(attempt).not.toThrow("secret");
});
