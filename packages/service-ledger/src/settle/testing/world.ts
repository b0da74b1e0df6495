import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createChain, evmSigner, nativeEvmSuite, openEmbeddedChain } from "@assay/driver-chain";
import type { Chain, EmbeddedChain } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import {
  authorizeDeposit,
  authorizeExact,
  authorizeUpto,
  authorizeVoucher,
  channelFor,
  channelIdOf,
  noncePaymentId,
  permit2PaymentId,
  voucherPaymentId,
} from "@assay/x402";
import type { Address, ChannelConfig, EvmSigner, Hex, PaymentPayload, PaymentRequirements } from "@assay/x402";
import { encodeInstruction } from "../../instruction.ts";
import type { Instruction, SettlementMode } from "../../instruction.ts";

/** A key of an account, and its address. */
export type Account = { readonly key: Hex; readonly signer: EvmSigner; readonly address: Address };

/** A chain of its own with accounts that settle. */
export type World = {
  readonly chain: Chain;
  readonly embedded: EmbeddedChain;
  readonly operator: Account;
  readonly submitter: Account;
  readonly receiver: Account;
  readonly directory: string;
  readonly close: () => Promise<void>;
};

export const suite = nativeEvmSuite();

/** An account that nobody else has. */
export function account(): Account {
  const bytes = new Uint8Array(randomBytes(32));
  const signer = evmSigner(bytes);
  return { key: `0x${Buffer.from(bytes).toString("hex")}`, signer, address: signer.address };
}

