import type { Deployment, SignatureQuestion, SignerVerdict } from "./signature.ts";
import type { Address } from "./types.ts";

/** Why a payment is refused: a reason of x402, which clients know, and a sentence for people. */
export type Refusal = { readonly ok: false; readonly code: string; readonly message: string };

/** A payment that stands, as far as can be said without a chain. */
export type Admission = {
  readonly ok: true;
  readonly payer: Address;
  readonly asset: Address;
  /** 32 bytes: what is spent once. */
  readonly paymentId: Uint8Array;
  /** The most that it pays for this request, in atomic units; 0 for a refund. */
  readonly amountAtomic: bigint;
  /** Unix seconds until which it can be settled; 2^53 - 1 for a voucher, which does not expire. */
  readonly deadlineS: number;
  /** Who answers for the signatures: the keys themselves, a contract, or one that is still to be deployed. */
  readonly signer: "ecdsa" | "contract" | "undeployed";
  /** What is still to be asked of the chain (EIP-1271); empty when the keys themselves signed. */
  readonly questions: readonly SignatureQuestion[];
  /** Of a payer that is not deployed yet: what must be called before its questions can be asked. */
  readonly deployment?: Deployment;
};

export function refuse(code: string, message: string): Refusal {
  return { ok: false, code, message };
}

/** Whether a verdict is a refusal. */
export function isRefusal(value: Refusal | object | undefined): value is Refusal {
  return value !== undefined && "ok" in value && !value.ok;
}

/** What the signatures of one payment together leave to ask. */
export function combine(
  ...verdicts: readonly Exclude<SignerVerdict, { signer: "refused" }>[]
): Pick<Admission, "signer" | "questions"> & { readonly deployment?: Deployment } {
  const questions = verdicts.flatMap((verdict) => (verdict.signer === "ecdsa" ? [] : [verdict.question]));
  for (const verdict of verdicts) {
    if (verdict.signer === "undeployed") return { signer: "undeployed", questions, deployment: verdict.deployment };
  }
  return { signer: questions.length === 0 ? "ecdsa" : "contract", questions };
}

/** A time as a number; times beyond 2^53 - 1 are as good as never. */
export function seconds(time: bigint): number {
  return time > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(time);
}
