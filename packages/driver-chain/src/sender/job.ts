import { AssayError } from "@assay/core";
import type { Address } from "@assay/x402";
import type { Chain } from "../rpc/chain.ts";
import { isRevert, rpcFault } from "../rpc/fault.ts";
import { refusalOf } from "./refusal.ts";
import { TRANSFER_GAS } from "./transaction.ts";
import type { TxJob } from "./types.ts";

/** Gas above the estimate: state may have moved on when the transaction is mined. */
const GAS_MARGIN = { numerator: 5n, denominator: 4n };
export const MAX_JOB_ID = 200;

/** Gas limit for a job, of a rehearsal on the node. Throws `transaction_unfunded` and `transaction_reverts`. */
export async function rehearse(chain: Chain, me: Address, job: TxJob): Promise<bigint> {
  try {
    const estimate = await chain.estimateGas({ from: me, to: job.to, data: job.data, value: job.value ?? 0n });
    return (estimate * GAS_MARGIN.numerator) / GAS_MARGIN.denominator;
  } catch (error) {
    if (refusalOf(error) === "unfunded")
      throw new AssayError("transaction_unfunded", `The account ${me} cannot pay for the transaction.`, {
        hints: ["Send it some of the chain's own coin."],
        cause: error,
      });
    if (isRevert(error))
      throw new AssayError("transaction_reverts", `The transaction would revert: ${rpcFault(error)?.rpcMessage}.`, {
        hints: ["It was not sent."],
        cause: error,
      });
    throw error;
  }
}

/** Why a job cannot be sent by anybody; undefined when it can. */
export function jobProblem(job: TxJob, sender: Address): string | undefined {
  if (job.jobId === "" || job.jobId.length > MAX_JOB_ID) return `its id has not 1 to ${MAX_JOB_ID} characters`;
  if (job.jobId.startsWith("gap:")) return "ids that begin with gap: are the sender's own";
  if (!/^0x[0-9a-f]{40}$/i.test(job.to)) return "its recipient is no address";
  if ((job.value ?? 0n) < 0n) return "its value is negative";
  if (job.gasLimit !== undefined && job.gasLimit < leastGas(job.data))
    return "its gas limit is below what its bytes cost";
  if (lower(job.to) === sender && job.data.length === 0 && (job.value ?? 0n) === 0n)
    return "it does nothing, which is how a nonce is used up";
  return undefined;
}

/** What a transaction costs before it does anything (EIP-7623): some nodes take less, and never mine it. */
function leastGas(data: Uint8Array): bigint {
  let tokens = 0;
  for (const byte of data) tokens += byte === 0 ? 1 : 4;
  return TRANSFER_GAS + BigInt(tokens) * 10n;
}

export function lower(address: Address): Address {
  return address.toLowerCase() as Address;
}