/** Starts a chain in a folder of its own. */
export async function openWorld(): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), "assay-settle-"));
  const [operator, submitter, deployer, receiver] = [account(), account(), account(), account()];
  const embedded = await openEmbeddedChain({
    directory: join(directory, "chain"),
    profile: 31337,
    keys: { deployer: deployer.address, operators: [operator.address], submitter: submitter.address },
  });
  const chain = createChain({ url: embedded.rpcUrl, chainId: embedded.chainId });
  return {
    chain,
    embedded,
    operator,
    submitter,
    receiver,
    directory,
    async close() {
      await embedded.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** USDC of an account, in its smallest unit. */
export async function usdcOf(world: World, address: Address): Promise<bigint> {
  const asset = usdc(world);
  return (await world.chain.payerFacts({ payer: address, asset: asset.address })).balance ?? -1n;
}

export function usdc(world: World) {
  const [token] = world.embedded.deployments.tokens;
  if (!token) throw new Error("The chain has no dollar.");
  return token;
}

/** A payer with `amountAtomic` of USDC. */
export async function payer(world: World, amountAtomic: bigint): Promise<Account> {
  const made = account();
  if (amountAtomic > 0n) await world.embedded.fund(made.address, { asset: "USDC", amountAtomic });
  return made;
}

/** Sends a transaction as any account, and waits for its block; answers its hash. */
export async function send(world: World, from: Address, to: Address, data: Hex): Promise<string> {
  await world.chain.request("anvil_setBalance", [from, "0xde0b6b3a7640000"]);
  await world.chain.request("anvil_impersonateAccount", [from]);
  const hash = await world.chain.request("eth_sendTransaction", [{ from, to, data }]);
  await world.chain.request("anvil_stopImpersonatingAccount", [from]);
  if (typeof hash !== "string") throw new Error("The node gave no hash.");
  const receipt = await until(() => world.chain.receipt(hash as Hex));
  if (!receipt.ok) throw new Error("The transaction reverted.");
  return hash;
}

/** Lets Permit2 take an account's USDC, as its owner would. */
export async function approvePermit2(world: World, owner: Address): Promise<void> {
  const { permit2 } = world.embedded.deployments;
  await send(world, owner, usdc(world).address, `0x095ea7b3${permit2.slice(2).padStart(64, "0")}${"f".repeat(64)}`);
}

function requirement(
  world: World,
  scheme: PaymentRequirements["scheme"],
  amount: bigint,
  extra: Partial<PaymentRequirements["extra"]> = {},
  payTo: Address = world.receiver.address,
): PaymentRequirements {
  const token = usdc(world);
  return {
    scheme,
    network: world.embedded.network,
    amount: amount.toString(),
    asset: token.address,
    payTo,
    maxTimeoutSeconds: 900,
    extra: {
      name: token.name,
      version: token.version,
      ...(scheme === "upto" ? { facilitatorAddress: world.embedded.deployments.paymentBatcher } : {}),
      ...(scheme === "batch-settlement"
        ? { receiverAuthorizer: world.operator.address, withdrawDelay: 900, minDeposit: "1" }
        : {}),
      ...extra,
    },
  };
}

const nonce = (): Uint8Array => new Uint8Array(randomBytes(32));
const nowS = (): number => Math.floor(Date.now() / 1000);

export async function signExact(
  world: World,
  from: Account,
  amount: bigint,
  options: {
    readonly payTo?: Address;
    readonly permit2?: boolean;
    readonly agoS?: number;
    readonly nonce?: Uint8Array;
  } = {},
): Promise<Signed> {
  const asked = requirement(
    world,
    "exact",
    amount,
    options.permit2 === true ? { assetTransferMethod: "permit2" } : {},
    options.payTo,
  );
  const signedS = nowS() - (options.agoS ?? 0);
  const payload = await authorizeExact({
    suite,
    signer: from.signer,
    requirement: asked,
    nonce: options.nonce ?? nonce(),
    nowS: signedS,
  });
  return { ...signed(world, asked, payload), deadlineS: signedS + asked.maxTimeoutSeconds };
}

export async function signUpto(world: World, from: Account, cap: bigint): Promise<Signed> {
  const asked = requirement(world, "upto", cap);
  return signed(
    world,
    asked,
    await authorizeUpto({ suite, signer: from.signer, requirement: asked, nonce: nonce(), nowS: nowS() }),
  );
}

export async function signDeposit(world: World, from: Account, deposit: bigint, maxClaimable: bigint): Promise<Signed> {
  const asked = requirement(world, "batch-settlement", maxClaimable);
  const channel = channelFor(asked, from.address);
  const payload = await authorizeDeposit(
    {
      suite,
      signer: from.signer,
      payer: from.signer,
      requirement: asked,
      channel,
      maxClaimable,
      nonce: nonce(),
      nowS: nowS(),
    },
    deposit,
  );
  return signed(world, asked, payload, channel);
}

export async function signVoucher(world: World, from: Account, maxClaimable: bigint): Promise<Signed> {
  const asked = requirement(world, "batch-settlement", maxClaimable);
  const channel = channelFor(asked, from.address);
  const payload = await authorizeVoucher({
    suite,
    signer: from.signer,
    requirement: asked,
    channel,
    maxClaimable,
    nowS: nowS(),
  });
  return signed(world, asked, payload, channel);
}

/** A signed payment, with the id that the ledger gives it. */
export type Signed = {
  readonly paymentId: Hex;
  readonly requirement: PaymentRequirements;
  readonly payload: PaymentPayload;
  readonly payer: Address;
  readonly channelId?: Uint8Array;
  readonly deadlineS?: number;
};

function signed(world: World, asked: PaymentRequirements, payload: PaymentPayload, channel?: ChannelConfig): Signed {
  const { payment } = payload;
  const { chainId } = world.embedded;
  const hex = (bytes: Uint8Array): Hex => `0x${Buffer.from(bytes).toString("hex")}`;
  switch (payment.kind) {
    case "eip3009": {
      const { from, nonce: used } = payment.authorization;
      return {
        requirement: asked,
        payload,
        payer: from,
        paymentId: hex(noncePaymentId(suite, chainId, asked.asset, from, used)),
      };
    }
    case "permit2":
    case "upto": {
      const { from, nonce: used } = payment.permit;
      return { requirement: asked, payload, payer: from, paymentId: hex(permit2PaymentId(suite, chainId, from, used)) };
    }
    default: {
      if (!channel) throw new Error("A voucher needs its channel.");
      return {
        requirement: asked,
        payload,
        payer: channel.payer,
        channelId: channelIdOf(suite, chainId, channel),
        paymentId: hex(voucherPaymentId(suite, chainId, payment.voucher)),
      };
    }
  }
}

let nextIndex = 0;

/** Writes a payment down as due: as the ledger does when a record of the log carries its instruction. */
export async function charge(
  database: Database,
  payment: Signed,
  options: {
    readonly amount?: bigint;
    readonly mode?: SettlementMode;
    readonly payees?: Instruction["payees"];
    /** The receipt that it pays for; one that only its payment knows when absent. */
    readonly receipt?: { readonly execution: string; readonly service: string; readonly logIndex: number };
  } = {},
): Promise<Hex> {
  const { requirement: asked, payload, payer: from } = payment;
  const cap = BigInt(asked.amount);
  const amountAtomic = options.amount ?? cap;
  const fingerprint = createHash("sha256").update(payment.paymentId).digest();
  const logIndex = options.receipt?.logIndex ?? nextIndex++;
  const deadlineS = payment.deadlineS ?? nowS() + asked.maxTimeoutSeconds;
  const instruction = encodeInstruction({
    paymentId: payment.paymentId,
    payer: from,
    scheme: asked.scheme,
    network: asked.network,
    asset: asked.asset,
    amountAtomic,
    capAtomic: cap,
    payTo: asked.payTo,
    payees: options.payees ?? [],
    settlement: options.mode ?? "batch",
    deadlineS,
    listing: "00".repeat(32),
    fingerprint: new Uint8Array(fingerprint),
    ...(payment.channelId ? { channelId: payment.channelId } : {}),
    takenBy: "test",
    takenAtMs: Date.now(),
    requirement: asked,
    payload,
  });
  const digest = (tag: string): string => createHash("sha256").update(`${tag}${payment.paymentId}`).digest("hex");
  await database.query(
    `INSERT INTO assay.payments (payment_id, network, scheme, payer, asset, pay_to, cap_atomic, state, fingerprint, taken_by,
       taken_at_ms, deadline_s, amount_atomic, settlement, channel_id, receipt_id, log_index, execution_digest, service_digest,
       instruction, updated_at_ms)
     VALUES (decode($1, 'hex'), $2, $3, $4, $5, $6, $7::numeric, 'due', decode($8, 'hex'), 'test', $9, $10, $11::numeric, $12,
       decode($13, 'hex'), decode($14, 'hex'), $15, decode($16, 'hex'), decode($17, 'hex'), decode($18, 'hex'), $9)`,
    [
      payment.paymentId.slice(2),
      asked.network,
      asked.scheme,
      from,
      asked.asset,
      asked.payTo,
      cap.toString(),
      fingerprint.toString("hex"),
      Date.now(),
      deadlineS,
      amountAtomic.toString(),
      options.mode ?? "batch",
      payment.channelId ? Buffer.from(payment.channelId).toString("hex") : null,
      digest("receipt").slice(0, 32),
      logIndex,
      options.receipt?.execution ?? digest("execution"),
      options.receipt?.service ?? digest("service"),
      Buffer.from(instruction).toString("hex"),
    ],
  );
  return payment.paymentId;
}

/** States of payments by id. */
export async function statesOf(database: Database): Promise<Record<string, number>> {
  const { rows } = await database.query("SELECT state, COUNT(*) AS count FROM assay.payments GROUP BY state");
  return Object.fromEntries(rows.map((row) => [String(row["state"]), Number(row["count"])]));
}

/** What is not settled, and what became of its jobs and transactions: for a failure's message. */
export async function standing(database: Database): Promise<string> {
  const { rows: payments } = await database.query(
    `SELECT state, job_id, attempts, error_code, error_message, COUNT(*) AS count FROM assay.payments WHERE state <> 'settled'
     GROUP BY state, job_id, attempts, error_code, error_message LIMIT 20`,
  );
  const { rows: transactions } = await database.query(
    `SELECT job_id, nonce, attempt, state, block_number FROM assay.chain_transactions ORDER BY nonce DESC, attempt DESC LIMIT 20`,
  );
  const { rows: jobs } = await database.query(
    `SELECT workflow_uuid, status, recovery_attempts, queue_name FROM assay_jobs.workflow_status
     WHERE status <> 'SUCCESS' LIMIT 20`,
  );
  return JSON.stringify({ payments, transactions, jobs });
}

/**
 * Waits until `look` answers; fails after `timeoutMs`, of which only its own turns count: a machine that stood still for a
 * minute fails nothing.
 */
export async function until<T>(look: () => Promise<T | undefined | false>, timeoutMs = 30_000): Promise<T> {
  const everyMs = 50;
  for (let turns = timeoutMs / everyMs; ; turns--) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (turns <= 0) throw new Error("What was waited for did not come.");
    await new Promise((resolve) => {
      setTimeout(resolve, everyMs);
    });
  }
}
