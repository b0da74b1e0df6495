import { createCipheriv, pbkdf2Sync, randomBytes, randomUUID } from "node:crypto";
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AssayError, bytesToHex } from "@assay/core";
import { openKeystore } from "@assay/driver-crypto";
import { trustView } from "@assay/receipts";
import type { ServiceClaims } from "@assay/receipts";
import type { Fetch } from "@assay/sdk";
import { makeTextGateway } from "@assay/testkit";
import type { GatewayCall } from "@assay/testkit";
import { encodePaymentRequired, parsePaymentHeader, paymentIdOf, paymentParty, toHex } from "@assay/x402";
import type { PaymentRequirements } from "@assay/x402";
import { nobleEvmSuite } from "@assay/x402/noble";
import { checkChain, checkPayments, checkWallet } from "./doctor-money.ts";
import { makeFakeHome } from "./testing/fake-world.ts";
import type { FakeHome, FakeStreams, Ran } from "./testing/fake-world.ts";
import type { World } from "./world.ts";

const URL_OF = "http://127.0.0.1:1";
const ADDRESS = `0x${"1".repeat(40)}`;
const HASH = `0x${"2".repeat(64)}`;
const USDC = "0x036cbd53842c5426634e7929541ec2318f3dcf7e";
const money = (amount: string, amountAtomic: string) => ({
  amount,
  amountAtomic,
  decimals: 6,
  symbol: "USDC",
  address: USDC,
});
const chain = {
  network: "eip155:31337",
  chainId: 31337,
  development: true,
  state: "running",
  rpcUrl: null,
  blockNumber: 7,
  assets: [{ symbol: "USDC", address: USDC, decimals: 6, name: "USDC", version: "2", permit: true }],
  contracts: { permit2: ADDRESS },
  payTo: ADDRESS,
};
const payment = {
  paymentId: HASH,
  state: "settled",
  scheme: "upto",
  network: "eip155:31337",
  payer: ADDRESS,
  payTo: ADDRESS,
  amount: money("0.002", "2000"),
  cap: money("0.01", "10000"),
  settlement: "batch",
  receiptId: "ab".repeat(16),
  logIndex: 3,
  channelId: null,
  transaction: HASH,
  blockNumber: 9,
  attempts: 1,
  error: null,
  takenAtMs: 1_763_740_800_000,
  updatedAtMs: 1_763_740_801_000,
  deadlineS: 1_763_741_700,
};

let home: FakeHome;
beforeEach(() => {
  home = makeFakeHome();
});
afterEach(() => home.remove());
const at = (name: string): string => join(home.home, name);

type Asked = { readonly method: string; readonly path: string; readonly body: unknown };

/** A gateway that answers by route, and takes anybody's key. */
function gateway(routes: Readonly<Record<string, unknown>>): { readonly fetch: Fetch; readonly asked: Asked[] } {
  const asked: Asked[] = [];
  const answer = (body: unknown, status = 200): Promise<Response> =>
    Promise.resolve(status === 204 ? new Response(null, { status }) : Response.json(body, { status }));
  return {
    asked,
    fetch: (url, init) => {
      const path = url.slice(URL_OF.length);
      if (path === "/v1/auth/challenge") return answer({ challenge: "abc", expiresAt: "2099-01-01T00:00:00Z" });
      if (path === "/v1/auth/token")
        return answer({ token: "assay_t", expiresAt: "2099-01-01T00:00:00Z", owner: "ed25519:00" });
      const method = init.method ?? "GET";
      asked.push({ method, path, body: typeof init.body === "string" ? JSON.parse(init.body) : undefined });
      const key = `${method} ${path}`;
      if (!(key in routes)) return answer({ error: "There is none.", code: "route_not_found", hints: [] }, 404);
      return method === "DELETE" ? answer(undefined, 204) : answer(routes[key]);
    },
  };
}

const run = (args: readonly string[], changes: Partial<World> & FakeStreams = {}): Promise<Ran> =>
  home.run([...args, "--url", URL_OF], { randomBytes: (length) => new Uint8Array(randomBytes(length)), ...changes });
/** A wallet behind the home's own secret whose derivation costs one round, where how it is made is not the question. */
function putWallet(): void {
  const secret = bytesToHex(openKeystore(at("keys")).secret("wallet"));
  const [salt, iv, key] = [randomBytes(32), randomBytes(16), randomBytes(32)];
  const derived = pbkdf2Sync(secret, salt, 1, 32, "sha256");
  const cipher = createCipheriv("aes-128-ctr", derived.subarray(0, 16), iv);
  const ciphertext = Buffer.concat([cipher.update(key), cipher.final()]);
  const mac = nobleEvmSuite.keccak256(Buffer.concat([derived.subarray(16), ciphertext]));
  const crypto = {
    cipher: "aes-128-ctr",
    cipherparams: { iv: iv.toString("hex") },
    ciphertext: ciphertext.toString("hex"),
    kdf: "pbkdf2",
    kdfparams: { dklen: 32, salt: salt.toString("hex"), c: 1, prf: "hmac-sha256" },
    mac: bytesToHex(mac),
  };
  writeFileSync(at("wallet.json"), JSON.stringify({ version: 3, id: randomUUID(), crypto }), { mode: 0o600 });
}
const newWallet = (): Promise<Ran> =>
  home.run(["wallet", "new", "--json"], { randomBytes: (length) => new Uint8Array(randomBytes(length)) });
