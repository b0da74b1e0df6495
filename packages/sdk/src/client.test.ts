import { describe, expect, test } from "vitest";
import { base64ToBytes, bytesToBase64Url, bytesToHex, isAssayError, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { encodeInferResponse, joinBody, parseHeaderLength, parseInferRequest } from "@assay/protocol";
import type { Tensor } from "@assay/protocol";
import { decodeBundle, encodeBundle } from "@assay/receipts";
import { fixedSigner, makeReceipt } from "@assay/testkit";
import type { MockReceipt } from "@assay/testkit";
import { createClient, GatewayError, openBundle } from "./index.ts";
import type { ClientOptions, Fetch } from "./index.ts";

type Call = { readonly method: string; readonly path: string; readonly headers: Headers; readonly body: Uint8Array };

const URL_OF = "http://gateway.test";
const input: Tensor = { name: "image", datatype: "FP32", shape: [1, 4], data: new Uint8Array(16).fill(1) };
const label: Tensor = { name: "label", datatype: "INT64", shape: [1], data: new Uint8Array([3, 0, 0, 0, 0, 0, 0, 0]) };

function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers });
}

/** A client over `answer`, and everything it sent. Pauses are counted instead of waited for. */
function clientOver(
  answer: (call: Call, count: number) => Response | Promise<Response>,
  options: Partial<ClientOptions> = {},
) {
  const calls: Call[] = [];
  const pauses: number[] = [];
  const fetch: Fetch = async (url, init) => {
    init.signal?.throwIfAborted();
    const body =
      init.body === undefined ? new Uint8Array() : new Uint8Array(await new Response(init.body).arrayBuffer());
    const call = {
      method: init.method ?? "GET",
      path: url.slice(URL_OF.length),
      headers: new Headers(init.headers),
      body,
    };
    calls.push(call);
    return answer(call, calls.length);
  };
  const client = createClient({
    url: URL_OF,
    fetch,
    random: () => 1,
    sleep: (ms, signal) => {
      signal?.throwIfAborted();
      pauses.push(ms);
      return Promise.resolve();
    },
    suite: nodeSuite,
    ...options,
  });
  return { client, calls, pauses };
}

/** The headers of an answer about `mock`, with changes. */
function receiptHeaders(mock: MockReceipt, changes: Record<string, string> = {}): Record<string, string> {
  return {
    "assay-receipt-id": "00".repeat(16),
    "assay-execution-digest": "11".repeat(32),
    "assay-opening": bytesToBase64Url(mock.masterSalt),
    "assay-grant": "22".repeat(32),
    "assay-log-index": "700",
    ...changes,
  };
}

function inferAnswer(headers: Record<string, string>, outputs: readonly Tensor[] = [label]): Response {
  const body = encodeInferResponse({
    modelName: "acme/digits",
    modelVersion: "3",
    outputs: outputs.map((tensor) => ({ tensor, binary: true })),
  });
  return new Response(joinBody(body) as Uint8Array<ArrayBuffer>, {
    headers: { ...headers, "inference-header-content-length": String(body.headerLength) },
  });
}

const code = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
  } catch (error) {
    if (isAssayError(error)) return error.code;
    throw error;
  }
  return "no error";
};

