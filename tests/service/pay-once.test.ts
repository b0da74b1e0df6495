import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Deployments } from "@assay/contracts";
import { evmSigner, nativeEvmSuite } from "@assay/driver-chain";
import type { Chain } from "@assay/driver-chain";
import { nodeSuite } from "@assay/driver-crypto";
import type { PaymentPage } from "@assay/sdk";
import { openAiHandler } from "@assay/testkit/upstream";
import type { WireHandler } from "@assay/testkit/upstream";
import {
  authorizeDeposit,
  authorizeExact,
  authorizeUpto,
  authorizeVoucher,
  channelFor,
  encodePayment,
  parsePaymentRequired,
} from "@assay/x402";
import type { EvmSigner, PaymentPayload } from "@assay/x402";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { paidRecords } from "../crash/paid-records.ts";
import { chainAt, FUNDS, giveMoney } from "../crash/payers.ts";
import { processesOf } from "../crash/server-process.ts";
import { ending, openUpstreamHome, piece, streaming, whole } from "./fleet-upstream.ts";
import type { UpstreamHome } from "./fleet-upstream.ts";
import { ask } from "./running-server.ts";

// Once, over the whole program: HTTP, desk, log, settler and a chain. What ran is counted where it ran: at the upstream.

const MODEL = "little/little-chat";
/** A call is 0.001 USDC, a token of the answer 0.0001, and 20 of them are the most that is asked for. */
const CALL = 1_000n;
const TOKEN = 100n;
const MOST_TOKENS = 20;
const CAP = CALL + TOKEN * BigInt(MOST_TOKENS);
/** What a payer may owe while the chain says nothing: three calls. */
const BLIND = 3n * CAP + 1n;
const suite = nativeEvmSuite();

let world: UpstreamHome;
let chain: Chain;
let deployments: Deployments;
let asset: `0x${string}`;
let payTo: `0x${string}`;
let runs: string[] = [];
let play: WireHandler;
let letGo: () => void = () => undefined;
let stopped: number[] = [];
/** Copies of payments that wait for an answer. */
let waiting: () => number;

const usage = (completion: number): object => ({
  prompt_tokens: 3,
  completion_tokens: completion,
  total_tokens: 3 + completion,
});
const answers =
  (content: string, tokens: number): WireHandler =>
  (_request, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(whole(content, usage(tokens)));
  };
const held = (): Promise<void> => new Promise((resolve) => (letGo = resolve));

beforeAll(async () => {
  world = await openUpstreamHome(
    ["little"],
    (request, response) => {
      if (request.path.endsWith("/models")) return openAiHandler(request, response);
      const { messages } = request.body as { readonly messages: readonly { readonly content: string }[] };
      runs.push(messages[0]?.content ?? "");
      return play(request, response);
    },
    {
      money: {
        chain: { kind: "embedded", profile: 31337 },
        settler: { entry: join(fileURLToPath(new URL("../..", import.meta.url)), "apps/assay/dist/settler.js") },
        settling: {
          items: 10,
          afterMs: 100,
          claimAfterMs: 200,
          tickMs: 50,
          pollMs: 50,
          payoutEveryMs: 0,
          anchorEveryMs: 0,
        },
        maxUnsettledPerPayer: { USDC: BLIND },
        eager: true,
      },
    },
  );
  const { place, desk } = (await world.home.server.money?.ready()) ?? {};
  if (!place || !desk) throw new Error("The server has no money.");
  waiting = () => desk.status().waiting;
  ({ deployments } = place);
  chain = chainAt(place.rpcUrl, deployments);
  asset = deployments.tokens[0]?.address ?? "0x";
  payTo = place.payTo;
  const priced = await fetch(`${world.url}/v1/prices/${encodeURIComponent(`model:${MODEL}`)}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${world.token}`, "content-type": "application/json" },
    body: JSON.stringify({ asset: "USDC", perCall: "0.001", perMillionOutputTokens: "100" }),
  });
  if (!priced.ok) throw new Error(`The price was refused: ${await priced.text()}`);
});
afterEach(() => {
  letGo();
  for (const pid of stopped) process.kill(pid, "SIGCONT");
  stopped = [];
  runs = [];
});
afterAll(() => world?.close());