const withPassphrase = (passphrase: string): Partial<World> => ({
  variable: (name) => (name === "ASSAY_WALLET_PASSPHRASE" ? passphrase : undefined),
});

describe("a gateway that has just started", () => {
  const starting = { ...chain, state: "starting", assets: [], blockNumber: null, payTo: null, contracts: {} };
  /** What it answers, one after the other; the last one from then on. */
  const inTurn = (...answers: readonly Response[]): { readonly fetch: Fetch; readonly asked: () => number } => {
    let asked = 0;
    return {
      fetch: () => Promise.resolve((answers[Math.min(asked++, answers.length - 1)] as Response).clone()),
      asked: () => asked,
    };
  };
  const away = (code: string): Response =>
    Response.json({ error: "Not yet.", code, hints: [] }, { status: 503, headers: { "retry-after": "1" } });

  test("is waited for until its chain is there", async () => {
    const { fetch, asked } = inTurn(away("database_unavailable"), Response.json(starting), Response.json(chain));
    expect((await run(["chain", "status"], { fetch })).out).toContain("eip155:31337 running");
    expect(asked()).toBe(3);
  });

  test("is not waited for longer than fifteen seconds in all", async () => {
    let waitedMs = 0;
    const sleep = (ms: number): Promise<void> => {
      waitedMs += ms;
      return Promise.resolve();
    };
    const { code, out } = await run(["chain", "status"], { fetch: inTurn(Response.json(starting)).fetch, sleep });
    expect([code, waitedMs]).toEqual([14, 15_000]);
    expect(out).toContain("eip155:31337 starting");
  });

  test("one that is away for another reason is not waited for here", async () => {
    const waits: number[] = [];
    const sleep = (ms: number): Promise<void> => Promise.resolve(void waits.push(ms));
    const { code } = await run(["chain", "status"], { fetch: inTurn(away("gateway_draining")).fetch, sleep });
    expect(code).toBe(14);
    expect(waits).not.toContain(500);
  });

  test("one that holds the home is found as soon as it says where it listens", async () => {
    let tries = 0;
    const { code, out } = await home.run(["chain", "status"], {
      fetch: () => Promise.resolve(Response.json(chain)),
      startServer: () => {
        tries++;
        if (tries === 2) writeFileSync(at("gateway.json"), JSON.stringify({ url: URL_OF, pid: 1 }));
        return Promise.reject(new AssayError("log_locked", "Somebody holds the log."));
      },
    });
    expect([code, tries]).toEqual([0, 2]);
    expect(out).toContain("eip155:31337 running");
  });
});

describe("doctor", () => {
  const world = (changes: Partial<World>): World =>
    ({
      home: home.home,
      now: () => payment.takenAtMs + 1_000,
      sleep: () => Promise.resolve(),
      interrupt: new AbortController().signal,
      variable: () => undefined,
      ...changes,
    }) as World;
  const served = (routes: Readonly<Record<string, unknown>>): Partial<World> => {
    writeFileSync(at("gateway.json"), JSON.stringify({ url: URL_OF, pid: 1 }));
    return { fetch: gateway({ "GET /livez": {}, "GET /v1/prices": { prices: [] }, ...routes }).fetch };
  };
  const listed = (states: Readonly<Record<string, readonly object[]>>): Readonly<Record<string, unknown>> =>
    Object.fromEntries(
      ["due", "settling", "failed", "dead"].map((state) => [
        `GET /v1/payments?state=${state}&limit=100`,
        { payments: states[state] ?? [], next: null },
      ]),
    );

  test.each([
    ["running", "pass", /eip155:31337, a development chain, at block 7/],
    ["starting", "warn", /is starting/],
    ["down", "fail", /does not answer/],
    ["none", "pass", /everything is free/],
  ])("a chain that is %s", async (state, status, words) => {
    const found = await checkChain(world(served({ "GET /v1/chain": { ...chain, state } })));
    expect(found).toMatchObject({ status, message: expect.stringMatching(words) });
  });

  test("no chain at all is no fault", async () => {
    expect(await checkChain(world(served({})))).toMatchObject({
      status: "pass",
      message: "The gateway has no chain: everything is free.",
    });
  });

  test("without a gateway, whether the embedded chain could start", async () => {
    const asked = { fetch: () => Promise.reject(new Error("nobody")) };
    expect(await checkChain(world(asked))).toMatchObject({
      status: "pass",
      message: expect.stringMatching(/installed/),
    });
    expect(await checkChain(world({ ...asked, variable: () => "off" }))).toMatchObject({
      message: "Payments are off.",
    });
  });

  test("a wallet that others can read is a fault", async () => {
    expect(await checkWallet(world({}))).toMatchObject({
      status: "pass",
      message: expect.stringMatching(/wallet new/),
    });
    putWallet();
    expect(await checkWallet(world({}))).toMatchObject({ status: "pass" });
    chmodSync(at("wallet.json"), 0o644);
    expect(await checkWallet(world({}))).toMatchObject({ status: "fail", hint: `chmod 600 ${at("wallet.json")}` });
  });

  test.each([
    ["none", {}, 0, "pass", /0 payments are unsettled/],
    ["one that is due", { due: [payment] }, 0, "pass", /1 payment is unsettled/],
    ["one that is due for long", { due: [payment] }, 10 * 60_000, "warn", /1 payment is unsettled, the oldest since/],
    ["one that was given up", { dead: [payment] }, 0, "warn", /1 payment is given up/],
  ])("payments: %s", async (_what, states, laterMs, status, words) => {
    const now = (): number => payment.takenAtMs + laterMs;
    const found = await checkPayments(world({ ...served(listed(states)), now }));
    expect(found).toMatchObject({ status, message: expect.stringMatching(words) });
  });
});

