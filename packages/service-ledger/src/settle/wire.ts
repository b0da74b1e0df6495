import type { LogCheckpoint, PreparedAnchor } from "../anchor/anchor.ts";
import type { ReceiptLeaf } from "../anchor/tree.ts";
import type { Hex } from "@assay/x402";
import { createLink } from "./link.ts";
import type { OutsideResult, SettleOutside } from "./ports.ts";
import type { Wire } from "./link.ts";
import type { SettlerSettings } from "./options.ts";
import type { Refunded } from "./refunds.ts";
import { runSettler } from "./settler.ts";
import type { RunningSettler, SettlerStatus } from "./settler.ts";
import type { SettlementDraft } from "./supplements.ts";

/** What the end that has the log and the blobs answers. */
export type HostMethods = {
  readonly writeSupplements: (drafts: readonly SettlementDraft[]) => Promise<readonly number[]>;
  readonly putBlob: (bytes: Uint8Array) => Promise<void>;
  readonly getBlob: (sha256: string) => Promise<Uint8Array | undefined>;
  readonly checkpoint: (atLeast: number) => Promise<LogCheckpoint>;
  readonly settleOutside: SettleOutside;
};

/** What the end that settles answers. */
type SettlerMethods = {
  readonly start: (argument: {
    readonly settings: SettlerSettings;
    /** Whether the other end logs settlements, and has payments settled by somebody else. */
    readonly supplements: boolean;
    readonly outside?: boolean;
  }) => Promise<void>;
  readonly status: () => Promise<SettlerStatus>;
  readonly payout: () => Promise<void>;
  readonly anchor: () => Promise<void>;
  readonly prepareIndividual: (leaf: ReceiptLeaf) => Promise<PreparedAnchor>;
  readonly refund: (argument: { readonly channelId: Hex; readonly amountAtomic?: bigint }) => Promise<Refunded>;
  readonly close: () => Promise<void>;
};

/**
 * Serves a settler at this end of a wire: it starts when it is told its settings, keys among them. `onFenced` is called when
 * it lost the right to settle: only a new start may ask for it again.
 */
export function serveSettler(wire: Wire, onFenced: () => void): { readonly close: () => Promise<void> } {
  let settler: RunningSettler | undefined;
  const running = (): RunningSettler => {
    if (!settler) throw new TypeError("The settler has not been started.");
    return settler;
  };
  const close = async (): Promise<void> => {
    await settler?.close();
    settler = undefined;
  };
  const methods: SettlerMethods = {
    async start({ settings, supplements, outside }) {
      settler = await runSettler(settings, {
        ...(supplements
          ? {
              writeSupplements: async (drafts) => (await link.call("writeSupplements", drafts)) as readonly number[],
            }
          : {}),
        ...(outside === true
          ? { settleOutside: async (request) => (await link.call("settleOutside", request)) as OutsideResult }
          : {}),
        putBlob: async (bytes) => void (await link.call("putBlob", bytes)),
        getBlob: async (sha256) => (await link.call("getBlob", sha256)) as Uint8Array | undefined,
        checkpoint: async (atLeast) => (await link.call("checkpoint", atLeast)) as LogCheckpoint,
        onEvent(event) {
          link.note("event", event);
          if (event.type === "fenced") onFenced();
        },
      });
    },
    status: () => Promise.resolve(running().status()),
    payout: () => running().payout(),
    anchor: () => running().anchor(),
    prepareIndividual: (leaf) => running().prepareIndividual(leaf),
    refund: ({ channelId, amountAtomic }) => running().refund(channelId, amountAtomic),
    close,
  };
  const link = createLink(wire, methods, {
    kick: (paymentId: Hex | undefined) => settler?.kick(paymentId),
    wake: () => settler?.wake(),
  });
  return { close };
}