describe("infer", () => {
  test("sends binary tensors with what was asked for, and reads binary tensors back", async () => {
    const mock = await makeReceipt();
    const { client, calls } = clientOver(() => inferAnswer(receiptHeaders(mock)));
    const answer = await client.infer({
      model: "acme/digits@3",
      inputs: [input],
      outputs: ["label"],
      profile: "native",
      nonce: new Uint8Array(8).fill(5),
      retention: "server-encrypted",
      preprocessing: { digest: "33".repeat(32), bytes: utf8ToBytes("{}") },
    });
    expect(answer).toMatchObject({ modelName: "acme/digits", modelVersion: "3", logIndex: 700, outputs: [label] });
    expect(bytesToHex(answer.masterSalt)).toBe(bytesToHex(mock.masterSalt));
    const [call] = calls;
    expect(call?.path).toBe("/v2/models/acme%2Fdigits/versions/3/infer");
    expect(Object.fromEntries(call?.headers ?? [])).toMatchObject({
      "assay-profile": "native",
      "assay-client-nonce": "0505050505050505",
      "assay-retention": "server-encrypted",
      "assay-preprocessing-digest": "33".repeat(32),
    });
    expect(call?.headers.get("authorization")).toBeNull();
    const length = parseHeaderLength(call?.headers.get("inference-header-content-length") ?? undefined);
    expect(parseInferRequest(call?.body ?? new Uint8Array(), length)).toMatchObject({
      inputs: [input],
      outputs: [{ name: "label", binary: true }],
    });
  });

  test("is never sent twice, whatever comes back", async () => {
    for (const status of [429, 502, 503, 504]) {
      const { client, calls } = clientOver(() => json({ error: "Busy.", code: "runtime_overloaded" }, status));
      expect(await code(client.infer({ model: "a/b", inputs: [input] }))).toBe("runtime_overloaded");
      expect(calls).toHaveLength(1);
    }
    const { client, calls } = clientOver(() => Promise.reject(new TypeError("reset")));
    expect(await code(client.infer({ model: "a/b", inputs: [input] }))).toBe("gateway_unreachable");
    expect(calls).toHaveLength(1);
  });

  test.each([
    ["assay-receipt-id", "xyz"],
    ["assay-execution-digest", "11"],
    ["assay-opening", "short"],
    ["assay-opening", "A".repeat(42) + "B"],
    ["assay-grant", "GG".repeat(32)],
  ])("an answer whose header %s is %s is no answer", async (name, value) => {
    const mock = await makeReceipt();
    const { client } = clientOver(() => inferAnswer(receiptHeaders(mock, { [name]: value })));
    expect(["response_malformed", "invalid_encoding"]).toContain(
      await code(client.infer({ model: "a/b", inputs: [input] })),
    );
  });

  test("another protocol's server gives no receipt, and that is an error", async () => {
    const { client } = clientOver(() => json({ model_name: "a/b", outputs: [] }));
    expect(await code(client.infer({ model: "a/b", inputs: [input] }))).toBe("response_malformed");
  });

  test.each(["digits", "a/b/c", "a/b@x", "a b/c", "/b", "a/", ""])(
    "the name %j is refused before anything is sent",
    async (model) => {
      const { client, calls } = clientOver(() => json({}));
      expect(await code(client.infer({ model, inputs: [input] }))).toBe("model_name_invalid");
      expect(calls).toHaveLength(0);
    },
  );
});

describe("verification", () => {
  // The request of the mock receipt asks for acme/digits with this image and answers with this label.
  const ask = { model: "acme/digits", inputs: [input] };
  const over = (mock: MockReceipt, bytes: Uint8Array, outputs?: readonly Tensor[]) =>
    clientOver(
      ({ path }) =>
        path.includes("/bundle?")
          ? new Response(bytes as Uint8Array<ArrayBuffer>)
          : inferAnswer(receiptHeaders(mock), outputs),
      { trust: mock.trust, now: () => mock.now },
    );

  test("is on by default when there is something to trust: bundle by grant, opened, verified", async () => {
    const mock = await makeReceipt({ open: false });
    const { client, calls } = over(mock, mock.bytes);
    const { receipt } = await client.infer(ask);
    expect(receipt?.verdict).toMatchObject({ status: "verified" });
    expect(receipt?.verdict.checks.find(({ check }) => check === "commitments")?.status).toBe("pass");
    expect(calls[1]?.headers.get("assay-grant")).toBe("22".repeat(32));
    expect(calls[1]?.path).toMatch(/waitMs=\d+$/);
  });

  test("an answer that is not the signed one throws, and so does a question that is not", async () => {
    const mock = await makeReceipt({ open: false });
    const forged = { ...label, data: new Uint8Array([4, 0, 0, 0, 0, 0, 0, 0]) };
    expect(await code(over(mock, mock.bytes, [forged]).client.infer(ask))).toBe("receipt_failed");
    expect(await code(over(mock, mock.bytes).client.infer({ ...ask, model: "acme/digits@3" }))).toBe("receipt_failed");
  });

  test("a receipt that nothing vouches for is told, not thrown; verify: false asks for none", async () => {
    const [mock, stranger] = await Promise.all([
      makeReceipt({ open: false }),
      makeReceipt({ open: false, nodeName: "mallory" }),
    ]);
    const { receipt } = await over(mock, stranger.bytes).client.infer(ask);
    expect(receipt?.verdict).toMatchObject({ status: "inconclusive", code: "keyset_not_trusted" });
    const { client, calls } = over(mock, mock.bytes);
    expect((await client.infer({ ...ask, verify: false })).receipt).toBeUndefined();
    expect(calls).toHaveLength(1);
  });

  test("verify: true without trust is refused", async () => {
    const mock = await makeReceipt();
    const { client } = clientOver(() => inferAnswer(receiptHeaders(mock)));
    expect(await code(client.infer({ ...ask, verify: true }))).toBe("receipt_failed");
  });

  test("opening a bundle twice leaves one opening, and keeps the rest as it was", async () => {
    const mock = await makeReceipt();
    const known = { masterSalt: mock.masterSalt, modelAsked: "acme/digits", inputs: [input], outputs: [label] };
    expect(openBundle(mock.bytes, known)).toEqual(mock.bytes);
    const { openings: _openings, evidence: _evidence, ...closed } = mock.bundle;
    const preprocessing = mock.bundle.evidence?.[0]?.data ?? new Uint8Array();
    expect(openBundle(encodeBundle(closed), { ...known, preprocessing })).toEqual(mock.bytes);
    expect(decodeBundle(openBundle(encodeBundle(closed), known)).evidence).toBeUndefined();
  });
});