describe("wallet", () => {
  test("new writes an encrypted file that only its owner reads, and never a second one over it", async () => {
    const { code, out } = await newWallet();
    expect(code).toBe(0);
    const { address, protection } = JSON.parse(out) as { address: string; protection: string };
    const kept = readFileSync(at("wallet.json"), "utf8");
    expect(protection).toBe("local secret");
    expect(kept.toLowerCase()).toContain(address.slice(2).toLowerCase());
    expect(statSync(at("wallet.json")).mode & 0o777).toBe(0o600);
    const again = await newWallet();
    expect([again.code, again.out]).toEqual([1, expect.stringContaining("wallet_exists")]);
    expect(readFileSync(at("wallet.json"), "utf8")).toBe(kept);
  });

  test("a passphrase is wanted where one was asked for, and opens it again", async () => {
    const none = await home.run(["wallet", "new", "--passphrase"]);
    expect([none.code, none.err.includes("wallet_locked"), existsSync(at("wallet.json"))]).toEqual([1, true, false]);
    const differs = await home.run(["wallet", "new", "--passphrase"], {
      readSecret: (prompt) => Promise.resolve(prompt),
    });
    expect([differs.code, existsSync(at("wallet.json"))]).toEqual([1, false]);
    // With one set for every command, the wallet is made behind it: nothing else would open it.
    expect((await home.run(["wallet", "new"], withPassphrase("correct horse"))).out).toContain("your passphrase");
    const { fetch } = gateway({ "GET /v1/chain": { ...chain, development: false } });
    const wrong = await run(["wallet", "export", "--yes"], { fetch, ...withPassphrase("wrong") });
    expect([wrong.code, wrong.out]).toEqual([1, ""]);
    expect(wrong.err).toContain("wallet_passphrase_wrong");
    const right = await run(["wallet", "export", "--yes"], { fetch, ...withPassphrase("correct horse") });
    expect([right.code, right.out.trim()]).toEqual([0, expect.stringMatching(/^0x[0-9a-f]{64}$/)]);
  });

  test("what it has is shown and filled without its passphrase", async () => {
    const { out } = await home.run(["wallet", "new", "--passphrase", "--json"], {
      randomBytes: (length) => new Uint8Array(randomBytes(length)),
      ...withPassphrase("correct horse"),
    });
    const { address } = JSON.parse(out) as { readonly address: string };
    const { fetch, asked } = gateway({
      "GET /v1/chain": chain,
      "POST /v1/chain/fund": { address, funded: money("1", "1"), balance: money("1", "1") },
    });
    expect((await run(["wallet", "show"], { fetch })).out).toContain(address);
    expect((await run(["wallet", "fund", "--asset", "USDC"], { fetch })).code).toBe(0);
    expect(asked.find(({ method }) => method === "POST")?.body).toMatchObject({ address });
    writeFileSync(at("wallet.json"), "{");
    const broken = await run(["wallet", "show"], { fetch, ...withPassphrase("correct horse") });
    expect([broken.code, broken.err.includes("wallet_")]).toEqual([1, true]);
  });

  test("a faucet that is another's says where the money should go", async () => {
    putWallet();
    const { fetch } = gateway({ "GET /v1/chain": chain });
    const refusing: Fetch = (url, init) =>
      url.endsWith("/v1/chain/fund")
        ? Promise.resolve(Response.json({ error: "No.", code: "operator_required", hints: [] }, { status: 403 }))
        : fetch(url, init);
    const { code, err } = await run(["wallet", "fund"], { fetch: refusing });
    expect(code).toBe(13);
    expect(err.replaceAll(/\s+/g, " ")).toMatch(/have them send something to 0x[0-9a-f]{40}/);
  });

  test("export of a wallet without passphrase is for development chains of this machine, and has to be meant", async () => {
    putWallet();
    const development = gateway({ "GET /v1/chain": chain }).fetch;
    expect((await run(["wallet", "export"], { fetch: development })).code).toBe(2);
    const real = await run(["wallet", "export", "--yes"], {
      fetch: gateway({ "GET /v1/chain": { ...chain, development: false } }).fetch,
    });
    expect([real.code, real.out, real.err.includes("wallet_export_refused")]).toEqual([13, "", true]);
    const none = await run(["wallet", "export", "--yes"], { fetch: gateway({}).fetch });
    expect([none.code, none.out]).toEqual([13, ""]);
    const shown = await run(["wallet", "export", "--yes"], { fetch: development });
    expect(shown.out.trim()).toMatch(/^0x[0-9a-f]{64}$/);
  });

  test("without one: what pays says how to make it", async () => {
    const { fetch } = gateway({ "GET /v1/chain": chain });
    const { code, err } = await run(["wallet", "show"], { fetch });
    expect(code).toBe(12);
    expect(err.trimEnd().split("\n").at(-1)).toBe("  assay wallet new");
  });

  test("show reads balances and allowances from the chain", async () => {
    putWallet();
    const { fetch } = gateway({ "GET /v1/chain": { ...chain, rpcUrl: `${URL_OF}/rpc` } });
    const rpc: Fetch = (url, init) => {
      if (!url.endsWith("/rpc")) return fetch(url, init);
      const { method, params } = JSON.parse(init.body as string) as { method: string; params: [{ data?: string }] };
      const data = params[0].data ?? "";
      const result = method === "eth_getBalance" ? 10n ** 18n : data.startsWith("0xdd62ed3e") ? 500_000n : 12_345_678n;
      return Promise.resolve(Response.json({ jsonrpc: "2.0", id: 1, result: `0x${result.toString(16)}` }));
    };
    const { code, out } = await run(["wallet", "show", "--json"], { fetch: rpc });
    expect(code).toBe(0);
    expect((JSON.parse(out) as { balances: unknown }).balances).toMatchObject([
      { symbol: "ETH", amount: "1", allowanceAtomic: null },
      { symbol: "USDC", amount: "12.345678", amountAtomic: "12345678", allowanceAtomic: "500000" },
    ]);
    const down: Fetch = (url, init) =>
      url.endsWith("/rpc") ? Promise.reject(new TypeError("refused")) : fetch(url, init);
    const none = await run(["wallet", "show"], { fetch: down });
    expect([none.code, none.err.includes("chain_unavailable")]).toEqual([14, true]);
  });

  test("fund asks the faucet, and nobody's but a development chain's", async () => {
    putWallet();
    const funded = { address: ADDRESS, funded: money("100", "100000000"), balance: money("101", "101000000") };
    const { fetch, asked } = gateway({ "GET /v1/chain": chain, "POST /v1/chain/fund": funded });
    const { code, out } = await run(["wallet", "fund"], { fetch });
    expect([code, out.includes("100 USDC more: 101 USDC now")]).toEqual([0, true]);
    expect(
      asked.filter(({ method }) => method === "POST").map(({ body }) => (body as { asset: string }).asset),
    ).toEqual(["ETH", "USDC"]);
    const real = gateway({ "GET /v1/chain": { ...chain, development: false } });
    const refused = await run(["wallet", "fund"], { fetch: real.fetch });
    expect([refused.code, refused.err.includes("chain_not_development")]).toEqual([1, true]);
    expect(real.asked.filter(({ method }) => method === "POST")).toEqual([]);
    expect((await run(["wallet", "fund", "--amount", "5"], { fetch })).code).toBe(2);
  });

  test("approve refuses amounts that tokens take for no limit, before anything is sent", async () => {
    putWallet();
    const { fetch, asked } = gateway({ "GET /v1/chain": { ...chain, rpcUrl: `${URL_OF}/rpc` } });
    const { code, err } = await run(["wallet", "approve", String(2n ** 96n), "--asset", "USDC"], { fetch });
    expect([code, err.includes("parameter_invalid")]).toEqual([1, true]);
    expect(asked.map(({ path }) => path)).toEqual(["/v1/chain"]);
  });
});

