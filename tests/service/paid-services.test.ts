import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AssayError, bytesToHex } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import { nodeSuite } from "@assay/driver-crypto";
import { encodeInferRequest, joinBody } from "@assay/protocol";
import type { Listing, ListingSubject } from "@assay/protocol";
import { PROFILE, decodeClaims, encodeClaims, receiptSubject } from "@assay/receipts";
import { createSweep, decodeRecord, decodeSidecar } from "@assay/service-gateway";
import type { ApiModules, GatewayModules } from "@assay/service-gateway";
import { GRACE_MS, openKeptBlobs } from "@assay/service-hub";
import type { KeptBlobs } from "@assay/service-hub";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PAYER, openDesk, payment } from "./paid-desk.ts";
import type { Rates, TestDesk } from "./paid-desk.ts";
import { openTextServer, scriptedExecutor } from "./text-server.ts";
import type { TextServer, TextServerOptions } from "./text-server.ts";

// Everything beside language models that can have a price: tensors, uploads, verification, audits; prices themselves; and
// what becomes of answers that were kept. Real HTTP, recorder and log; the model and the index are the test's own.

let server: TextServer | undefined;
let folder = "";
let runs = 0;
let failing: AssayError | undefined;
let verified = 0;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "assay-paid-"));
  runs = 0;
  verified = 0;
  failing = undefined;
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const OPERATOR = "ed25519:op";
const AUTHOR = "ed25519:author";
const auth = {
  caller(header: string | undefined) {
    const name = /^Bearer assay_(\w+)$/.exec(header ?? "")?.[1];
    return Promise.resolve(name === undefined ? undefined : { owner: `ed25519:${name}`, scopes: [] });
  },
  isOperator: (owner: string) => owner === OPERATOR,
};
const bearer = (name: string): Record<string, string> => ({ authorization: `Bearer assay_${name}` });

const output = { name: "y", datatype: "UINT8", shape: [3], data: Uint8Array.of(1, 2, 3) } as const;

const execute: GatewayModules["infer"]["execute"] = ({ model, principal, signal }) => {
  runs++;
  if (failing) return Promise.reject(failing);
  signal.throwIfAborted();
  const receiptId = nodeSuite.sha256(new TextEncoder().encode(`${Date.now()} ${runs}`)).slice(0, 16);
  const root = nodeSuite.sha256(receiptId);
  const issuedAtMs = Date.now();
  return Promise.resolve({
    receiptId,
    subject: receiptSubject(receiptId),
    issuedAtMs,
    masterSalt: nodeSuite.sha256(root),
    claims: encodeClaims("execution", {
      profile: PROFILE.execution,
      receiptId,
      modelName: model.name,
      modelVersion: "1",
      modelDigest: root,
      modelDigestScheme: "sha256-manifest",
      modelDigestCheck: "hashed-at-load",
      requestRoot: root,
      responseRoot: root,
      requestFields: 1,
      responseFields: 1,
      mode: "vanilla",
      kind: "onnx",
      issuedAtMs,
      finishReason: "stop",
      ...(principal ? { principal } : {}),
    }),
    outputs: [output],
    requestFields: [{ name: "model", value: new Uint8Array(1) }],
    responseFields: [{ name: "output/y/data", value: output.data }],
    engineMs: 7,
  });
};

const MODELS = [
  { name: "author/net", owner: AUTHOR, visibility: "public" },
  { name: "author/secret", owner: AUTHOR, visibility: "private" },
  { name: "author/text", owner: AUTHOR, visibility: "public" },
] as const;

type Options = Partial<TextServerOptions> & {
  readonly rates?: Partial<Record<ListingSubject, Rates>>;
  readonly goodForMs?: number;
};

type Opened = { readonly server: TextServer; readonly desk: TestDesk; readonly kept: KeptBlobs };

