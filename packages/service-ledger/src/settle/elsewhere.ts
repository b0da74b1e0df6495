import { paymentBatcher, permit2, testUsdc } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import { movedAsAuthorized } from "@assay/driver-chain";
import type { AuthorizedTransfer } from "@assay/driver-chain";
import type { Queryable } from "@assay/driver-postgres";
import type { Address, Hex } from "@assay/x402";
import { decodeEventLog, encodeEventTopics, encodeFunctionData, toHex } from "viem";
import type { ChainLog, ChainReads, ChainReceipt } from "./ports.ts";
import type { PaymentRow, SettledIn } from "./rows.ts";
import { plainTopics, searchBack } from "./search.ts";

/**
 * Where a payment was settled that our job did not settle: by an earlier transaction of ours, or by somebody who sent the
 * payer's authorization first. The money is at `payTo` either way. Looks at the last {@link SEARCH_BLOCKS} blocks, latest
 * first; undefined when it was not settled.
 */
export async function findElsewhere(
  modules: { readonly database: Queryable; readonly chain: ChainReads; readonly contracts: Deployments },
  row: PaymentRow,
): Promise<SettledIn | undefined> {
  const { chain, contracts } = modules;
  const head = await chain.blockNumber();
  const ours = await searchBack(head, async (fromBlock, toBlock) => {
    const logs = await chain.logs({
      address: contracts.paymentBatcher,
      topics: plainTopics(
        encodeEventTopics({
          abi: paymentBatcher.abi,
          eventName: "PaymentSettled",
          args: { paymentId: row.paymentId },
        }),
      ),
      fromBlock,
      toBlock,
    });
    return logs.find((log) => {
      const event = decoded(log);
      return event?.eventName === "PaymentSettled" && event.args.ok;
    });
  });
  if (ours) return { transaction: ours.transaction, blockNumber: ours.blockNumber };

  const { payment } = row.instruction.payload;
  if (payment.kind === "eip3009") {
    const { from, nonce } = payment.authorization;
    const used = await searchBack(head, async (fromBlock, toBlock) => {
      const logs = await chain.logs({
        address: row.asset,
        topics: plainTopics(
          encodeEventTopics({
            abi: testUsdc.abi,
            eventName: "AuthorizationUsed",
            args: { authorizer: from, nonce: toHex(nonce) },
          }),
        ),
        fromBlock,
        toBlock,
      });
      return logs[0];
    });
    const receipt = used && (await chain.receipt(used.transaction));
    if (receipt?.ok !== true || !movedAsAuthorized(receipt.logs, transferOf(row, nonce))) return undefined;
    return { transaction: receipt.transaction, blockNumber: receipt.blockNumber };
  }
  // Permit2 says nothing of a number that was used by a transfer; only the proxy may use this one, and only exactly. Of a
  // metered payment that is so when somebody else was named to settle it: what it moved is what was charged, or nothing.
  const named = payment.kind === "upto" && payment.witness.facilitator !== contracts.paymentBatcher;
  if (payment.kind !== "permit2" && !named) return undefined;
  if (!(await isNumberUsed(chain, contracts, row.payer, payment.permit.nonce))) return undefined;
  const moved = await searchBack(head, async (fromBlock, toBlock) => {
    const logs = await chain.logs({ address: row.asset, topics: transferTopics(row), fromBlock, toBlock });
    for (const log of logs.toReversed()) {
      if (BigInt(log.data) !== row.amountAtomic) continue;
      if (await isUnaccounted(modules, row, log.transaction)) return log;
    }
    return undefined;
  });
  return moved ? { transaction: moved.transaction, blockNumber: moved.blockNumber } : undefined;
}

function transferTopics(row: PaymentRow): readonly (Hex | null)[] {
  return plainTopics(
    encodeEventTopics({ abi: testUsdc.abi, eventName: "Transfer", args: { from: row.payer, to: row.payTo } }),
  );
}

/** What a row's payer signed by EIP-3009, for {@link movedAsAuthorized}. */
function transferOf(row: PaymentRow, nonce: Uint8Array): AuthorizedTransfer {
  return { token: row.asset, from: row.payer, to: row.payTo, value: row.amountAtomic, nonce: toHex(nonce) };
}