describe("prices", () => {
  const shown = { subject: "model:me/net", asset: "USDC", perCall: "0.002", owner: "ed25519:00", changedAtMs: 1 };
  test.each([
    [["me/net", "0.002"], { asset: "USDC", perCall: "0.002" }],
    [["me/net", "0.0015", "--per", "1k-tokens"], { perMillionInputTokens: "1.5", perMillionOutputTokens: "1.5" }],
    [["me/net", "12", "--per", "1k-tokens", "--asset", "asy"], { asset: "ASY", perMillionInputTokens: "12000" }],
    [["me/net", "0.00000012", "--per", "1k-tokens"], { perMillionInputTokens: "0.00012" }],
    [["me/net", "0", "--per", "second"], { perSecond: "0" }],
    [["me/net", "1", "--payee", `${ADDRESS}=70.5`], { payees: [{ address: ADDRESS, basisPoints: 7050 }] }],
  ])("model price %j", async (args, body) => {
    const { fetch, asked } = gateway({ "PUT /v1/prices/model%3Ame%2Fnet": shown });
    const { code, out } = await run(["model", "price", ...args], { fetch });
    expect([code, out.includes("0.002 USDC a call")]).toEqual([0, true]);
    expect(asked).toMatchObject([
      { method: "PUT", body },
      { method: "GET", path: "/v1/models?prefix=me%2Fnet" },
    ]);
  });

  test.each([
    ["of a model that is there are set without a word", ["me/net"], false],
    ["of a name that only begins like one are said to be of nothing yet", ["me/net2"], true],
  ])("%s", async (_what, ids, noted) => {
    const { fetch } = gateway({
      "PUT /v1/prices/model%3Ame%2Fnet": shown,
      "GET /v1/models?prefix=me%2Fnet": { object: "list", data: ids.map((id) => ({ id })) },
    });
    const { code, err } = await run(["model", "price", "me/net", "0.002"], { fetch });
    expect([code, err.includes("no model of that name here yet")]).toEqual([0, noted]);
  });

  test.each([
    [["me/net", "-1"]],
    [["me/net", "1e3"]],
    [["me/net", "free"]],
    [["me/net", "1", "--payee", "0x12=70"]],
    [["me/net", "1", "--payee", `${ADDRESS}=0`]],
    [["me/net", "1", "--payee", `${ADDRESS}=101`]],
    [["me/net", "1", "--payee", `${ADDRESS}=60`, "--payee", `${ADDRESS}=60`]],
    [["me/net", "1", "--remove"]],
  ])("model price %j is refused before anybody is asked", async (args) => {
    const { fetch, asked } = gateway({});
    expect((await run(["model", "price", ...args], { fetch })).code).toBe(2);
    expect(asked).toEqual([]);
  });

  test("services have prices too, and only those that there are", async () => {
    const listing = { subject: "service:storage", asset: "USDC", perGigabyteDay: "0.05" };
    const { fetch, asked } = gateway({
      "PUT /v1/prices/service%3Astorage": listing,
      "GET /v1/prices": { prices: [listing] },
    });
    expect((await run(["price", "service:storage", "0.05", "--per", "gigabyte-day"], { fetch })).code).toBe(0);
    expect((await run(["price"], { fetch })).out).toContain("0.05 USDC a gigabyte and day");
    expect((await run(["price", "service:coffee", "1"], { fetch })).code).toBe(2);
    expect(asked).toHaveLength(2);
  });

  test.each([
    ["service:openings", "0.002 USDC an opening kept"],
    ["service:anchoring", "0.002 USDC a receipt anchored by itself"],
    ["service:audit", "0.002 USDC an audit"],
    ["service:verification", "0.002 USDC a verification"],
    ["service:storage", "0.002 USDC an upload"],
  ])("of %s are of what is sold", async (subject, words) => {
    const { fetch } = gateway({ [`PUT /v1/prices/${encodeURIComponent(subject)}`]: { ...shown, subject } });
    expect((await run(["price", subject, "0.002"], { fetch })).out).toContain(words);
  });

  test("of proofs are not set, because nothing makes any, and one that is there is removed", async () => {
    const { fetch, asked } = gateway({ "DELETE /v1/prices/service%3Aproving": true });
    expect((await run(["price", "service:proving", "1"], { fetch })).code).toBe(2);
    expect(asked).toEqual([]);
    expect((await run(["price", "service:proving", "--remove"], { fetch })).code).toBe(0);
  });

  test("of what is free are no failure", async () => {
    const fetch: Fetch = (url, init) =>
      url.includes("/v1/prices")
        ? Promise.resolve(Response.json({ error: "None.", code: "listing_not_found", hints: [] }, { status: 404 }))
        : gateway({}).fetch(url, init);
    const { code, out } = await run(["model", "price", "me/net"], { fetch });
    expect([code, out]).toEqual([0, "model:me/net has no price: it is free.\n"]);
    expect(JSON.parse((await run(["price", "me/net", "--json"], { fetch })).out)).toEqual({
      subject: "model:me/net",
      free: true,
    });
    expect((await run(["price", "me/net", "--remove"], { fetch })).code).toBe(1);
  });

  test("one is removed", async () => {
    const { fetch, asked } = gateway({ "DELETE /v1/prices/model%3Ame%2Fnet": true });
    expect((await run(["model", "price", "me/net", "--remove", "--json"], { fetch })).out).toContain("model:me/net");
    expect(asked[0]).toMatchObject({ method: "DELETE" });
  });
});