describe("safe requests are tried again", () => {
  test("with growing pauses, after 429, 502, 503, 504 or no answer, and then given up", async () => {
    const statuses = [503, 429];
    const { client, pauses } = clientOver((_call, count) => json({ models: [] }, statuses[count - 1] ?? 200));
    expect(await client.models()).toEqual([]);
    expect(pauses).toEqual([100, 200]);
    const down = clientOver(() => Promise.reject(new TypeError("refused")));
    expect(await code(down.client.models())).toBe("gateway_unreachable");
    expect([down.calls.length, down.pauses]).toEqual([3, [100, 200]]);
  });

  test("Retry-After is obeyed up to a limit", async () => {
    const { client, pauses } = clientOver((_call, count) =>
      json({ models: [] }, count === 1 ? 503 : 200, { "retry-after": count === 1 ? "4000" : "1" }),
    );
    await client.models();
    expect(pauses).toEqual([10_000]);
  });

  test("never after an answer that will stay the same", async () => {
    for (const status of [400, 401, 403, 404, 409, 500]) {
      const { client, calls } = clientOver(() => json({ error: "No.", code: "no" }, status));
      expect(await code(client.models())).toBe("no");
      expect(calls).toHaveLength(1);
    }
  });

  test("not after the caller gave up", async () => {
    const stop = new AbortController();
    const { client, calls } = clientOver(() => {
      stop.abort(new Error("enough"));
      return json({}, 503);
    });
    await expect(client.models({ signal: stop.signal })).rejects.toThrow("enough");
    expect(calls).toHaveLength(1);
    await expect(client.infer({ model: "a/b", inputs: [input], signal: stop.signal })).rejects.toThrow("enough");
  });

  test("an answer that does not come in time is a timeout", async () => {
    const client = createClient({
      url: URL_OF,
      timeoutMs: 1,
      retries: 0,
      fetch: (_url, init) =>
        new Promise((_resolve, reject) => {
          // The platform's timer is unreferenced; this one keeps the process for it.
          const keep = setTimeout(() => undefined, 60_000);
          init.signal?.addEventListener("abort", () => {
            clearTimeout(keep);
            reject(init.signal?.reason as Error);
          });
        }),
    });
    expect(await code(client.models())).toBe("gateway_timeout");
  });
});

