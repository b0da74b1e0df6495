import type { Address } from "@assay/x402";

/** A token as a report names it. */
export type ReportedAsset = { readonly symbol: string; readonly address: Address; readonly decimals: number };

/** An amount of one asset: `amount` in its units, `amountAtomic` in its smallest unit, both decimal texts. */
export type Money = {
  readonly amount: string;
  readonly amountAtomic: string;
  readonly decimals: number;
  readonly symbol: string;
  readonly address: Address;
};

/** An amount for a report. A token that is not configured is shown in its smallest unit, under its address. */
export function moneyOf(assets: readonly ReportedAsset[], address: Address, amountAtomic: bigint): Money {
  const asset = assets.find((candidate) => candidate.address.toLowerCase() === address.toLowerCase());
  const decimals = asset?.decimals ?? 0;
  return {
    amount: decimalText(amountAtomic, decimals),
    amountAtomic: amountAtomic.toString(),
    decimals,
    symbol: asset?.symbol ?? address,
    address,
  };
}

/** `1234500n` with 6 decimals is `1.2345`. */
export function decimalText(amountAtomic: bigint, decimals: number): string {
  const digits = amountAtomic.toString().padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals);
  const fraction = digits.slice(digits.length - decimals).replace(/0+$/, "");
  return fraction === "" ? whole : `${whole}.${fraction}`;
}