describe("a gateway without a chain", () => {
  test.each([[false], [true]])("says at its start what becomes of prices, where there are any: %j", async (priced) => {
    if (priced) writeFileSync(at("prices.json"), "{}");
    const stopping = new AbortController();
    const { fetch } = gateway({});
    const { out } = await home.run(["start"], {
      // The chain is asked for last; it is told to end then.
      fetch: (url, init) => {
        if (url.endsWith("/v1/chain")) stopping.abort();
        return fetch(url, init);
      },
      startServer: () =>
        Promise.resolve({
          url: URL_OF,
          databaseReady: Promise.resolve(),
          rebuildIndex: () => Promise.reject(new Error("not asked for")),
          close: () => Promise.resolve(),
        }),
      interrupt: stopping.signal,
    });
    expect(out).toContain(URL_OF);
    expect(out.includes("off: everything is free, also what has a price in this home")).toBe(priced);
  });

  test.each([
    [["price"]],
    [["price", "service:storage", "1"]],
    [["model", "price", "me/net", "1"]],
    [["pay", "ls"]],
    [["pay", "settle"]],
    [["pay", "show", HASH]],
    [["batch", "ls"]],
    [["batch", "verify", "1"]],
    [["wallet", "fund"]],
    [["wallet", "approve", "1"]],
    [["chain", "status"]],
  ])("%j is answered in words", async (args) => {
    putWallet();
    const { code, err } = await run(args, { fetch: gateway({}).fetch });
    expect(code).toBe(1);
    expect(err.replaceAll(/\s+/g, " ")).toMatch(/takes no payments: it has no chain\. It does when .*ASSAY_CHAIN=off/);
  });
});