describe("errors", () => {
  test("carry the gateway's code, hints and status", async () => {
    const { client } = clientOver(() =>
      json({ error: "No such model.", code: "model_not_found", hints: ["Try demo/digits.", 7] }, 404),
    );
    const error = await client.model("a/b").catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(GatewayError);
    expect(error).toMatchObject({
      code: "model_not_found",
      status: 404,
      hints: ["Try demo/digits."],
      request: "GET /v1/models/a%2Fb",
    });
  });

  test.each(["<html>", "{}", '{"error":"x","code":"Not A Code"}', `{"error":"${"x".repeat(70_000)}","code":"long"}`])(
    "a body that is not the API's gives the status as code (%#)",
    async (body) => {
      const { client } = clientOver(() => new Response(body, { status: 418 }));
      expect(await code(client.models())).toBe("http_418");
    },
  );

  test("answers that are too large, no JSON or another document are refused", async () => {
    const big = clientOver(() => new Response(new Uint8Array(1024 * 1024 + 1)));
    expect(await code(big.client.proof("00".repeat(16), "cose"))).toBe("response_too_large");
    expect(await code(clientOver(() => new Response("hello")).client.models())).toBe("response_malformed");
    expect(await code(clientOver(() => json({ models: [{}] })).client.models())).toBe("response_malformed");
  });

  test.each(["gateway", "ftp://gateway", "http://a:b@gateway", "http://gateway?x=1", "http://gateway#x"])(
    "%s is no gateway",
    (url) => expect(() => createClient({ url })).toThrow(/gateway|Gateway|address/i),
  );

  test.each(["xyz", "00", "00".repeat(17), "AA".repeat(16)])("%s is no receipt id", async (id) => {
    const { client, calls } = clientOver(() => json({}));
    expect(await code(client.bundle(id))).toBe("receipt_id_invalid");
    expect(calls).toHaveLength(0);
  });
});

describe("signing in", () => {
  const signer = fixedSigner("owner");
  const page = { receipts: [], next: null };
  const granted = (expiresAt: string) => ({ token: "assay_token", owner: "ed25519:00", expiresAt });

  test("signs the gateway's challenge under its own tag, once for many calls", async () => {
    const { client, calls } = clientOver(
      ({ path }) =>
        json(
          path.endsWith("challenge")
            ? { challenge: "c.1" }
            : path.endsWith("token")
              ? granted("2099-01-01T00:00:00Z")
              : page,
        ),
      { signer, now: () => 0 },
    );
    await client.receipts({ limit: 5, model: "a/b" });
    await client.receipts();
    expect(calls.map(({ path }) => path)).toEqual([
      "/v1/auth/challenge",
      "/v1/auth/token",
      "/v1/receipts?limit=5&model=a%2Fb",
      "/v1/receipts?",
    ]);
    const proof = JSON.parse(Buffer.from(calls[1]?.body ?? "").toString()) as { signature: string };
    const signature = base64ToBytes(proof.signature);
    const signed = utf8ToBytes("assay/auth/1\nc.1");
    expect(await nodeSuite.verify("ed25519", signer.publicKey, signed, signature)).toBe(true);
    expect(await nodeSuite.verify("ed25519", signer.publicKey, utf8ToBytes("c.1"), signature)).toBe(false);
    expect(calls[2]?.headers.get("authorization")).toBe("Bearer assay_token");
    expect(await client.owner()).toBe("ed25519:00");
  });

  test("again when the token is about to end, and again after a failure", async () => {
    let broken = true;
    const { client, calls } = clientOver(
      ({ path }) => {
        if (path.endsWith("token") && broken) return json({ error: "No.", code: "challenge_invalid" }, 401);
        return json(
          path.endsWith("challenge")
            ? { challenge: "c" }
            : path.endsWith("token")
              ? granted("1970-01-01T00:00:30Z")
              : page,
        );
      },
      { signer, now: () => 0 },
    );
    expect(await code(client.receipts())).toBe("challenge_invalid");
    broken = false;
    await client.receipts();
    await client.receipts();
    expect(calls.filter(({ path }) => path.endsWith("token"))).toHaveLength(3);
  });

  test("a gateway whose database still starts is waited for, each time with another challenge, and not for ever", async () => {
    const starting = (until: number) => {
      let asked = 0;
      return clientOver(
        ({ path }) => {
          if (path.endsWith("challenge")) return json({ challenge: `c.${asked}` });
          if (!path.endsWith("token")) return json(page);
          const after = { "retry-after": "1" };
          return asked++ < until
            ? json({ error: "Starting.", code: "database_unavailable" }, 503, after)
            : json(granted("2099-01-01T00:00:00Z"));
        },
        { signer, now: () => 0 },
      );
    };
    const soon = starting(2);
    await soon.client.receipts();
    expect(soon.pauses).toEqual([1000, 1000]);
    const signed = soon.calls
      .filter(({ path }) => path.endsWith("token"))
      .map(({ body }) => Buffer.from(body).toString());
    expect(new Set(signed.map((text) => (JSON.parse(text) as { challenge: string }).challenge)).size).toBe(3);
    const never = starting(Number.POSITIVE_INFINITY);
    expect(await code(never.client.receipts())).toBe("database_unavailable");
    expect(never.pauses).toHaveLength(8);
  });

  test("without key or token, or with a key of another kind, it is refused", async () => {
    expect(await code(clientOver(() => json(page)).client.receipts())).toBe("signer_missing");
    const other = clientOver(() => json(page), { signer: fixedSigner("pq", "ml-dsa-44") });
    expect(await code(other.client.receipts())).toBe("signer_missing");
    expect(other.calls).toHaveLength(0);
  });

  test("what is public is asked for without saying who asks; a refusal is asked again as the owner", async () => {
    const model = {
      name: "a/b",
      version: 1,
      manifestDigest: "11".repeat(32),
      status: "released",
      visibility: "private",
      sizeBytes: 1,
      releasedAt: "2026-11-21T10:00:00Z",
      owner: "ed25519:00",
      versions: [],
      manifest: {},
      signature: { inputs: [], outputs: [] },
    };
    const { client, calls } = clientOver(
      ({ path, headers }) => {
        if (path.endsWith("challenge")) return json({ challenge: "c" });
        if (path.endsWith("token")) return json(granted("2099-01-01T00:00:00Z"));
        return headers.has("authorization") ? json(model) : json({ error: "None.", code: "model_not_found" }, 404);
      },
      { signer },
    );
    expect(await client.model("a/b")).toMatchObject({ name: "a/b" });
    expect(calls.map(({ headers }) => headers.has("authorization"))).toEqual([false, false, false, true]);
  });
});

