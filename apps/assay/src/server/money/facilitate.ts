import { AssayError, parseJson } from "@assay/core";
import { createChain, createSender, evmSigner } from "@assay/driver-chain";
import type { Chain } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import {
  createCallers,
  createDatabaseCatalogue,
  createDatabaseStore,
  createFacilitator,
} from "@assay/service-facilitator";
import type { CallerEntry, Callers, Facilitator, ServedChain } from "@assay/service-facilitator";
import { createTxJournal } from "@assay/service-ledger";
import type { Address, EvmSuite } from "@assay/x402";
import { z } from "zod";
import { readFileIfThere } from "../files.ts";
import { readDeployments } from "./chain-place.ts";
import type { ChainPlace } from "./chain-place.ts";
import type { ChainAccount } from "./keys.ts";
import { readKey } from "./keys.ts";

const MAX_FILE_BYTES = 256 * 1024;
/** Results are remembered this long: longer than any authorization that is quoted here is good for. */
const KEEP_MS = 24 * 60 * 60 * 1000;
/** Below this an account of an embedded chain is given more, wei. */
const LEAST_ETHER = 10n ** 18n;

const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, "must be 0x and 40 hexadecimal digits")
  .transform((text) => text.toLowerCase() as Address);
const settings = z.strictObject({
  /** Who may have payments settled, by the SHA-256 of a bearer token. */
  callers: z
    .array(
      z.strictObject({
        id: z.string().min(1).max(64),
        tokenSha256: z.string().regex(/^[0-9a-f]{64}$/, "must be 64 hexadecimal digits"),
        payTo: z.array(address).max(1000).optional(),
      }),
    )
    .max(1000)
    .optional(),
  /** Recipients whose payments are settled for anybody. */
  openPayTo: z.array(address).max(1000).optional(),
  /** Further chains: their RPC address, what is deployed there, and the key that pays gas. */
  chains: z
    .array(z.strictObject({ url: z.url().max(2048), file: z.string().max(4096), key: z.string().max(4096) }))
    .max(16)
    .optional(),
});

/** What an operator has set up of the facilitator; nothing but this gateway's own recipient without a file. */
export type FacilitatorSettings = z.output<typeof settings> & { readonly known: Callers | undefined };

/** Reads `facilitator.json`. Throws `facilitator_config_invalid`, naming what does not fit. */
export async function readFacilitatorSettings(path: string): Promise<FacilitatorSettings> {
  const text = await readFileIfThere(path);
  if (text === undefined) return { known: undefined };
  const parsed = settings.safeParse(parseJson(text, { maxBytes: MAX_FILE_BYTES, maxDepth: 6 }));
  if (!parsed.success)
    throw new AssayError("facilitator_config_invalid", "The file facilitator.json is not what it has to be.", {
      hints: parsed.error.issues.slice(0, 8).map(({ path: at, message }) => `${at.join(".") || "It"}: ${message}.`),
    });
  const { callers } = parsed.data;
  return { ...parsed.data, known: callers && createCallers(callers as readonly CallerEntry[]) };
}

/** Verifies and settles payments of others on this gateway's chain, and on those that are configured. */
export async function openFacilitator(modules: {
  readonly settings: FacilitatorSettings;
  readonly place: ChainPlace;
  readonly account: ChainAccount;
  readonly chain: Chain;
  readonly database: Database;
  readonly suite: EvmSuite;
  readonly now: () => number;
}): Promise<{ readonly facilitator: Facilitator; readonly close: () => Promise<void> }> {
  const { place, account, chain, database, suite, now, settings: set } = modules;
  const journal = createTxJournal(database);
  const closers: (() => Promise<void>)[] = [];
  const served = async (of: Chain, deployments: ChainPlace["deployments"], key: ChainAccount): Promise<ServedChain> => {
    const sender = createSender({ chain: of, signer: evmSigner(Buffer.from(key.key.slice(2), "hex")), journal });
    closers.push(() => sender.close());
    await sender.start();
    return {
      network: deployments.network,
      chain: of,
      senders: [sender],
      tokens: deployments.tokens,
      ...(deployments.schemes ? { schemes: deployments.schemes } : {}),
    };
  };
  try {
    if (place.faucet && (await chain.balance(account.address)) < LEAST_ETHER)
      await place.faucet.fund(account.address, { asset: "ETH", amountAtomic: 100n * LEAST_ETHER });
    const chains = [await served(chain, place.deployments, account)];
    for (const { url, file, key } of set.chains ?? []) {
      const deployments = await readDeployments(file);
      const other = createChain({ url, chainId: deployments.chainId });
      chains.push(await served(other, deployments, await readKey(key)));
    }
    const facilitator = createFacilitator(
      {
        chains,
        suite,
        store: createDatabaseStore(database, { keepMs: KEEP_MS, now }),
        catalogue: createDatabaseCatalogue(database, { now }),
        now,
      },
      { openPayTo: set.openPayTo ?? (place.development ? [place.payTo] : []) },
    );
    return {
      facilitator,
      async close() {
        for (const close of closers.splice(0)) await close();
      },
    };
  } catch (error) {
    for (const close of closers.splice(0)) await close();
    throw error;
  }
}

/** A facilitator that is not open yet, or never will be: each call waits for it. */
export function deferFacilitator(ready: () => Promise<{ readonly facilitator: Facilitator }>): Facilitator {
  return {
    verify: async (...asked) => (await ready()).facilitator.verify(...asked),
    settle: async (...asked) => (await ready()).facilitator.settle(...asked),
    supported: async () => (await ready()).facilitator.supported(),
    discovery: async (query) => (await ready()).facilitator.discovery(query),
    health: async () => (await ready()).facilitator.health(),
  };
}