/** How often a transaction moved a row's amount from its payer to its receiver. */
function transfersIn(receipt: ChainReceipt, row: PaymentRow): number {
  const [signature, from, to] = transferTopics(row);
  return receipt.logs.filter(
    (log) =>
      log.address === row.asset &&
      log.topics[0] === signature &&
      log.topics[1] === from &&
      log.topics[2] === to &&
      BigInt(log.data) === row.amountAtomic,
  ).length;
}

/**
 * Whether a mined transaction, of which somebody says that it settled a row, did: the payer's signature is used, the amount
 * went from payer to receiver, and it went once for each payment that the transaction is said to have settled.
 */
export async function didSettle(
  modules: { readonly database: Queryable; readonly chain: ChainReads; readonly contracts: Deployments },
  row: PaymentRow,
  receipt: ChainReceipt,
): Promise<boolean> {
  const { chain, contracts } = modules;
  const { payment } = row.instruction.payload;
  if (!receipt.ok) return false;
  if (payment.kind === "eip3009") {
    return movedAsAuthorized(receipt.logs, transferOf(row, payment.authorization.nonce));
  }
  if (payment.kind !== "permit2" && payment.kind !== "upto") return false;
  if (!(await isNumberUsed(chain, contracts, row.payer, payment.permit.nonce))) return false;
  return hasUncounted(modules, row, receipt);
}

/** Whether a transaction moved a row's amount oftener than payments are said to have been settled by it. */
async function hasUncounted(
  { database }: { readonly database: Queryable },
  row: PaymentRow,
  receipt: ChainReceipt,
): Promise<boolean> {
  const { rows } = await database.query(
    `SELECT COUNT(*)::int AS counted FROM assay.payments WHERE tx_hash = decode($1, 'hex') AND state = 'settled'
       AND payer = $2 AND pay_to = $3 AND asset = $4 AND amount_atomic = $5::numeric AND payment_id <> decode($6, 'hex')`,
    [
      receipt.transaction.slice(2),
      row.payer,
      row.payTo,
      row.asset,
      row.amountAtomic.toString(),
      row.paymentId.slice(2),
    ],
  );
  return transfersIn(receipt, row) > Number(rows[0]?.["counted"]);
}

/**
 * Whether a transaction went through the proxy of a row's scheme and moved the row's amount for nothing that is accounted
 * for. Of a transaction of the batcher that is never so: its events name what it settled, and this row was not among it.
 */
async function isUnaccounted(
  modules: { readonly database: Queryable; readonly chain: ChainReads; readonly contracts: Deployments },
  row: PaymentRow,
  transaction: Hex,
): Promise<boolean> {
  const { chain, contracts } = modules;
  const { payment } = row.instruction.payload;
  const receipt = await chain.receipt(transaction);
  if (receipt?.ok !== true) return false;
  const proxy = payment.kind === "upto" ? contracts.uptoPermit2Proxy : contracts.exactPermit2Proxy;
  const by = (contract: Address): boolean => receipt.logs.some(({ address }) => address === contract);
  return by(proxy) && !by(contracts.paymentBatcher) && (await hasUncounted(modules, row, receipt));
}

/** Whether Permit2 says that the owner's number was used or given up. */
export async function isNumberUsed(
  chain: ChainReads,
  contracts: Pick<Deployments, "permit2">,
  owner: Address,
  nonce: bigint,
): Promise<boolean> {
  const answer = await chain.call({
    to: contracts.permit2,
    data: encodeFunctionData({ abi: permit2.abi, functionName: "nonceBitmap", args: [owner, nonce >> 8n] }),
  });
  return answer.ok && answer.data !== "0x" && ((BigInt(answer.data) >> (nonce & 0xffn)) & 1n) === 1n;
}

function decoded(log: ChainLog) {
  const [signature, ...indexed] = log.topics;
  if (signature === undefined) return undefined;
  try {
    return decodeEventLog({ abi: paymentBatcher.abi, data: log.data, topics: [signature, ...indexed] });
  } catch {
    return undefined;
  }
}