test("a call of the operator's sends what it is given, and an answer without a body is null", async () => {
  const { client, calls } = clientOver(
    ({ method }) => (method === "DELETE" ? new Response(null, { status: 204 }) : json({ name: "x" })),
    { token: "assay_t" },
  );
  expect(await client.admin({ method: "PUT", path: "/v1/contracts/x", body: { models: ["a/b"] } })).toEqual({
    name: "x",
  });
  expect(await client.admin({ method: "DELETE", path: "/v1/contracts/x" })).toBeNull();
  expect(calls.map(({ headers, body }) => [headers.get("authorization"), body.length])).toEqual([
    ["Bearer assay_t", 18],
    ["Bearer assay_t", 0],
  ]);
  const empty = clientOver(() => new Response(""), { token: "assay_t" }).client;
  expect(await code(empty.admin({ method: "GET", path: "/v1/contracts" }))).toBe("response_malformed");
});

describe("push", () => {
  test("uploads each file, then the manifest; a store that misnames a file is caught", async () => {
    const content = utf8ToBytes("weights");
    const sha256 = bytesToHex(nodeSuite.sha256(content));
    const release = {
      manifest: utf8ToBytes('{"schemaVersion":2}'),
      files: [{ path: "model.onnx", sha256, read: () => Promise.resolve(content) }],
      visibility: "private" as const,
    };
    const answer = (stored: string) =>
      clientOver(
        ({ path }) =>
          path === "/v1/blobs"
            ? json({ sha256: stored, sizeBytes: 7 })
            : json({ name: "a/b", version: 1, manifestDigest: "44".repeat(32), logIndex: 9 }),
        { token: "assay_t" },
      );
    const { client, calls } = answer(sha256);
    expect(await client.push("a/b", release)).toMatchObject({ version: 1, logIndex: 9 });
    expect(calls.map(({ path }) => path)).toEqual(["/v1/blobs", "/v1/models/a%2Fb/releases"]);
    expect(JSON.parse(Buffer.from(calls[1]?.body ?? "").toString())).toEqual({
      manifest: '{"schemaVersion":2}',
      visibility: "private",
    });
    expect(await code(answer("00".repeat(32)).client.push("a/b", release))).toBe("response_malformed");
  });
});
