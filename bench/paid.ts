// Added latency of a paid call over a free one: the same model under two names, in one process of the whole program with its
// embedded chain, settling meanwhile; calls of all kinds interleaved, at a modest rate. Payments are signed before, and what
// signing takes is told apart: it is the client's.
//   npx tsx --conditions=assay-source bench/paid.ts
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { paymentList, read } from "@assay/sdk";
import { parseUnits } from "@assay/x402";
import type { EvmSigner, ParsedQuote, Scheme } from "@assay/x402";
import { closedLoop, openLoop, percentile } from "./infer/load.ts";
import { treeCpuSeconds } from "./infer/tree-cpu.ts";
import { makePayers, payFor, quoteOf, setPrice, sign } from "./money/payers.ts";
import type { PaymentHeader } from "./money/payers.ts";
import { bundleProgram, callBytes, startProgram } from "./money/program.ts";
import type { Program } from "./money/program.ts";

const PER_SECOND = 50;
const PAYERS = 16;
const ROUNDS = 6;
/** Calls of each kind in a round. */
const CALLS = 100;
const WARM_UP = 400;
/** Calls of one kind alone, for processor time. */
const BLOCK = 200;
/** How long a program is watched that may be idle, and what it takes of a processor then at most. */
const QUIET_MS = 3_000;
const IDLE_SHARE = 0.08;
const PRICE = "0.001";
const DEPOSIT = parseUnits("50", 6);

type Kind = "free" | "voucher" | "upto" | "exact";
const PAID = [
  { kind: "voucher", scheme: "batch-settlement", goalMs: 3 },
  { kind: "upto", scheme: "upto", goalMs: 15 },
  { kind: "exact", scheme: "exact", goalMs: 15 },
] as const satisfies readonly { kind: Kind; scheme: Scheme; goalMs: number }[];
const KINDS: readonly Kind[] = ["free", ...PAID.map(({ kind }) => kind)];

// One generator for the order of calls, so that it is the same in every run.
let state = 0x9e3779b9;
function random(below: number): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}

/** Every kind `each` times; within each group of one call of every kind the order is by chance. */
function interleaved(each: number): readonly Kind[] {
  const order: Kind[] = [];
  for (let i = 0; i < each; i++) {
    const group = [...KINDS];
    while (group.length > 0) order.push(...group.splice(random(group.length), 1));
  }
  return order;
}

/** Signs payments one after the other, by payers in turn. */
function wallet(quote: ParsedQuote, payers: readonly EvmSigner[]) {
  const cap = BigInt(quote.required.accepts[0]?.amount ?? "0");
  const promised = new Map<EvmSigner, bigint>();
  let at = 0;
  const next = async (scheme: Scheme, deposit?: bigint): Promise<PaymentHeader> => {
    const payer = payers[at++ % payers.length];
    if (!payer) throw new Error("nobody pays");
    if (scheme !== "batch-settlement") return sign(quote, scheme, payer);
    const maxClaimable = (promised.get(payer) ?? 0n) + cap;
    promised.set(payer, maxClaimable);
    return sign(quote, scheme, payer, { maxClaimable, ...(deposit === undefined ? {} : { deposit }) });
  };
  return { next };
}

const median = (values: readonly number[]): number => percentile(values, 0.5);
const ms = (value: number): string => value.toFixed(2);

async function settled(program: Program): Promise<void> {
  for (;;) {
    const { payments } = read(
      paymentList,
      await program.client.admin({ method: "GET", path: "/v1/payments?state=due&limit=1" }),
      "payments",
    );
    if (payments.length === 0) return;
    await program.client.admin({ method: "POST", path: "/v1/payments/settle" });
    await pause(100);
  }
}

/** Waits until the program has nothing left to do; resolves to the share of a processor that it takes then. */
async function quiet({ pid }: Program): Promise<number> {
  for (;;) {
    const before = treeCpuSeconds(pid);
    await pause(QUIET_MS);
    const share = ((treeCpuSeconds(pid) - before) * 1000) / QUIET_MS;
    if (share < IDLE_SHARE) return share;
  }
}

