import { randomUUID } from "node:crypto";
import { AssayError, hexToBytes } from "@assay/core";
import { testWalletFactoryAddress } from "@assay/contracts";
import { createChain } from "@assay/driver-chain";
import type { Chain } from "@assay/driver-chain";
import type { Database } from "@assay/driver-postgres";
import type { Listings } from "@assay/protocol";
import { PROFILE, receiptSubject } from "@assay/receipts";
import type { Facilitator } from "@assay/service-facilitator";
import { decodeRecord, describe } from "@assay/service-gateway";
import { createDesk, createDeskChain, startSettler } from "@assay/service-ledger";
import type { Desk, SettlementDraft, Settler } from "@assay/service-ledger";
import type { EvmSuite } from "@assay/x402";
import { blobIfThere } from "./blob-if-there.ts";
import type { ChainPlace } from "./chain-place.ts";
import { openFacilitator } from "./facilitate.ts";
import type { FacilitatorSettings } from "./facilitate.ts";
import type { MoneyConfig, MoneyModules } from "./money.ts";
import { settledByOutside } from "./outside.ts";

/** Desk, settler and facilitator over one chain and one database. */
export type OpenLedger = {
  readonly chain: Chain;
  readonly desk: Desk;
  /** Absent in a gateway that leaves settling to another. */
  readonly settler: Settler | undefined;
  /** Settles what others bring. */
  readonly facilitator: Facilitator;
  readonly close: () => Promise<void>;
};

export type LedgerParts = Omit<MoneyModules, "database" | "onRunning"> & {
  readonly evm: EvmSuite;
  readonly listings: Listings;
  readonly place: ChainPlace;
  readonly database: Database;
  readonly databaseUrl: string;
  readonly facilitating: FacilitatorSettings;
  /** Settles fixed and metered payments in the settler's place. */
  readonly outside: Facilitator | undefined;
  /** Ends what waits for others. */
  readonly signal: AbortSignal;
};

/** Opens them: resolves once the ledger has read what is in the log, and payments can be taken. */
export async function openLedger(
  config: Pick<MoneyConfig, "settler" | "settling" | "maxUnsettledPerPayer">,
  parts: LedgerParts,
): Promise<OpenLedger> {
  const { place, database, evm, listings, log, suite, now, logger } = parts;
  const { deployments, accounts } = place;
  const undo: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    for (const step of undo.splice(0).toReversed())
      await step().catch((error: unknown) => logger.warn({ err: describe(error) }, "ledger did not close cleanly"));
  };
  try {
    const chain = createChain({
      url: place.rpcUrl,
      chainId: deployments.chainId,
      // Accounts that are not deployed yet may sign where their factory is known.
      ...(place.development ? { factories: [testWalletFactoryAddress] } : {}),
    });
    const settledBy =
      parts.outside &&
      (await settledByOutside(parts.outside, deployments.network, parts.signal, (error) =>
        logger.warn({ err: describe(error) }, "the facilitator that settles is away"),
      ));
    let settler: Settler | undefined;
    const desk = createDesk(
      {
        database,
        listings,
        suite: evm,
        chain: createDeskChain(chain, deployments),
        now,
        refund: async (channelId, amountAtomic) => {
          if (settler) return settler.refund(channelId, amountAtomic);
          throw new AssayError("settler_gone", "Channels are refunded by the gateway that settles.");
        },
        onDue: () => settler?.wake(),
        onEvent: (event) =>
          logger.error("error" in event ? { ...event, error: undefined, err: describe(event.error) } : event, "ledger"),
      },
      {
        deployments,
        payTo: place.payTo,
        // Whoever lets somebody else settle has no account of its own to open and claim channels with.
        ...(settledBy ? { settledBy } : { receiverAuthorizer: place.receiverAuthorizer }),
        gateway: parts.settles ? "owner" : parts.gateway,
        bootId: randomUUID(),
        ...(config.maxUnsettledPerPayer ? { maxUnsettledPerPayer: config.maxUnsettledPerPayer } : {}),
      },
    );
    undo.push(() => desk.close());
    await desk.start(log, (record) => decodeRecord(suite, record));
    if (parts.settles) {
      settler = await openSettler(config, parts);
      const started = settler;
      undo.push(() => started.close());
    }
    const { facilitator, close: closeFacilitator } = await openFacilitator({
      settings: parts.facilitating,
      place,
      account: accounts.facilitator,
      chain,
      database,
      suite: evm,
      now,
    });
    undo.push(closeFacilitator);
    return { chain, desk, settler, facilitator, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openSettler(
  { settler, settling = {} }: Pick<MoneyConfig, "settler" | "settling">,
  parts: LedgerParts,
): Promise<Settler> {
  const { place, log, blobs, logger, outside } = parts;
  const { deployments, accounts } = place;
  // A settlement that is in the log already is found through the index, and not stated twice.
  await parts.indexed();
  return startSettler({
    entry: settler.entry,
    ...(settler.nodeArgs ? { nodeArgs: settler.nodeArgs } : {}),
    databaseUrl: parts.databaseUrl,
    rpcUrl: place.rpcUrl,
    deployments,
    keys: { operator: accounts.settler.key, authorizer: accounts.authorizer.key, submitter: accounts.submitter.key },
    options: settling,
    putBlob: async (bytes) => void (await blobs.put(bytes)),
    getBlob: (sha256) => blobIfThere(blobs, sha256),
    checkpoint: async (atLeast) => {
      const { size, root } = await log.checkpoint({ atLeast });
      return { size, root };
    },
    ...(outside ? { settleOutside: ({ payload, requirements }) => outside.settle(payload, requirements) } : {}),
    onSettled: (drafts) => writeSupplements(parts, drafts),
    onEvent: (event) => {
      const ordinary = ORDINARY.has(event.type) || (event.type === "job_ended" && event.state === "final");
      if (ordinary) logger.debug(event, "settler");
      else logger.warn(event, "settler");
    },
  });
}

/** Events of a settler that does what it is there for; the others are an operator's concern. */
const ORDINARY: ReadonlySet<string> = new Set(["transaction", "job_started", "batch_built", "batch_posted"]);

/** Logs settlements as supplements of the receipts' service statements. */
async function writeSupplements(
  { recorder, now }: Pick<MoneyModules, "recorder" | "now">,
  drafts: readonly SettlementDraft[],
): Promise<readonly number[]> {
  const written = await Promise.all(
    drafts.map(({ supplementId, receiptId, refersTo, body }) => {
      const issuedAtMs = now();
      return recorder.state({
        kind: "supplement",
        subject: receiptSubject(hexToBytes(receiptId)),
        issuedAtMs,
        visibility: "private",
        claims: { profile: PROFILE.supplement, supplementId, refersTo, kind: "settlement", issuedAtMs, body },
      });
    }),
  );
  return written.map(({ logIndex }) => logIndex);
}