async function open(options: Options = {}): Promise<Opened> {
  const desk = openDesk(options.rates ?? {}, options.goodForMs === undefined ? {} : { goodForMs: options.goodForMs });
  const kept = await openKeptBlobs(await openBlobStore({ directory: join(folder, "blobs") }), join(folder, "until"));
  const held = new Map<ListingSubject, Listing>();
  server = await openTextServer({
    models: [{ name: "openai/gpt-5", kinds: ["chat"], price: { asset: "USDC", perCall: "1" } }],
    candidates: [{ name: "one", executor: scriptedExecutor(async function* none() {}) }],
    desk,
    infer: {
      auth: auth as unknown as ApiModules["auth"],
      execute,
      model: (name) =>
        Promise.resolve({
          name,
          version: 1,
          manifestDigest: "00".repeat(32),
          visibility: "public",
          owner: "x",
          path: "",
          sha256: "",
        }),
      rawInput: () => Promise.resolve({}),
    },
    api: ({ recorder, log, payments, vault }) =>
      ({
        auth,
        recorder,
        log,
        payments,
        vault,
        blobs: kept.store,
        putUntil: kept.putUntil,
        suite: nodeSuite,
        options: { version: "0", maxBlobBytes: 100_000, maxJsonBytes: 1000 },
        recent: () => undefined,
        indexed: () => Promise.resolve(),
        index: {
          async receipt(id: string) {
            const records = await log.readRange(0, 1000);
            return records.map((record) => decodeRecord(nodeSuite, record).row).find((row) => row.receiptId === id);
          },
        },
        models: {
          list: () => [],
          versions: (name: string) => MODELS.filter((model) => model.name === name),
          facts: ({ name }: { readonly name: string }) =>
            Promise.resolve(name === "author/text" ? { language: {} } : {}),
        },
        listings: {
          get: (subject: ListingSubject) => held.get(subject),
          list: () => [...held.values()],
          put(listing: Omit<Listing, "changedAtMs">) {
            if (listing.asset === "NONE") throw new AssayError("listing_asset_unknown", "It takes no NONE.");
            const put = { ...listing, changedAtMs: 1 };
            held.set(put.subject, put);
            return Promise.resolve(put);
          },
          remove: (subject: ListingSubject) => Promise.resolve(held.delete(subject)),
        },
        describeListing: () => ({ digest: "ab".repeat(32) }),
        verify(bundle: Uint8Array) {
          verified++;
          if (failing) return Promise.reject(failing);
          return Promise.resolve({ status: bundle.length === 3 ? "verified" : "failed" } satisfies JsonValue);
        },
        audit: (bundle: Uint8Array) => Promise.resolve({ result: "agree", bytes: bundle.length }),
      }) as unknown as Partial<ApiModules>,
    ...options,
  });
  return { server, desk, kept };
}

const tensors = Buffer.from(
  joinBody(
    encodeInferRequest({
      inputs: [{ name: "x", datatype: "BOOL", shape: [1], data: Uint8Array.of(1) }],
      binary: false,
    }),
  ),
);
const infer = ({ url }: TextServer, headers: Record<string, string> = {}, name = "author%2Fnet"): Promise<Response> =>
  fetch(`${url}/v2/models/${name}/infer`, { method: "POST", body: tensors, headers });
const codeOf = async (response: Response): Promise<readonly [number, unknown]> => [
  response.status,
  ((await response.json()) as { readonly code: unknown }).code,
];