describe("payments, batches and the chain", () => {
  test("pay ls and show print what the ledger has", async () => {
    const { fetch, asked } = gateway({
      "GET /v1/payments?limit=20&state=settled": { payments: [payment], next: null },
      [`GET /v1/payments/${HASH}`]: { ...payment, state: "dead", error: { code: "reverted", message: "It reverted." } },
      [`POST /v1/payments/${HASH}/retry`]: { ...payment, state: "due", amount: null },
      "POST /v1/payments/settle": { due: 3, settled: 2, transactions: [HASH] },
    });
    const list = await run(["pay", "ls", "--state", "settled"], { fetch });
    expect([list.code, list.out]).toEqual([0, expect.stringMatching(/● settled +0\.002 USDC +upto/)]);
    const show = await run(["pay", "show", HASH.toUpperCase().replace("X", "x")], { fetch });
    expect(show.out).toContain("It reverted. (reverted)");
    expect((await run(["pay", "retry", HASH], { fetch })).out).toContain("not known yet");
    expect((await run(["pay", "settle"], { fetch })).out).toContain("2 of 3 payments that were due are settled.");
    expect(asked).toHaveLength(4);
  });

  test("pay show takes what lists show of an id, and only one payment", async () => {
    const other = { ...payment, paymentId: `0x${"2".repeat(63)}3` };
    const { fetch, asked } = gateway({
      "GET /v1/payments?limit=200": { payments: [payment, other], next: null },
      [`GET /v1/payments/${HASH}`]: payment,
    });
    const shown = await run(["pay", "show", "0x22222222…222222"], { fetch });
    expect([shown.code, shown.out.includes(HASH)]).toEqual([0, true]);
    expect((await run(["pay", "show", "0x22222222...222222"], { fetch })).code).toBe(0);
    for (const [id, words] of [
      ["0x22222222", "Several payments"],
      ["0x33333333", "None of the latest 200"],
      ["0x22222222…44", "None of the latest 200"],
    ] as const) {
      const { code, err } = await run(["pay", "show", id], { fetch });
      expect([code, err.includes(words)]).toEqual([2, true]);
    }
    expect(asked.filter(({ path }) => path.endsWith(HASH))).toHaveLength(2);
  });

  test("pay show leaves out an end that there is not", async () => {
    const voucher = { ...payment, scheme: "batch-settlement", deadlineS: Number.MAX_SAFE_INTEGER };
    const shown = async (one: object): Promise<string> =>
      (await run(["pay", "show", HASH], { fetch: gateway({ [`GET /v1/payments/${HASH}`]: one }).fetch })).out;
    expect(await shown(payment)).toContain("Usable until  2025-11-21 16:15:00 UTC");
    expect(await shown(voucher)).not.toContain("Usable until");
  });

  test("pay settle says when nothing was due, and counts", async () => {
    const said = async (due: number, settled: number): Promise<string> =>
      (
        await run(["pay", "settle"], {
          fetch: gateway({ "POST /v1/payments/settle": { due, settled, transactions: [] } }).fetch,
        })
      ).out;
    expect(await said(0, 0)).toBe("Nothing was due.\n");
    expect(await said(1, 1)).toBe("1 of 1 payment that was due is settled.\n");
    expect(await said(2, 0)).toBe("0 of 2 payments that were due are settled.\n");
  });

  test.each([["0x12"], ["0x1234567"], ["all"], [`${HASH}00`]])(
    "pay show %s is refused before anybody is asked",
    async (id) => {
      const { fetch, asked } = gateway({});
      expect((await run(["pay", "show", id], { fetch })).code).toBe(2);
      expect(asked).toEqual([]);
    },
  );

  test("an answer that is no payment is said to be none", async () => {
    const { fetch } = gateway({ [`GET /v1/payments/${HASH}`]: { ...payment, amount: 2000 } });
    const { code, err } = await run(["pay", "show", HASH], { fetch });
    expect([code, err.includes("response_malformed")]).toEqual([1, true]);
  });

  test.each([
    ["verified", "pass", 0],
    ["failed", "fail", 10],
    ["inconclusive", "inconclusive", 11],
  ])("batch verify: %s", async (status, row, exit) => {
    const checks = [{ check: "entry", status: row, code: "entry", message: "The entry." }];
    const { fetch } = gateway({ "POST /v1/batches/3/verify": { number: 3, status, code: "x", checks } });
    expect((await run(["batch", "verify", "3"], { fetch })).code).toBe(exit);
    expect((await run(["batch", "verify", "three"], { fetch })).code).toBe(2);
  });

  test("batch ls and show", async () => {
    const one = {
      number: 3,
      network: "eip155:31337",
      state: "posted",
      firstLeaf: 10,
      leafCount: 5,
      root: HASH,
      logSize: 20,
      logRoot: "3".repeat(64),
      blob: "4".repeat(64),
      transaction: HASH,
      blockNumber: 4,
      error: null,
      createdAtMs: 1_763_740_800_000,
    };
    const { fetch } = gateway({ "GET /v1/batches?limit=20": { batches: [one], next: null }, "GET /v1/batches/3": one });
    expect((await run(["batch", "ls"], { fetch })).out).toContain("● on the chain");
    expect((await run(["batch", "show", "3"], { fetch })).out).toContain("5, from leaf 10");
  });

  test("chain status, and a reset that has to be meant and is for development chains", async () => {
    const reset = { network: "eip155:31337", chainId: 31337, blockNumber: 0 };
    const { fetch, asked } = gateway({ "GET /v1/chain": chain, "POST /v1/chain/reset": reset });
    expect((await run(["chain", "status"], { fetch })).out).toContain("its money is worth nothing");
    expect((await run(["chain", "reset"], { fetch })).code).toBe(2);
    expect((await run(["chain", "reset", "--yes"], { fetch })).out).toContain("began anew, at block 0");
    expect(asked.filter(({ method }) => method === "POST")).toHaveLength(1);
    const real = gateway({ "GET /v1/chain": { ...chain, development: false }, "POST /v1/chain/reset": reset });
    expect((await run(["chain", "reset", "--yes"], { fetch: real.fetch })).code).toBe(1);
    expect(real.asked).toHaveLength(1);
    const down = gateway({ "GET /v1/chain": { ...chain, state: "down", blockNumber: null } });
    expect((await run(["chain", "status"], { fetch: down.fetch })).code).toBe(14);
  });
});