type Payer = { readonly kind: "exact" | "upto" | "channel"; readonly signer: EvmSigner };

async function newPayer(kind: Payer["kind"] = "exact"): Promise<Payer> {
  const payer = { kind, signer: evmSigner(new Uint8Array(randomBytes(32))) };
  await giveMoney(chain, deployments, [{ kind: kind === "upto" ? "upto" : "exact", signer: payer.signer }]);
  return payer;
}

type Request = {
  readonly content: string;
  readonly stream?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
};

const bodyOf = ({ content, stream = false }: Request): string =>
  JSON.stringify({ model: MODEL, messages: [{ role: "user", content }], max_tokens: MOST_TOKENS, stream });
const send = (request: Request, signal?: AbortSignal): Promise<Response> =>
  fetch(`${world.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...request.headers },
    body: bodyOf(request),
    ...(signal ? { signal } : {}),
  });

type From = Parameters<typeof authorizeExact>[0];

function authorize(kind: Payer["kind"], from: From, charged: bigint | undefined): Promise<PaymentPayload> {
  if (kind === "exact") return authorizeExact(from);
  if (kind === "upto") return authorizeUpto(from);
  const channel = channelFor(from.requirement, from.signer.address);
  return charged === undefined
    ? authorizeDeposit({ ...from, channel, maxClaimable: CAP, payer: from.signer }, 10n * CAP)
    : authorizeVoucher({ ...from, channel, maxClaimable: charged + CAP });
}

/**
 * A payment that nobody else has signed, for what a request is quoted at. On a channel it is the deposit, or a voucher for
 * one call beyond what was `charged`.
 */
async function sign(payer: Payer, request: Request, charged?: bigint): Promise<Readonly<Record<string, string>>> {
  const unpaid = await send(request);
  expect(unpaid.status).toBe(402);
  const quote = parsePaymentRequired({ header: unpaid.headers.get("payment-required") ?? "" });
  const wanted = payer.kind === "channel" ? "batch-settlement" : payer.kind;
  const at = quote.required.accepts.findIndex(({ scheme }) => scheme === wanted);
  const requirement = quote.required.accepts[at];
  const accepted = quote.wire.accepts[at];
  if (!requirement || accepted === undefined) throw new Error(`${payer.kind} is not offered.`);
  expect(requirement.amount).toBe(CAP.toString());
  const from = {
    suite,
    signer: payer.signer,
    requirement,
    nonce: new Uint8Array(randomBytes(32)),
    nowS: Math.floor(Date.now() / 1000),
  };
  const payload = await authorize(payer.kind, from, charged);
  return { "payment-signature": encodePayment(suite, payload, { accepted }).value };
}

type Heard = {
  readonly status: number;
  readonly replayed: boolean;
  readonly retryAfter: string | null;
  readonly text: string;
};

async function hear(sent: Promise<Response>): Promise<Heard> {
  const response = await sent;
  return {
    status: response.status,
    replayed: response.headers.get("assay-replayed") === "true",
    retryAfter: response.headers.get("retry-after"),
    text: await response.text(),
  };
}
const codeOf = ({ text }: Heard): string => (JSON.parse(text) as { readonly code: string }).code;

/** The ledger's rows of a payer. */
async function ledgerOf({ signer }: Payer): Promise<PaymentPage["payments"]> {
  const { body } = await ask(world.url, `/v1/payments?payer=${signer.address}`, { token: world.token });
  return (body as unknown as PaymentPage).payments;
}

/** Amounts of a payer's receipts in the log, once the chain has all of them; the payer has exactly so much less. */
async function settledOf(payer: Payer): Promise<readonly bigint[]> {
  await expect
    .poll(async () => (await ledgerOf(payer)).filter(({ state }) => state !== "settled"), {
      timeout: 30_000,
      interval: 50,
    })
    .toEqual([]);
  const records = await paidRecords(nodeSuite, world.home.server.log);
  const amounts = records
    .filter(({ payer: name }) => name === payer.signer.address)
    .map(({ amountAtomic }) => BigInt(amountAtomic));
  const { balance } = await chain.payerFacts({ payer: payer.signer.address, asset });
  expect(balance).toBe(FUNDS - amounts.reduce((sum, amount) => sum + amount, 0n));
  expect(await ledgerOf(payer)).toHaveLength(amounts.length);
  return amounts;
}

describe("copies of one payment", () => {
  const COST = CALL + 2n * TOKEN;

  test.each([
    ["exact", false, [CAP]],
    ["exact", true, [CAP]],
    ["upto", false, [COST]],
    ["upto", true, [COST]],
  ] as const)(
    "50 at the same moment by %s run once, are answered alike, and are settled once (stream: %s)",
    async (kind, stream, amounts) => {
      const payer = await newPayer(kind);
      const request = { content: `fifty ${kind}`, stream };
      const headers = await sign(payer, request);
      play = async (asked, response) => {
        if (stream) {
          streaming(response);
          response.write(piece("one of "));
        }
        await held();
        if (!stream) return answers("one of fifty", 2)(asked, response);
        response.end(piece("fifty") + ending(usage(2)));
      };
      const sent = Array.from({ length: 50 }, () => hear(send({ ...request, headers })));
      // One runs, and the others wait for its answer.
      await expect.poll(() => [runs.length, waiting()]).toEqual([1, 49]);
      letGo();
      const heard = await Promise.all(sent);
      const [answer] = heard.filter(({ replayed }) => !replayed);
      expect([answer?.status, answer?.text.includes(stream ? "[DONE]" : "one of fifty")]).toEqual([200, true]);
      expect(heard.filter(({ replayed }) => replayed)).toEqual(
        Array.from({ length: 49 }, () => ({ ...answer, replayed: true })),
      );
      expect(await hear(send({ ...request, headers }))).toEqual({ ...answer, replayed: true });
      expect([runs, waiting()]).toEqual([[request.content], 0]);
      expect(await settledOf(payer)).toEqual(amounts);
    },
  );

  test("on a channel, deposit and voucher alike, run once and are charged once", async () => {
    const payer = await newPayer("channel");
    let charged: bigint | undefined;
    for (const content of ["with a deposit", "with a voucher"]) {
      const headers = await sign(payer, { content }, charged);
      play = async (asked, response) => {
        await held();
        return answers(`answered ${content}`, 2)(asked, response);
      };
      const sent = Array.from({ length: 8 }, () => hear(send({ content, headers })));
      await expect.poll(() => [runs.length, waiting()]).toEqual([1, 7]);
      letGo();
      const heard = await Promise.all(sent);
      const [answer] = heard.filter(({ replayed }) => !replayed);
      expect([answer?.status, answer?.text.includes(content)]).toEqual([200, true]);
      expect(heard.filter((one) => one.replayed)).toEqual(
        Array.from({ length: 7 }, () => ({ ...answer, replayed: true })),
      );
      expect(runs.splice(0)).toEqual([content]);
      charged = (charged ?? 0n) + COST;
    }
    const amounts = async (): Promise<readonly string[]> =>
      (await ledgerOf(payer)).map(({ amount }) => amount?.amountAtomic ?? "");
    await expect.poll(amounts).toEqual([COST.toString(), COST.toString()]);
  });

  test("take the place of one that failed: another runs, and one is charged", async () => {
    const payer = await newPayer();
    const request = { content: "fails first" };
    const headers = await sign(payer, request);
    play = async (asked, response) => {
      await held();
      if (runs.length > 1) return answers("well then", 2)(asked, response);
      response.writeHead(400, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { message: "no", type: "invalid_request_error" } }));
    };
    const sent = Array.from({ length: 6 }, () => hear(send({ ...request, headers })));
    await expect.poll(() => [runs.length, waiting()]).toEqual([1, 5]);
    letGo();
    await expect.poll(() => [runs.length, waiting()]).toEqual([2, 4]);
    letGo();
    const heard = await Promise.all(sent);
    const answered = heard.filter(({ status }) => status === 200);
    expect([answered.length, answered.filter(({ replayed }) => replayed).length]).toEqual([5, 4]);
    expect(new Set(answered.map(({ text }) => text)).size).toBe(1);
    expect(runs).toEqual(["fails first", "fails first"]);
    expect(await settledOf(payer)).toEqual([CAP]);
  });

  test("have what was produced when the first one's client leaves its stream, and go away themselves without a trace", async () => {
    const payer = await newPayer("upto");
    const request = { content: "left to the others", stream: true };
    const headers = await sign(payer, request);
    play = async (_request, response) => {
      streaming(response);
      response.write(piece("one "));
      response.write(piece("two "));
      await Promise.race([held(), once(response, "close")]);
      response.end();
    };
    const left = await leaveAfter(request, headers, "two ", async () => {
      const leaving = new AbortController();
      const gone = Array.from({ length: 3 }, () => send({ ...request, headers }, leaving.signal).catch(() => "gone"));
      const stays = Array.from({ length: 2 }, () => hear(send({ ...request, headers })));
      await expect.poll(waiting).toBe(5);
      leaving.abort();
      expect(await Promise.all(gone)).toEqual(["gone", "gone", "gone"]);
      await expect.poll(waiting).toBe(2);
      return stays;
    });
    const [one, two] = await Promise.all(left ?? []);
    expect([one?.status, one?.replayed, one?.text.includes("two ")]).toEqual([200, true, true]);
    expect(two).toEqual(one);
    expect(runs).toEqual([request.content]);
    expect(await settledOf(payer)).toEqual([CALL + 2n * TOKEN]);
    expect(waiting()).toBe(0);
  });

  test("for another request are refused, and nothing runs", async () => {
    const payer = await newPayer();
    const headers = await sign(payer, { content: "bound" });
    play = answers("mine", 1);
    expect((await hear(send({ content: "bound", headers }))).status).toBe(200);
    const other = await hear(send({ content: "other", headers }));
    expect([other.status, codeOf(other)]).toEqual([409, "payment_bound"]);
    expect(runs).toEqual(["bound"]);
    expect(await settledOf(payer)).toEqual([CAP]);
  });
});

describe("an idempotency key", () => {
  test("gives its payer the stored answer for a fresh payment, which is not used", async () => {
    const [payer, stranger] = [await newPayer(), await newPayer()];
    const key = { "idempotency-key": "order-7" };
    const request = { content: "keyed" };
    play = answers("kept by key", 3);
    const first = await hear(send({ ...request, headers: { ...(await sign(payer, request)), ...key } }));
    const again = await hear(send({ ...request, headers: { ...(await sign(payer, request)), ...key } }));
    expect(again).toEqual({ ...first, replayed: true });
    const different = { content: "something else" };
    const conflict = await hear(send({ ...different, headers: { ...(await sign(payer, different)), ...key } }));
    expect([conflict.status, codeOf(conflict)]).toEqual([409, "idempotency_conflict"]);
    const other = await hear(send({ ...request, headers: { ...(await sign(stranger, request)), ...key } }));
    expect([other.status, other.replayed]).toEqual([200, false]);
    expect(runs).toEqual(["keyed", "keyed"]);
    expect(await settledOf(payer)).toEqual([CAP]);
    expect(await settledOf(stranger)).toEqual([CAP]);
  });
});

describe("what is charged", () => {
  test.each([
    ["upto", "what was produced", CALL + 2n * TOKEN],
    ["exact", "its price", CAP],
  ] as const)("a stream that is left costs by %s %s, and its payer can have it again", async (kind, _what, amount) => {
    const payer = await newPayer(kind);
    const request = { content: `left ${kind}`, stream: true };
    const headers = await sign(payer, request);
    play = async (_request, response) => {
      streaming(response);
      response.write(piece("one "));
      response.write(piece("two "));
      await Promise.race([held(), once(response, "close")]);
      response.end();
    };
    await leaveAfter(request, headers, "two ");
    await expect.poll(async () => (await ledgerOf(payer)).length, { timeout: 10_000 }).toBe(1);
    expect(await settledOf(payer)).toEqual([amount]);
    const again = await hear(send({ ...request, headers }));
    expect([again.status, again.replayed]).toEqual([200, true]);
    expect(again.text).toContain("two ");
    expect(again.text).not.toContain("[DONE]");
    expect(runs).toEqual([request.content]);
  });

  test("a cost above the cap is the cap", async () => {
    const payer = await newPayer("upto");
    const request = { content: "long" };
    // A usage that the text does not bear out is not believed, so the text is long.
    play = answers("very long ".repeat(200), 400);
    expect((await hear(send({ ...request, headers: await sign(payer, request) }))).status).toBe(200);
    expect(await settledOf(payer)).toEqual([CAP]);
  });

  test("what fails costs nothing, and the same payment can be tried again", async () => {
    const payer = await newPayer("upto");
    const request = { content: "fails" };
    const headers = await sign(payer, request);
    play = (_request, response) => {
      response.writeHead(400, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { message: "no", type: "invalid_request_error" } }));
    };
    const failed = await hear(send({ ...request, headers }));
    expect(failed.status).toBeGreaterThanOrEqual(400);
    await expect.poll(() => ledgerOf(payer)).toEqual([]);
    expect(await settledOf(payer)).toEqual([]);
    const tried = runs.length;
    play = answers("well", 4);
    const well = await hear(send({ ...request, headers }));
    expect([well.status, well.replayed]).toEqual([200, false]);
    expect(runs.length).toBe(tried + 1);
    expect(await settledOf(payer)).toEqual([CALL + 4n * TOKEN]);
  });
});

describe("while the chain does not answer", () => {
  test("a payer is answered up to its limit, then told when to come again, and all of it is settled later", async () => {
    const [payer, other] = [await newPayer(), await newPayer()];
    const requests = Array.from({ length: 5 }, (_, i) => ({ content: `blind ${i}` }));
    const signed = await Promise.all(
      requests.map(async (request) => ({ ...request, headers: await sign(payer, request) })),
    );
    const others = { content: "somebody else" };
    const otherHeaders = await sign(other, others);
    play = answers("unseen", 1);
    stopped = processesOf(world.home.directory).filter((pid) => commandOf(pid).includes("anvil"));
    expect(stopped).toHaveLength(1);
    for (const pid of stopped) process.kill(pid, "SIGSTOP");
    const heard: Heard[] = [];
    for (const request of signed) heard.push(await hear(send(request)));
    expect(heard.map(({ status }) => status)).toEqual([200, 200, 200, 503, 503]);
    for (const one of heard.slice(3)) expect([codeOf(one), one.retryAfter]).toEqual(["chain_unavailable", "3"]);
    // The limit is each payer's own, and an answer that is there needs no chain.
    expect((await hear(send({ ...others, headers: otherHeaders }))).status).toBe(200);
    expect(await hear(send(signed[0] ?? others))).toEqual({ ...heard[0], replayed: true });
    expect(runs).toHaveLength(4);

    for (const pid of stopped.splice(0)) process.kill(pid, "SIGCONT");
    for (const request of signed.slice(3))
      await expect
        .poll(() => hear(send(request)).then(({ status }) => status), { timeout: 40_000, interval: 250 })
        .toBe(200);
    expect(await settledOf(payer)).toEqual(Array.from({ length: 5 }, () => CAP));
    expect(await settledOf(other)).toEqual([CAP]);
  });
});

test("in the end the gateway has what all receipts say, and no payment has two", async () => {
  const records = await paidRecords(nodeSuite, world.home.server.log);
  expect(new Set(records.map(({ paymentId }) => paymentId)).size).toBe(records.length);
  const earned = records.reduce((sum, { amountAtomic }) => sum + BigInt(amountAtomic), 0n);
  expect((await chain.payerFacts({ payer: payTo, asset })).balance).toBe(earned);
});

/** Sends a request and leaves its stream as soon as `text` has come, and `before` is done. */
async function leaveAfter<T = void>(
  request: Request,
  headers: Readonly<Record<string, string>>,
  text: string,
  before?: () => Promise<T>,
): Promise<T | undefined> {
  const sent = httpRequest(`${world.url}/v1/chat/completions`, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json", ...headers },
  });
  sent.on("error", () => undefined);
  sent.end(bodyOf(request));
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  expect(response.statusCode).toBe(200);
  response.on("error", () => undefined);
  let heard = "";
  await new Promise<void>((resolve) => {
    response.on("data", (data: Buffer) => {
      heard += data.toString("utf8");
      if (heard.includes(text)) resolve();
    });
  });
  const done = await before?.();
  response.destroy();
  return done;
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8");
  } catch {
    return "";
  }
}