describe("tensors", () => {
  // Quoted by the longest that an inference may run: 5 for the call and 2 for each of 100 milliseconds.
  const priced: Options = { rates: { "model:author/net": { call: 5, millisecond: 2 } }, paid: { inferLimitMs: 100 } };
  const CAP = 205;

  test("without a payment are refused with 402 in this API's own shape, before anything runs", async () => {
    const { server: at } = await open({
      ...priced,
      paid: { inferLimitMs: 100, v1: () => ({ x402Version: 1, accepts: [], error: "of the first version" }) },
    });
    const response = await infer(at);
    expect([response.status, response.headers.get("cache-control")]).toEqual([402, "no-store"]);
    expect(await response.json()).toEqual({
      x402Version: 1,
      accepts: [],
      error: "The payment: payment_required.",
      code: "payment_required",
      hints: [],
      docs: "/errors/payment_required.md",
    });
    expect(runs).toBe(0);
  });

  test("are charged for the time that they took, and the receipt names payer and payment", async () => {
    const { server: at, desk } = await open(priced);
    const response = await infer(at, payment("one", CAP, "upto"));
    expect([response.status, response.headers.get("cache-control")]).toEqual([200, "private, no-store"]);
    const id = response.headers.get("assay-receipt-id") ?? "";
    expect(desk.settled()).toEqual([{ receiptId: id, amount: 19n, nonce: "one" }]);
    const { service, execution, owner } = await at.logged(id);
    expect(service.payment).toMatchObject({ payer: PAYER, amountAtomic: "19" });
    expect(execution.principal).toEqual({ caller: `eip155:31337:${PAYER}`, authentication: "payment" });
    expect(owner).toBe(`eip155:31337:${PAYER}`);
  });

  test("are given again byte for byte, and run once", async () => {
    const { server: at } = await open(priced);
    const first = await infer(at, payment("one", CAP));
    const again = await infer(at, payment("one", CAP));
    expect([first.headers.get("assay-replayed"), again.headers.get("assay-replayed")]).toEqual([null, "true"]);
    for (const name of ["assay-receipt-id", "assay-log-index", "assay-opening", "payment-response", "content-type"])
      expect(again.headers.get(name), name).toBe(first.headers.get(name));
    expect(Buffer.from(await again.arrayBuffer()).equals(Buffer.from(await first.arrayBuffer()))).toBe(true);
    expect(runs).toBe(1);
  });

  test("of another model with the same payment are refused", async () => {
    const { server: at } = await open({ ...priced, rates: { ...priced.rates, "model:a/b": { call: 1 } } });
    await infer(at, payment("one", CAP));
    expect(await codeOf(await infer(at, payment("one", CAP), "a%2Fb"))).toEqual([409, "payment_bound"]);
    expect(runs).toBe(1);
  });

  test.each([
    [{ "assay-profile": "fastest" }],
    [{ "assay-max-price": "much" }],
    [{ "assay-retention": "always" }],
    [{ "assay-client-nonce": "z" }],
  ])("that are asked for wrongly (%j) take no payment", async (wrong) => {
    const { server: at, desk } = await open(priced);
    const refused = await infer(at, { ...payment("one", CAP), ...wrong });
    expect([refused.status, desk.taken()]).toEqual([400, 0]);
    expect((await infer(at, payment("one", CAP))).status).toBe(200);
  });

  test("that fail are not charged", async () => {
    const { server: at, desk } = await open(priced);
    failing = new AssayError("model_failed", "It failed.");
    expect(await codeOf(await infer(at, payment("one", CAP)))).toEqual([502, "model_failed"]);
    expect([desk.releases(), desk.settled().length]).toEqual([1, 0]);
  });

  test("that take longer than their payment is good for are not given, and not charged", async () => {
    const { server: at, desk } = await open({ ...priced, goodForMs: -1 });
    expect(await codeOf(await infer(at, payment("one", CAP)))).toEqual([400, "payment_expired"]);
    expect([runs, desk.releases(), desk.settled().length]).toEqual([1, 1, 0]);
  });

  test("are free where nothing is listed", async () => {
    const { server: at } = await open();
    const response = await infer(at);
    expect([response.status, response.headers.get("payment-response")]).toEqual([200, null]);
  });
});