describe("a call that has a price", () => {
  const requirement: PaymentRequirements = {
    scheme: "exact",
    network: "eip155:31337",
    amount: "2000",
    asset: USDC,
    payTo: `0x${"1".repeat(40)}`,
    maxTimeoutSeconds: 900,
    extra: { name: "USDC", version: "2" },
  };
  /** What a price says beside the usual. */
  let parts: Partial<NonNullable<ServiceClaims["price"]>> = {};
  afterEach(() => {
    parts = {};
  });
  const claimsOf = ({ headers }: GatewayCall): Partial<ServiceClaims> => {
    const payload = parsePaymentHeader("payment-signature", headers.get("payment-signature") ?? "");
    return {
      price: { amountAtomic: "2000", asset: "USDC", rateSource: "listing:00", unit: "1", ...parts },
      payment: {
        payer: paymentParty(payload.payment, requirement).payer,
        paymentId: toHex(paymentIdOf(nobleEvmSuite, payload, requirement)),
        scheme: "exact",
        network: requirement.network,
        amountAtomic: "2000",
        asset: "USDC",
        settlement: "batch",
      },
    };
  };

  /** A gateway with a conversation at 0.002 USDC. */
  const priced = async (changes: Partial<PaymentRequirements> = {}, over: object = {}, refusal?: string) => {
    const paid: string[] = [];
    const { fetch, trust, now } = await makeTextGateway(
      {
        intercept: (call) => {
          if (call.path === "/v1/chain") return Response.json({ ...chain, ...over });
          if (!call.path.startsWith("/v1/chat")) return undefined;
          const header = call.headers.get("payment-signature");
          if (header !== null) {
            paid.push(header);
            if (refusal === undefined) return undefined;
          }
          const accepts = [{ ...requirement, ...changes }];
          const required = { x402Version: 2 as const, resource: { url: `${URL_OF}${call.path}` }, accepts };
          return Response.json(
            {
              error: { message: "Pay.", type: "x", param: null, code: (header && refusal) ?? "payment_required" },
              code: (header && refusal) ?? "payment_required",
            },
            { status: 402, headers: { "payment-required": encodePaymentRequired(nobleEvmSuite, required) } },
          );
        },
        service: claimsOf,
      },
      URL_OF,
    );
    writeFileSync(at("trust.json"), JSON.stringify(trustView(trust)));
    const chat = (...args: readonly string[]): Promise<Ran> =>
      run(["chat", "What is 17 + 25?", ...args], { fetch: (url, init) => fetch(url, init), now: () => now });
    return { chat, paid };
  };

  test("is paid within --max-spend, and says so", async () => {
    putWallet();
    const { chat, paid } = await priced();
    const { code, out } = await chat("--max-spend", "0.01");
    expect(out).toMatch(/Payment {2}paid 0\.002 USDC by 0x[0-9a-f]{40} \(exact, payment 0x\w+…\w+\)/);
    expect([code, paid.length]).toEqual([0, 1]);
    const json = JSON.parse((await chat("--max-spend", "0.01", "--json")).out) as { payment: unknown };
    expect(json.payment).toMatchObject({ scheme: "exact", amount: { amount: "0.002", amountAtomic: "2000" } });
    expect(existsSync(at("wallet.state.json.lock"))).toBe(false);
  });

  const other = {
    symbol: "ASY",
    address: `0x${"7".repeat(40)}`,
    decimals: 18,
    name: "ASY",
    version: "1",
    permit: true,
  };
  const both = { assets: [...chain.assets, other] };
  const inOther = { asset: other.address as `0x${string}`, amount: "11080000000000000" };
  const explained: [string, string[], Partial<PaymentRequirements>, readonly string[]][] = [
    [
      "no limit: what it costs, what to add, and how to come by a wallet",
      [],
      {},
      ["costs at most 0.002 USDC.", "add --max-spend 0.002.", "assay wallet new"],
    ],
    ["no limit, another token", [], inOther, ["costs at most 0.01108 ASY.", "add --max-spend 0.01108 --asset ASY."]],
    [
      "a token that nobody knows",
      [],
      { asset: `0x${"6".repeat(40)}` },
      ["costs at most 2000 smallest units of 0x66", "not known here"],
    ],
    ["a limit below the price", ["--max-spend", "0.001"], {}, ["Allow as much: --max-spend 0.002."]],
    [
      "a limit in another token",
      ["--max-spend", "1"],
      inOther,
      ["at most 0.01108 ASY, and what may be spent is USDC", "--max-spend 0.01108 --asset ASY", "Nothing was signed"],
    ],
  ];
  test.each(explained)("says what to type: %s", async (_what, flags, changes, words) => {
    if (flags.length > 0) putWallet();
    const { chat, paid } = await priced(changes, both);
    const { code, err } = await chat(...flags);
    expect([code, paid.length]).toEqual([12, 0]);
    for (const part of words) expect(err.replaceAll(/\s+/g, " ")).toContain(part);
  });

  const refused: [string, string[], Partial<PaymentRequirements>, object, number, string][] = [
    ["without a limit nothing is paid", [], {}, {}, 12, "payment_required"],
    ["more than the limit", ["--max-spend", "0.001"], {}, {}, 12, "spend_over_call"],
    ["another payee", ["--max-spend", "1", "--allow-payee", `0x${"5".repeat(40)}`], {}, {}, 12, "spend_payee_refused"],
    ["another token", ["--max-spend", "1"], { asset: `0x${"6".repeat(40)}` }, {}, 12, "spend_asset_unknown"],
    ["an asset that the chain has not", ["--max-spend", "1", "--asset", "DOGE"], {}, {}, 2, "usage_invalid"],
    [
      "a chain that is not there yet",
      ["--max-spend", "1"],
      {},
      { state: "starting", assets: [] },
      14,
      "chain_unavailable",
    ],
    ["an amount that is none", ["--max-spend", "lots"], {}, {}, 2, "spend_amount_invalid"],
    ["an hour's limit alone", ["--max-spend-hour", "1"], {}, {}, 2, "usage_invalid"],
    ["a payee that is none", ["--max-spend", "1", "--allow-payee", "bob"], {}, {}, 2, "usage_invalid"],
    [
      "a development wallet elsewhere",
      ["--max-spend", "1"],
      {},
      { development: false, chainId: 84532, network: "eip155:84532" },
      13,
      "development_key_refused",
    ],
  ];
  test.each(refused)("%s", async (_what, args, changes, over, exit, expected) => {
    putWallet();
    const { chat, paid } = await priced(changes, over);
    const { code, err } = await chat(...args);
    expect([code, err.includes(expected), paid]).toEqual([exit, true, []]);
  });

  test.each([
    [
      "permit2_insufficient_balance",
      {},
      "too little USDC: this costs at most 0.002 USDC. Fill it: `assay wallet fund`.",
    ],
    ["invalid_batch_settlement_evm_insufficient_balance", {}, "at most 0.002 USDC, and a channel's deposit is several"],
  ])("a wallet that has too little: %s says what it costs and how to fill it", async (refusal, over, words) => {
    putWallet();
    const { chat, paid } = await priced({}, over, refusal);
    const { code, err } = await chat("--max-spend", "1");
    expect([code, paid.length > 0]).toEqual([12, true]);
    expect(err.replaceAll(/\s+/g, " ")).toContain(words);
  });

  test("is shown by its receipt, with what it was for when that is more than one thing", async () => {
    putWallet();
    const { chat } = await priced();
    const once = JSON.parse((await chat("--max-spend", "0.01", "--json")).out) as { readonly path: string };
    const shown = await home.run(["receipt", "show", once.path]);
    expect(shown.out).toMatch(/Price +2000 times 1 USDC\n +Payment +exact by 0x[0-9a-f]{40},\s+0x[0-9a-f]{64}/);
    const verified = await home.run(["verify", once.path]);
    expect(verified.err).toContain("add --chain RPC");
    parts = {
      unit: "1e-6",
      rateSource: "parts",
      parts: [
        { amountAtomic: "1500", subject: "model:demo/chat", rateSource: "listing:00" },
        { amountAtomic: "500", subject: "service:openings", rateSource: "listing:01" },
      ],
    };
    const kept = JSON.parse((await chat("--max-spend", "0.01", "--json")).out) as { readonly path: string };
    expect((await home.run(["receipt", "show", kept.path])).out.replaceAll(/\s+/g, " ")).toContain(
      "Price 0.002 USDC: 0.0015 USDC for model:demo/chat, 0.0005 USDC for service:openings",
    );
  });

  test("without a wallet: exit 12, and the command that makes one", async () => {
    const { chat, paid } = await priced();
    const { code, err } = await chat("--max-spend", "1");
    expect([code, err.includes("wallet_missing"), paid]).toEqual([12, true, []]);
  });

  test("the hour's limit is that of all commands together, and a broken memory lifts nothing", async () => {
    putWallet();
    const { chat, paid } = await priced();
    const args = ["--max-spend", "0.002", "--max-spend-hour", "0.003"];
    expect((await chat(...args)).code).toBe(0);
    const second = await chat(...args);
    expect([second.code, second.err.includes("spend_over_hour"), paid.length]).toEqual([12, true, 1]);
    expect(second.err).toContain("--max-spend-hour AMOUNT");
    writeFileSync(at("wallet.state.json"), "{");
    const third = await chat(...args);
    expect([third.code, third.err.includes("pay_state_invalid"), paid.length]).toEqual([1, true, 1]);
  });

  test("a lock that a dead command left is taken away", async () => {
    putWallet();
    const { chat } = await priced();
    // No process has a number this high.
    writeFileSync(at("wallet.state.json.lock"), "2147483646");
    expect((await chat("--max-spend", "0.01")).code).toBe(0);
  });
});
