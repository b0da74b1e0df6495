import type { AccountCode } from "./signature.ts";
import type { Address, EvmSuite, PaymentPayload, PaymentRequirements } from "./types.ts";

/** What the checks of all schemes are given. */
export type Check = {
  readonly suite: EvmSuite;
  readonly requirement: PaymentRequirements;
  readonly payload: PaymentPayload;
  readonly chainId: number;
  /** Unix seconds. */
  readonly nowS: number;
  readonly payerCode: AccountCode;
  readonly factories: readonly Address[];
  readonly facilitators: readonly Address[];
};
