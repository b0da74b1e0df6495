import { AssayError, isAssayError } from "@assay/core";
import { describe } from "@assay/service-gateway";
import { forgetChain } from "@assay/service-ledger";
import type { Facilitator } from "@assay/service-facilitator";
import type { EvmSuite } from "@assay/x402";
import { openChainPlace } from "./chain-place.ts";
import type { ChainConfig, ChainPlace } from "./chain-place.ts";
import type { FacilitatorSettings } from "./facilitate.ts";
import { developmentAccounts } from "./keys.ts";
import type { MoneyConfig, MoneyModules, Running } from "./money.ts";
import { openLedger } from "./open-ledger.ts";
import type { OpenLedger } from "./open-ledger.ts";
import { askChain } from "./peer.ts";
import type { Prices } from "./prices.ts";

/** Chain, ledger and settler, opened when somebody needs them and closed once. */
export type Opening = {
  /** Opens what is not open yet; rejects when it could not be, and is tried again unless somebody has to mend it. */
  readonly ready: () => Promise<Running>;
  /** The same after a while, milliseconds, unless somebody needs it before; failures are logged. */
  readonly begin: (afterMs: number) => void;
  /** Begins the embedded chain anew, with a ledger that knows nothing of the old one. Throws `chain_not_development`. */
  readonly reset: () => Promise<Running>;
  /** What is open now. */
  readonly open: () => Running | undefined;
  /** The same until it begins to close. */
  readonly usable: () => Running | undefined;
  /** The same; throws `payments_starting` or `payment_unavailable`. */
  readonly there: () => Running;
  readonly begun: () => boolean;
  readonly failed: () => boolean;
  readonly close: () => Promise<void>;
};

export type OpeningParts = MoneyModules & {
  readonly evm: EvmSuite;
  readonly prices: Prices;
  readonly facilitating: FacilitatorSettings;
  readonly outside: Facilitator | undefined;
};

/** What was away may be back soon: how long until payments are begun again, the first time and at most, milliseconds. */
const FIRST_RETRY_MS = 2_000;
const LONGEST_RETRY_MS = 60_000;
/** What somebody has to mend first. */
const FOR_GOOD: ReadonlySet<string> = new Set([
  "chain_binary_missing",
  "chain_profile_changed",
  "chain_keys_invalid",
  "chain_file_invalid",
  "chain_mismatch",
  "development_key_refused",
  "facilitator_config_invalid",
  "facilitator_unsuitable",
]);

/** Opens nothing yet. */
export function createOpening(config: MoneyConfig, parts: OpeningParts): Opening {
  const { logger, now } = parts;
  const ending = new AbortController();
  let place: ChainPlace | undefined;
  let ledger: OpenLedger | undefined;
  let running: Running | undefined;
  let failure: unknown;
  let beginning: Promise<Running> | undefined;
  let again: NodeJS.Timeout | undefined;
  let waitMs = FIRST_RETRY_MS;
  let resetting: Promise<Running> | undefined;
  let closing: Promise<void> | undefined;
  const warn = (message: string) => (error: unknown) => logger.warn({ err: describe(error) }, message);

  const openAll = async (): Promise<Running> => {
    const opened = await openPlace(config, parts);
    try {
      const all = await openOver(opened);
      place = opened;
      return all;
    } catch (error) {
      await opened.close().catch(warn("embedded chain did not close cleanly"));
      throw error;
    }
  };

  const openOver = async (on: ChainPlace): Promise<Running> => {
    const { database, url } = await parts.database;
    ledger = await openLedger(config, {
      ...parts,
      listings: parts.prices.listings,
      place: on,
      database,
      databaseUrl: url,
      signal: ending.signal,
    });
    running = { place: on, database, ...ledger };
    parts.onRunning();
    return running;
  };

  const ready = (): Promise<Running> => {
    if (beginning) return beginning;
    const begun = openAll();
    beginning = begun;
    begun.then(
      () => {
        failure = undefined;
        waitMs = FIRST_RETRY_MS;
      },
      (error: unknown) => {
        failure = error;
        if (closing) return;
        logger.error({ err: describe(error) }, "payments did not start");
        if (isAssayError(error) && FOR_GOOD.has(error.code)) return;
        again = setTimeout(() => {
          if (beginning === begun) beginning = undefined;
          void ready().catch(() => undefined);
        }, waitMs);
        again.unref();
        waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS);
      },
    );
    return begun;
  };

  const resetNow = async (): Promise<Running> => {
    const { place: on, database } = await ready();
    if (!on.faucet) throw new AssayError("chain_not_development", "This chain is not the gateway's own.");
    running = undefined;
    await ledger?.close();
    await on.faucet.reset();
    await forgetChain(database, on.deployments.network, now());
    beginning = openOver(on);
    return beginning;
  };

  const usable = (): Running | undefined => (closing ? undefined : running);

  return {
    ready,
    begin(afterMs) {
      const begins = (): void => void ready().catch(() => undefined);
      if (afterMs === 0) begins();
      else again = setTimeout(begins, afterMs).unref();
    },
    // Callers come one after the other.
    reset() {
      resetting ??= resetNow().finally(() => {
        resetting = undefined;
      });
      return resetting;
    },
    open: () => running,
    usable,
    there() {
      const all = usable();
      if (all) return all;
      const hints = ["What has no price is answered all the same."];
      if (failure === undefined) throw new AssayError("payments_starting", "Payments are still starting.", { hints });
      throw new AssayError("payment_unavailable", "Payments did not start.", { hints, cause: failure });
    },
    begun: () => beginning !== undefined,
    failed: () => failure !== undefined,
    close() {
      closing ??= (async () => {
        clearTimeout(again);
        ending.abort();
        await beginning?.catch(() => undefined);
        await ledger?.close();
        await place?.close().catch(warn("payments did not close cleanly"));
      })();
      return closing;
    },
  };
}

async function openPlace({ chain, payTo }: MoneyConfig, parts: OpeningParts): Promise<ChainPlace> {
  const { at, keystore, logger, owner } = parts;
  // The first gateway's development chain is this one's too; another chain each of them is told of by its operator.
  if (owner && chain.kind === "embedded")
    return {
      ...(await askChain(owner)),
      accounts: developmentAccounts(keystore),
      development: true,
      close: () => Promise.resolve(),
    };
  return openChainPlace(chain, {
    directory: at("chain", chainFolder(chain)),
    keystore,
    payTo,
    onEvent: (event) =>
      logger.warn("cause" in event ? { type: event.type, err: describe(event.cause) } : event, "embedded chain"),
  });
}

function chainFolder(chain: ChainConfig): string {
  return chain.kind === "embedded" ? String(chain.profile) : "elsewhere";
}
