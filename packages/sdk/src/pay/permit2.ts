import { authorizePermit2612, PERMIT2 } from "@assay/x402";
import type { Address, Authorize, Eip2612Permit } from "@assay/x402";
import { ALLOWANCE_MS, PERMIT_WAIT_MS } from "./limits.ts";
import { isChainFailure } from "./rpc.ts";
import type { ChainReader } from "./rpc.ts";

/** How a payment by Permit2 can be made. */
type Permit2Way = { readonly sponsored?: Eip2612Permit };

/** What a payer knows of Permit2: allowances, and permits that are still on their way to the chain. */
export type Permit2Desk = {
  /**
   * The way to pay `amount` by Permit2; undefined when there is none. `sponsors` is whether the other side takes a permit;
   * `wait` is whether a permit before this one is waited for.
   */
  readonly way: (
    context: Authorize,
    amount: bigint,
    options: { readonly sponsors: boolean; readonly wait: boolean; readonly signal?: AbortSignal | undefined },
  ) => Promise<Permit2Way | undefined>;
  /** The other side found no allowance: it is looked up again. */
  readonly missing: (token: Address) => void;
};

const POLL_MS = 250;

/** Without a chain to ask, nothing is known of allowances and nothing can be paid by Permit2. */
export function createPermit2Desk(
  chain: ChainReader | undefined,
  clock: {
    readonly now: () => number;
    readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  },
): Permit2Desk {
  const allowances = new Map<Address, { left: bigint; readonly untilMs: number }>();
  /** The last permit of each token that was sent. Its nonce is used on the chain in its time. */
  const permits = new Map<Address, { readonly nonce: bigint; readonly untilMs: number }>();

  const allowed = async (from: ChainReader, owner: Address, token: Address, amount: bigint): Promise<boolean> => {
    let known = allowances.get(token);
    if (!known || known.untilMs <= clock.now()) {
      known = { left: await from.allowance(owner, token, PERMIT2), untilMs: clock.now() + ALLOWANCE_MS };
      allowances.set(token, known);
    }
    if (known.left < amount) return false;
    known.left -= amount;
    return true;
  };

  const permit: Permit2Desk["way"] = async (context, amount, { wait, signal }) => {
    if (!chain) return undefined;
    const { asset: token } = context.requirement;
    const owner = context.signer.address;
    const lastMs = clock.now() + PERMIT_WAIT_MS;
    for (;;) {
      const before = permits.get(token);
      const nonce = await chain.permitNonce(owner, token);
      // Permits of one owner go in order, and each replaces the allowance before: one at a time.
      const isFree = !before || nonce > before.nonce || before.untilMs <= clock.now();
      if (isFree) {
        permits.set(token, { nonce, untilMs: (context.nowS + context.requirement.maxTimeoutSeconds) * 1000 });
        allowances.delete(token);
        return { sponsored: await authorizePermit2612(context, amount, nonce) };
      }
      if (!wait || clock.now() >= lastMs) return undefined;
      await clock.sleep(POLL_MS, signal);
    }
  };

  return {
    async way(context, amount, options) {
      if (!chain) return undefined;
      try {
        if (await allowed(chain, context.signer.address, context.requirement.asset, amount)) return {};
        return options.sponsors ? await permit(context, amount, options) : undefined;
      } catch (error) {
        // A chain that does not answer leaves the ways that need none.
        if (isChainFailure(error)) return undefined;
        throw error;
      }
    },
    missing(token) {
      allowances.set(token, { left: 0n, untilMs: clock.now() + ALLOWANCE_MS });
    },
  };
}