describe("a kept opening", () => {
  const priced: Options = { rates: { "model:author/net": { call: 5 }, "service:openings": { call: 3 } } };
  const keep = { "assay-retention": "server-encrypted" };

  test("costs what it is listed at, beside the answer, and nothing where it is not asked for", async () => {
    const { server: at, desk } = await open(priced);
    expect(await codeOf(await infer(at, { ...payment("low", 5), ...keep }))).toEqual([402, "payment_underpaid"]);
    expect(runs).toBe(0);
    const kept = await infer(at, { ...payment("one", 8, "upto"), ...keep });
    const plain = await infer(at, payment("two", 5, "upto"));
    const theirs = await infer(at, { ...payment("three", 5, "upto"), "assay-retention": "client-encrypted" });
    expect([kept, plain, theirs].map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(desk.settled().map(({ amount }) => amount)).toEqual([8n, 5n, 5n]);
    expect((await at.logged(kept.headers.get("assay-receipt-id") ?? "")).service.retention).toBe("server-encrypted");
  });

  test("is paid for also where the model is free", async () => {
    const { server: at, desk } = await open({ rates: { "service:openings": { call: 3 } } });
    expect((await infer(at)).status).toBe(200);
    expect((await infer(at, keep)).status).toBe(402);
    expect((await infer(at, { ...payment("one", 3), ...keep })).status).toBe(200);
    expect(desk.settled().map(({ amount }) => amount)).toEqual([3n]);
  });
});

describe("an answer that was kept", () => {
  const priced: Options = { rates: { "model:author/net": { call: 5 } } };
  const answer = ({ url }: TextServer, id: string, headers: Record<string, string>): Promise<Response> =>
    fetch(`${url}/v1/receipts/${id}/answer`, { headers });

  test("is there for whoever holds the receipt's grant, and for nobody else", async () => {
    const { server: at } = await open(priced);
    const first = await infer(at, payment("one", 5));
    const id = first.headers.get("assay-receipt-id") ?? "";
    const again = await answer(at, id, { "assay-grant": first.headers.get("assay-grant") ?? "" });
    expect(again.headers.get("content-type")).toBe(first.headers.get("content-type"));
    expect(Buffer.from(await again.arrayBuffer()).equals(Buffer.from(await first.arrayBuffer()))).toBe(true);
    expect(await codeOf(await answer(at, id, {}))).toEqual([403, "receipt_not_yours"]);
    expect(await codeOf(await answer(at, id, { "assay-grant": "00".repeat(32) }))).toEqual([403, "receipt_not_yours"]);
    expect(await codeOf(await answer(at, id, bearer("stranger")))).toEqual([403, "receipt_not_yours"]);
    expect(await codeOf(await answer(at, "00".repeat(16), bearer("op")))).toEqual([404, "receipt_not_found"]);
  });

  test("is not there for a call that was free", async () => {
    const { server: at } = await open();
    const first = await infer(at);
    const grant = { "assay-grant": first.headers.get("assay-grant") ?? "" };
    const refused = await answer(at, first.headers.get("assay-receipt-id") ?? "", grant);
    expect(await codeOf(refused)).toEqual([409, "answer_not_kept"]);
  });

  test("is erased when its time is over, in order, and what an owner wanted kept stays", async () => {
    let nowMs = Date.now();
    const { server: at } = await open({ ...priced, paid: { keepMs: 1000, now: () => nowMs } });
    let noted: Uint8Array | undefined;
    const cursor = {
      read: () => Promise.resolve(noted),
      write: (bytes: Uint8Array) => {
        noted = bytes;
        return Promise.resolve();
      },
    };
    const sweep = createSweep({ log: at.log, cursor });
    const indexOf = (response: Response): number => Number(response.headers.get("assay-log-index"));
    const opening = async (index: number): Promise<number> => (await at.log.read(index))?.opening.length ?? -1;
    const old = indexOf(await infer(at, payment("one", 5)));
    const owned = indexOf(await infer(at, { ...payment("two", 5), "assay-retention": "server-encrypted" }));
    expect(await sweep(nowMs)).toBe(0);
    nowMs += 600;
    const young = indexOf(await infer(at, payment("three", 5)));
    nowMs += 500;
    expect(await Promise.all([sweep(nowMs), sweep(nowMs)])).toEqual([1, 1]);
    expect([await opening(old), (await opening(owned)) > 0, (await opening(young)) > 0]).toEqual([0, true, true]);
    expect(JSON.parse(new TextDecoder().decode(noted))).toEqual({ next: young });
    // A new process goes on where the old one was; a place that cannot be read costs reading alone.
    expect(await createSweep({ log: at.log, cursor })(nowMs + 1000)).toBe(1);
    noted = new TextEncoder().encode("{");
    expect(await createSweep({ log: at.log, cursor })(nowMs + 1000)).toBe(0);
    noted = new TextEncoder().encode('{"next":99999}');
    expect(await createSweep({ log: at.log, cursor })(nowMs + 1000)).toBe(0);
  });
});

describe("services", () => {
  const verify = ({ url }: TextServer, body: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${url}/v1/verify`, { method: "POST", body, headers });

  test("are free without a price", async () => {
    const { server: at } = await open();
    expect(await (await verify(at, "abc")).json()).toEqual({ status: "verified" });
    expect(await (await verify(at, "abcd")).json()).toEqual({ status: "failed" });
  });

  test("verification with a price is paid for once, and a supplement in the log carries its payment", async () => {
    const { server: at, desk } = await open({ rates: { "service:verification": { call: 7 } } });
    expect(await codeOf(await verify(at, "abc"))).toEqual([402, "payment_required"]);
    const first = await verify(at, "abc", payment("one", 7));
    expect([first.status, first.headers.get("cache-control")]).toEqual([200, "private, no-store"]);
    expect(await first.clone().json()).toEqual({ status: "verified" });
    const id = first.headers.get("assay-receipt-id") ?? "";
    expect(desk.settled()).toEqual([{ receiptId: id, amount: 7n, nonce: "one" }]);
    const record = await at.log.read(Number(first.headers.get("assay-log-index")));
    const sidecar = decodeSidecar(record?.claims ?? new Uint8Array());
    const claims = decodeClaims("supplement", sidecar.claims[0] ?? new Uint8Array());
    expect(bytesToHex(claims.supplementId)).toBe(id);
    expect(claims.body).toMatchObject({ stage: "charged", service: "service:verification", payer: PAYER });
    expect(new TextDecoder().decode(sidecar.payment)).toBe("settle one 7");
    expect(record && decodeRecord(nodeSuite, record).payment).toEqual(sidecar.payment);

    const again = await verify(at, "abc", payment("one", 7));
    expect([again.headers.get("assay-replayed"), await again.text()]).toEqual(["true", await first.text()]);
    expect(await codeOf(await verify(at, "abd", payment("one", 7)))).toEqual([409, "payment_bound"]);
    expect([verified, desk.settled().length]).toEqual([1, 1]);
    const grant = { "assay-grant": first.headers.get("assay-grant") ?? "" };
    expect((await fetch(`${at.url}/v1/receipts/${id}/answer`, { headers: grant })).status).toBe(200);
  });

  test("a verification that fails or is too large is not charged", async () => {
    const { server: at, desk } = await open({ rates: { "service:verification": { call: 7 } } });
    failing = new AssayError("log_failed", "It failed.");
    expect(await codeOf(await verify(at, "abc", payment("one", 7)))).toEqual([503, "log_failed"]);
    expect(await codeOf(await verify(at, "x".repeat(1001), payment("one", 7)))).toEqual([413, "request_too_large"]);
    expect([desk.releases(), desk.settled().length, desk.taken()]).toEqual([1, 0, 0]);
  });

  test("an audit that is free is for those who may read the receipt", async () => {
    const { server: at } = await open();
    const first = await infer(at);
    const url = `${at.url}/v1/receipts/${first.headers.get("assay-receipt-id") ?? ""}/audit`;
    const sent = { method: "POST", body: "abc" };
    expect(await codeOf(await fetch(url, sent))).toEqual([403, "receipt_not_yours"]);
    const grant = { "assay-grant": first.headers.get("assay-grant") ?? "" };
    expect(await (await fetch(url, { ...sent, headers: grant })).json()).toEqual({ result: "agree", bytes: 3 });
  });

  test("an audit takes the bundle that is sent", async () => {
    const { server: at, desk } = await open({ rates: { "service:audit": { call: 9 } } });
    const url = `${at.url}/v1/receipts/${"00".repeat(16)}/audit`;
    expect(await codeOf(await fetch(url, { method: "POST", body: "abc" }))).toEqual([402, "payment_required"]);
    const response = await fetch(url, { method: "POST", body: "abc", headers: payment("one", 9) });
    expect(await response.json()).toEqual({ result: "agree", bytes: 3 });
    // A receipt that is not there costs nothing.
    expect(await codeOf(await fetch(url, { method: "POST", headers: payment("two", 9) }))).toEqual([
      404,
      "receipt_not_found",
    ]);
    expect(desk.settled().map(({ nonce }) => nonce)).toEqual(["one"]);
  });
});

describe("uploads", () => {
  const digest = (bytes: string): string => `sha-256=:${createHash("sha256").update(bytes).digest("base64")}:`;
  const put = ({ url }: TextServer, bytes: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${url}/v1/blobs`, { method: "POST", body: bytes, headers });
  const rates = { "service:storage": { call: 3 } } as const;

  test("that are free need a token, and no digest", async () => {
    const { server: at } = await open();
    expect(await codeOf(await put(at, "abc"))).toEqual([401, "token_required"]);
    expect((await put(at, "abc", bearer("author"))).status).toBe(200);
    expect(await codeOf(await put(at, "abc", { ...bearer("author"), "content-digest": "md5=:x:" }))).toEqual([
      400,
      "header_invalid",
    ]);
  });

  test("that have a price need a payment and no account; the operator's are free", async () => {
    const { server: at, desk } = await open({ rates });
    expect(await codeOf(await put(at, "abc", { "content-digest": digest("abc") }))).toEqual([402, "payment_required"]);
    const stored = await put(at, "abc", { ...payment("one", 3), "content-digest": digest("abc") });
    expect(await stored.json()).toMatchObject({ sizeBytes: 3 });
    expect((await put(at, "abd", bearer("op"))).status).toBe(200);
    expect(desk.settled()).toHaveLength(1);
  });

  test("are kept for the days that were paid for, which answer and log say, and then removed", async () => {
    const nowMs = Date.now();
    const { server: at, kept } = await open({ rates, paid: { now: () => nowMs } });
    const until = nowMs + 2 * 24 * 60 * 60 * 1000;
    const headers = { "content-digest": digest("abc"), "assay-keep-days": "2" };
    const response = await put(at, "abc", { ...payment("one", 3), ...headers });
    const stored = { sha256: bytesToHex(nodeSuite.sha256(Buffer.from("abc"))), sizeBytes: 3, keptUntilMs: until };
    expect(await response.json()).toEqual(stored);
    const record = await at.log.read(Number(response.headers.get("assay-log-index")));
    const [bytes] = decodeSidecar(record?.claims ?? new Uint8Array()).claims;
    expect(decodeClaims("supplement", bytes ?? new Uint8Array()).body).toMatchObject({
      stage: "charged",
      service: "service:storage",
      blob: stored.sha256,
      sizeBytes: 3,
      keptUntilMs: until,
    });
    expect(await (await put(at, "abd", bearer("op"))).json()).not.toHaveProperty("keptUntilMs");
    const nobody = (): Promise<boolean> => Promise.resolve(false);
    expect(await kept.sweep(until + GRACE_MS, nobody)).toBe(0);
    expect(await kept.sweep(until + GRACE_MS + 1, nobody)).toBe(1);
    expect(await kept.sweep(until * 2, nobody)).toBe(0);
  });

  test.each([
    ["no digest", {}, 400, "header_invalid"],
    ["the digest of something else", { "content-digest": digest("abd") }, 400, "blob_digest_mismatch"],
    ["no number of days", { "content-digest": digest("abc"), "assay-keep-days": "0" }, 400, "header_invalid"],
    ["too many days", { "content-digest": digest("abc"), "assay-keep-days": "3651" }, 400, "header_invalid"],
  ])("with %s are refused and cost nothing", async (_, headers, status, code) => {
    const { server: at, desk } = await open({ rates });
    expect(await codeOf(await put(at, "abc", { ...payment("one", 3), ...headers }))).toEqual([status, code]);
    expect([desk.settled().length, desk.taken()]).toEqual([0, 0]);
  });
});

describe("prices", () => {
  const at = (server_: TextServer, subject: string, init: RequestInit = {}): Promise<Response> =>
    fetch(`${server_.url}/v1/prices/${encodeURIComponent(subject)}`, init);
  const put = (
    server_: TextServer,
    subject: string,
    who: string | undefined,
    body: unknown = { asset: "USDC", perCall: "0.002" },
  ) =>
    at(server_, subject, {
      method: "PUT",
      headers: { "content-type": "application/json", ...(who === undefined ? {} : bearer(who)) },
      body: JSON.stringify(body),
    });

  test("by the token are for models that have any", async () => {
    const { server: server_ } = await open();
    const byToken = { asset: "USDC", perMillionOutputTokens: "1" };
    expect(await codeOf(await put(server_, "model:author/net", "author", byToken))).toEqual([400, "listing_invalid"]);
    expect((await put(server_, "model:author/text", "author", byToken)).status).toBe(200);
    expect((await put(server_, "model:openai/gpt-5", "op", byToken)).status).toBe(200);
  });

  test("are set by a model's owner and by the operator, and read by everybody", async () => {
    const { server: server_ } = await open();
    const set = await put(server_, "model:author/net", "author");
    const listing = {
      subject: "model:author/net",
      asset: "USDC",
      perCall: "0.002",
      owner: AUTHOR,
      changedAtMs: 1,
      digest: "ab".repeat(32),
    };
    expect(await set.json()).toEqual(listing);
    expect(await (await at(server_, "model:author/net")).json()).toEqual(listing);
    expect((await put(server_, "service:storage", "op")).status).toBe(200);
    expect((await put(server_, "model:openai/gpt-5", "op")).status).toBe(200);
    const { prices } = (await (await fetch(`${server_.url}/v1/prices`)).json()) as { prices: { subject: string }[] };
    expect(prices.map(({ subject }) => subject)).toEqual(["model:author/net", "service:storage", "model:openai/gpt-5"]);
    expect((await at(server_, "model:author/net", { method: "DELETE", headers: bearer("author") })).status).toBe(204);
    expect(await codeOf(await at(server_, "model:author/net"))).toEqual([404, "listing_not_found"]);
  });

  test("are shown with the models that have them", async () => {
    const { server: server_ } = await open();
    await put(server_, "model:openai/gpt-5", "op", { asset: "USDC", perMillionOutputTokens: "10" });
    const models = await fetch(`${server_.url}/v1/models`);
    expect(((await models.json()) as { data: unknown }).data).toEqual([
      expect.objectContaining({ id: "openai/gpt-5", price: { asset: "USDC", perMillionOutputTokens: "10" } }),
    ]);
  });

  test("of a private model are its owner's to see", async () => {
    const { server: server_ } = await open();
    expect((await put(server_, "model:author/secret", "author")).status).toBe(200);
    expect(await codeOf(await at(server_, "model:author/secret"))).toEqual([404, "listing_not_found"]);
    expect(await codeOf(await at(server_, "model:author/secret", { headers: bearer("other") }))).toEqual([
      404,
      "listing_not_found",
    ]);
    for (const who of ["author", "op"])
      expect((await at(server_, "model:author/secret", { headers: bearer(who) })).status).toBe(200);
    expect(await (await fetch(`${server_.url}/v1/prices`)).json()).toEqual({ prices: [] });
  });

  test.each([
    ["nobody", "model:author/net", undefined, 401, "token_required"],
    ["somebody else", "model:author/net", "other", 403, "model_not_owned"],
    ["an author of a provider's model", "model:openai/gpt-5", "author", 403, "model_not_owned"],
    ["an author of a service", "service:storage", "author", 403, "operator_required"],
    ["the operator of what there is not", "service:coffee", "op", 400, "listing_invalid"],
    ["the operator of no name", "model:", "op", 400, "listing_invalid"],
  ])("are not set by %s", async (_, subject, who, status, code) => {
    const { server: server_ } = await open();
    expect(await codeOf(await put(server_, subject, who))).toEqual([status, code]);
    if (status !== 400)
      expect(
        await codeOf(await at(server_, subject, { method: "DELETE", headers: who === undefined ? {} : bearer(who) })),
      ).toEqual([status, code]);
  });

  test.each([
    ["without an asset", { perCall: "1" }, "request_invalid"],
    ["as a number", { asset: "USDC", perCall: 1 }, "request_invalid"],
    ["below zero", { asset: "USDC", perCall: "-1" }, "request_invalid"],
    ["with what no listing has", { asset: "USDC", perDay: "1" }, "request_invalid"],
    ["with another owner", { asset: "USDC", owner: "ed25519:other" }, "request_invalid"],
    ["in a token that is not taken", { asset: "NONE", perCall: "1" }, "listing_asset_unknown"],
    [
      "with nine payees",
      { asset: "USDC", payees: Array.from({ length: 9 }, () => ({ address: PAYER, basisPoints: 1 })) },
      "request_invalid",
    ],
  ])("%s are refused", async (_, body, code) => {
    const { server: server_ } = await open();
    expect(await codeOf(await put(server_, "model:author/net", "author", body))).toEqual([400, code]);
  });

  test("of a body too large are refused", async () => {
    const { server: server_ } = await open();
    const refused = await put(server_, "model:author/net", "author", {
      asset: "USDC",
      perCall: "1",
      x: "y".repeat(17_000),
    });
    expect(await codeOf(refused)).toEqual([413, "request_too_large"]);
  });
});
