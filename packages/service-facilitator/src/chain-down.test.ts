import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { canonicalJson, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { createChain, createSender, evmSigner, memoryJournal, nativeEvmSuite } from "@assay/driver-chain";
import { authorizeExact, paymentDocument, requirementsToJson } from "@assay/x402";
import type { PaymentRequirements } from "@assay/x402";
import { createFacilitator } from "./facilitator.ts";
import type { ServedChain } from "./plan.ts";
import { listen } from "./testing/shop.ts";

const suite = nativeEvmSuite();
const receiver = `0x${"22".repeat(20)}` as const;
const token = {
  symbol: "USDC",
  address: `0x${"33".repeat(20)}`,
  decimals: 6,
  name: "USDC",
  version: "2",
  eip3009: true,
  eip2612: true,
} as const;
const required: PaymentRequirements = {
  scheme: "exact",
  network: "eip155:31337",
  amount: "1000",
  asset: token.address,
  payTo: receiver,
  maxTimeoutSeconds: 900,
  extra: { name: "USDC", version: "2" },
};

/** What the node does with a call of JSON-RPC. */
let node: (method: string, id: number, response: ServerResponse) => void;
let server: Server;
let url: string;
const closers: (() => void)[] = [];

beforeAll(async () => {
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method, id } = JSON.parse(Buffer.concat(chunks).toString()) as { method: string; id: number };
      node(method, id, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  for (const close of closers) close();
  server.closeAllConnections();
  server.close();
});

const result = (response: ServerResponse, id: number, value: unknown): void => {
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify({ jsonrpc: "2.0", id, result: value }));
};

function served(chainUrl: string, chainId = 31337): ServedChain {
  const chain = createChain({ url: chainUrl, chainId, timeoutMs: 200 });
  const sender = createSender({ chain, signer: evmSigner(randomBytes(32)), journal: memoryJournal() });
  closers.push(() => void sender.close());
  return { network: `eip155:${chainId}`, chain, senders: [sender], tokens: [token] };
}
async function documents(): Promise<{ readonly paymentPayload: JsonValue; readonly paymentRequirements: JsonValue }> {
  const signer = evmSigner(randomBytes(32));
  const nowS = Math.floor(Date.now() / 1000);
  const payload = await authorizeExact({ suite, signer, requirement: required, nonce: randomBytes(32), nowS });
  const wire = (value: unknown): JsonValue => parseJson(canonicalJson(value as JsonValue));
  return {
    paymentPayload: wire(paymentDocument(suite, payload)),
    paymentRequirements: wire(requirementsToJson(suite, required)),
  };
}

/** An address where nobody listens any more. */
async function nobody(): Promise<string> {
  const gone = createServer();
  await new Promise<void>((resolve) => gone.listen(0, "127.0.0.1", resolve));
  const address = `http://127.0.0.1:${(gone.address() as AddressInfo).port}`;
  await new Promise((resolve) => gone.close(resolve));
  return address;
}

test.each<[string, number, string, (method: string, id: number, response: ServerResponse) => void]>([
  ["is slow", 503, "chain_unavailable", () => undefined],
  ["cuts the connection", 503, "chain_unavailable", (_, __, response) => void response.destroy()],
  ["answers with a page", 503, "chain_unavailable", (_, __, response) => void response.end("<html>")],
  ["answers what is no number", 503, "chain_unavailable", (_, id, response) => result(response, id, "soon")],
  ["is another chain's", 502, "chain_mismatch", (_, id, response) => result(response, id, "0x1")],
  [
    "refuses",
    502,
    "chain_rpc_error",
    (method, id, response) => {
      if (method === "eth_chainId") result(response, id, "0x7a69");
      else
        response.end(JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32000, message: "the key 4711 is spent" } }));
    },
  ],
])("a node that %s: %i %s, for verify and settle, and nothing is remembered", async (_, status, code, behaviour) => {
  node = behaviour;
  const { url: at, server: listening } = await listen(createFacilitator({ suite, chains: [served(url)] }), receiver);
  closers.push(() => void listening.close());
  const body = JSON.stringify({ x402Version: 2, ...(await documents()) });
  for (const operation of ["verify", "settle"]) {
    const response = await fetch(`${at}/${operation}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer a-token-of-decent-length" },
      body,
    });
    expect(response.status).toBe(status);
    expect(response.headers.has("retry-after")).toBe(status === 503);
    const text = await response.text();
    expect(JSON.parse(text)).toMatchObject({
      code,
      ...(operation === "verify" ? { isValid: false } : { success: false }),
    });
    expect(text).not.toContain("4711");
    expect(text).not.toContain("127.0.0.1");
  }
});

test("health says which chains can be reached", async () => {
  node = (_, id, response) => result(response, id, "0x7a69");
  const up = served(url);
  const down = { ...served(await nobody(), 8453) };
  const health = (chains: readonly ServedChain[]) => createFacilitator({ suite, chains }).health();
  expect(await health([up])).toMatchObject({ status: "ok" });
  expect(await health([up, down])).toEqual({
    status: "degraded",
    networks: [
      { network: "eip155:31337", up: true },
      { network: "eip155:8453", up: false, code: "chain_unavailable" },
    ],
  });
  expect(await health([down])).toMatchObject({ status: "down" });
});

test("several chains are served by configuration, and a wrong configuration by nobody", async () => {
  const [one, two] = [served(url), served(url, 8453)];
  const { kinds, extensions, signers } = await createFacilitator({ suite, chains: [one, two] }).supported();
  expect(kinds.map(({ x402Version, scheme, network }) => `${x402Version} ${scheme} ${network}`)).toEqual([
    "2 exact eip155:31337",
    "2 upto eip155:31337",
    "2 batch-settlement eip155:31337",
    "2 exact eip155:8453",
    "2 upto eip155:8453",
    "2 batch-settlement eip155:8453",
    "1 exact base",
  ]);
  expect(extensions).toContain("eip2612GasSponsoring");
  expect(signers["eip155:*"]).toHaveLength(2);
  const [sender] = one.senders;
  for (const chains of [
    [],
    [one, one],
    [{ ...one, network: "eip155:8453" as const }],
    [{ ...one, senders: [] }],
    [{ ...one, senders: [sender!, sender!] }],
    [{ ...one, tokens: [] }],
    [{ ...one, tokens: [{ ...token, address: `0x${"AB".repeat(20)}` as const }] }],
  ]) {
    expect(() => createFacilitator({ suite, chains })).toThrow(
      expect.objectContaining({ code: "facilitator_config_invalid" }) as Error,
    );
  }
});
