/**
 * What claims that are being written take from accounts: a statement does not see those that run beside it, so that their
 * amounts are added to what the rows say.
 */
export type Writing = {
  /** Notes a claim until `end`. `beside` is what the others on its account take; copies of one claim (by `id`) count once. */
  readonly begin: (
    account: string,
    id: string,
    amountAtomic: bigint,
  ) => { readonly beside: bigint; readonly end: () => void };
  /** Accounts that something is noted of. */
  readonly size: () => number;
};

export function createWriting(): Writing {
  const accounts = new Map<string, Map<string, { readonly amountAtomic: bigint; copies: number }>>();
  return {
    size: () => accounts.size,
    begin(account, id, amountAtomic) {
      const claims = accounts.get(account) ?? new Map<string, { readonly amountAtomic: bigint; copies: number }>();
      accounts.set(account, claims);
      let beside = 0n;
      for (const [other, claim] of claims) if (other !== id) beside += claim.amountAtomic;
      const claim = claims.get(id) ?? { amountAtomic, copies: 0 };
      claim.copies++;
      claims.set(id, claim);
      return {
        beside,
        end() {
          if (--claim.copies > 0) return;
          claims.delete(id);
          if (claims.size === 0) accounts.delete(account);
        },
      };
    },
  };
}