async function measure(program: Program): Promise<void> {
  const payers = await makePayers(program, PAYERS, { usdc: "100", approved: "20" });
  await setPrice(program, PRICE);
  const quote = await quoteOf(program);
  const wallets = new Map<Scheme, ReturnType<typeof wallet>>(PAID.map(({ scheme }) => [scheme, wallet(quote, payers)]));
  const signed = async (kind: Kind, deposit?: bigint): Promise<Buffer> => {
    const scheme = PAID.find((one) => one.kind === kind)?.scheme;
    const by = scheme && wallets.get(scheme);
    return by ? callBytes("paid", await by.next(scheme, deposit)) : callBytes("free");
  };
  const channels = wallet(quote, payers);
  wallets.set("batch-settlement", channels);
  for (let i = 0; i < PAYERS; i++) await payFor(program, await channels.next("batch-settlement", DEPOSIT));
  await settled(program);

  // Warm, until compilers and caches are what they are in a server that has run for a while.
  await closedLoop(program.port, callBytes("free"), 8, 20 * WARM_UP);
  for (const { kind } of PAID) {
    const calls: Buffer[] = [];
    for (let i = 0; i < WARM_UP; i++) calls.push(await signed(kind));
    await openLoop(program.port, (i) => calls[i] ?? Buffer.alloc(0), 4 * PER_SECOND, WARM_UP);
  }
  await settled(program);

  const signing = new Map<Kind, number[]>(KINDS.map((kind) => [kind, []]));
  const all = new Map<Kind, number[]>(KINDS.map((kind) => [kind, []]));
  const added = new Map<Kind, number[]>(KINDS.map((kind) => [kind, []]));
  const late: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const order = interleaved(CALLS);
    const calls: Buffer[] = [];
    for (const kind of order) {
      const startedMs = performance.now();
      calls.push(await signed(kind));
      signing.get(kind)?.push(performance.now() - startedMs);
    }
    const { latenciesMs, lateMs } = await openLoop(
      program.port,
      (i) => calls[i] ?? Buffer.alloc(0),
      PER_SECOND,
      calls.length,
    );
    late.push(...lateMs);
    const of = (kind: Kind): readonly number[] => latenciesMs.filter((_, i) => order[i] === kind);
    for (const kind of KINDS) {
      all.get(kind)?.push(...of(kind));
      added.get(kind)?.push(median(of(kind)) - median(of("free")));
    }
  }
  const free = all.get("free") ?? [];
  console.log(
    `${PER_SECOND} calls/s, ${PAYERS} payers, ${ROUNDS} rounds of ${CALLS} calls of each kind; free p50 ${ms(median(free))} p99 ${ms(percentile(free, 0.99))} ms; the load was sent ${ms(percentile(late, 0.99))} ms late at p99`,
  );

  const cpu = new Map<Kind, number>();
  for (const kind of KINDS) {
    const calls: Buffer[] = [];
    for (let i = 0; i < BLOCK; i++) calls.push(await signed(kind));
    // What calls of before left to be settled is not this kind's.
    await settled(program);
    const idleShare = await quiet(program);
    const [startedMs, before] = [performance.now(), treeCpuSeconds(program.pid)];
    await openLoop(program.port, (i) => calls[i] ?? Buffer.alloc(0), PER_SECOND, BLOCK);
    await settled(program);
    await quiet(program);
    const used = treeCpuSeconds(program.pid) - before - (idleShare * (performance.now() - startedMs)) / 1000;
    cpu.set(kind, (used * 1000) / BLOCK);
  }

  for (const { kind, goalMs } of PAID) {
    const taken = all.get(kind) ?? [];
    const rounds = added.get(kind) ?? [];
    const more = median(taken) - median(free);
    if (more > goalMs) process.exitCode = 1;
    console.log(
      `${kind}: added p50 ${ms(more)} ms (${(median(taken) / median(free)).toFixed(2)} x a free call; rounds ${rounds.map(ms).join(", ")}), goal ${goalMs}; ` +
        `added p99 ${ms(percentile(taken, 0.99) - percentile(free, 0.99))} ms (p50 ${ms(median(taken))}, p99 ${ms(percentile(taken, 0.99))}); ` +
        `${ms(cpu.get(kind) ?? 0)} ms CPU a call until it is settled, chain and database included (free ${ms(cpu.get("free") ?? 0)}); ` +
        `the client signs in ${ms(median(signing.get(kind) ?? []))} ms`,
    );
  }
}

const scratch = mkdtempSync(join(tmpdir(), "assay-bench-paid-"));
try {
  await bundleProgram();
  const program = await startProgram(join(scratch, "home"));
  try {
    await measure(program);
  } finally {
    await program.stop();
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
