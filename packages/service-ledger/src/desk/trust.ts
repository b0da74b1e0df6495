/**
 * What is given on trust while a chain is silent, in all: an account costs nothing, so that a limit for each payer alone
 * would hold nobody back.
 */
export type Trust = {
  /** Gives so much more of an asset, unless more than `mostAtomic` would be out then: false, and nothing is given. */
  readonly give: (asset: string, amountAtomic: bigint, mostAtomic: bigint) => boolean;
  /** The chain has answered: from here on balances are known. */
  readonly clear: () => void;
};

export function createTrust(): Trust {
  const given = new Map<string, bigint>();
  return {
    give(asset, amountAtomic, mostAtomic) {
      const all = (given.get(asset) ?? 0n) + amountAtomic;
      if (all > mostAtomic) return false;
      given.set(asset, all);
      return true;
    },
    clear: () => given.clear(),
  };
}
