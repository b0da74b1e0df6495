import { setTimeout as pause } from "node:timers/promises";
import { AssayError, isAssayError } from "@assay/core";
import type { Facilitator, Supported } from "@assay/service-facilitator";
import type { DeskOptions } from "@assay/service-ledger";
import type { Address, Network } from "@assay/x402";
import { EIP2612_GAS_SPONSORING } from "@assay/x402";

/** A facilitator of somebody else, which settles payments in our settler's place. */
export type OutsideConfig = {
  /** Where it answers `/supported` and `/settle`. */
  readonly url: string;
  /** Whole value of the `authorization` header. */
  readonly authorization?: string;
};

/** Pause before a facilitator that is away is asked again, milliseconds. */
const RETRY_MS = 2_000;

/**
 * What somebody else's facilitator settles on a chain, by its own account; waits while it is away. Throws
 * `facilitator_unsuitable` when that is nothing which can be quoted.
 */
export async function settledByOutside(
  facilitator: Pick<Facilitator, "supported">,
  network: Network,
  signal: AbortSignal,
  onWait: (error: unknown) => void,
): Promise<NonNullable<DeskOptions["settledBy"]>> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return readSupported(await facilitator.supported(), network);
    } catch (error) {
      if (!isAssayError(error) || error.code === "facilitator_unsuitable") throw error;
      onWait(error);
    }
    await pause(RETRY_MS, undefined, { signal });
  }
}

function readSupported({ kinds, extensions }: Supported, network: Network): NonNullable<DeskOptions["settledBy"]> {
  const ours = kinds.filter(
    (kind) => kind.x402Version === 2 && (kind.network === network || kind.network === "eip155:*"),
  );
  const exact = ours.some(({ scheme }) => scheme === "exact");
  const named = ours.find(({ scheme }) => scheme === "upto")?.extra?.["facilitatorAddress"];
  const upto =
    typeof named === "string" && /^0x[0-9a-fA-F]{40}$/.test(named) ? (named.toLowerCase() as Address) : undefined;
  if (!exact && upto === undefined)
    throw new AssayError(
      "facilitator_unsuitable",
      `The facilitator that is configured settles neither exact nor upto payments on ${network}.`,
      { hints: ["Name one that does, or unset ASSAY_FACILITATOR_URL: payments are then settled by this gateway."] },
    );
  return { exact, upto, sponsors: extensions.includes(EIP2612_GAS_SPONSORING) };
}
