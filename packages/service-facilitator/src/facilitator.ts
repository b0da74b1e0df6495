import { createHash } from "node:crypto";
import { AssayError, canonicalJson, isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { checksumAddress, EIP2612_GAS_SPONSORING, v1NameOf } from "@assay/x402";
import type { Address, EvmSuite } from "@assay/x402";
import { createCatalogue } from "./catalogue.ts";
import type { CatalogueStore } from "./catalogue.ts";
import { judgePayment } from "./judge.ts";
import { FACILITATOR_LIMITS } from "./limits.ts";
import { isTransfer, payeeOf, planPayment, planServer } from "./plan.ts";
import type { ServedChain } from "./plan.ts";
import { tokenRequired } from "./problem.ts";
import { REASON, refuse } from "./reasons.ts";
import type { Refusal } from "./reasons.ts";
import { parseRequest } from "./request.ts";
import type { ParsedRequest } from "./request.ts";
import { createSettlements } from "./settlements.ts";
import { createMemoryStore } from "./store.ts";
import type { SettlementStore } from "./store.ts";
import type { DiscoveredResource, Facilitator, FacilitatorCaller, JsonObject, SupportedKind } from "./types.ts";

export type FacilitatorModules = {
  readonly chains: readonly ServedChain[];
  readonly suite: EvmSuite;
  /** Where settlements are remembered; in memory, for a day, when absent. */
  readonly store?: SettlementStore;
  /** Where learned resources are kept; in memory when absent. */
  readonly catalogue?: CatalogueStore;
  /** Resources of the operator's own, for the catalogue. */
  readonly resources?: () => readonly DiscoveredResource[];
  readonly now?: () => number;
};

export type FacilitatorOptions = {
  /** Recipients whose fixed and metered payments are settled for anybody; deposits and claims need a caller. None when absent: then settling needs a caller. */
  readonly openPayTo?: readonly Address[];
  /** How long a settlement is waited for before its result is `settlement_pending`. */
  readonly settleWaitMs?: number;
  /** Settlements that are waited for at the same time; those of callers without a token have half of the places. */
  readonly maxPending?: number;
  /** Whether a result waits for the sender's confirmations, or for the first block that has the transaction. */
  readonly finality?: "mined" | "final";
};

/** Below the 90 s after which the stock client of x402 gives up. */
const SETTLE_WAIT_MS = 30_000;
const KEEP_MS = 24 * 60 * 60 * 1000;

/**
 * A facilitator over chains of this program's own. Verifying asks the chain to execute the payment without effect, so what
 * verifies would settle at that moment. Settling happens once: the same request again is given the same result, marked
 * `extra.replayed`, and while it is under way its outcome; another amount for the same payment is refused. A result is
 * told to the caller alone that had it settled.
 *
 * A server that settles must not take a replayed success for a second payment: that is what the mark is for.
 *
 * Throws `facilitator_config_invalid`; `verify` and `settle` throw what the chain throws, and `settle` `token_required`,
 * `payee_refused` and `facilitator_overloaded`. What is wrong with a payment is a result.
 */
export function createFacilitator(modules: FacilitatorModules, options: FacilitatorOptions = {}): Facilitator {
  const { suite } = modules;
  const now = modules.now ?? Date.now;
  const chains = new Map(modules.chains.map((served) => [served.network, served]));
  configured(modules.chains, chains.size);
  const store = modules.store ?? createMemoryStore({ keepMs: KEEP_MS, maxRecords: FACILITATOR_LIMITS.maxRecords, now });
  const catalogue = createCatalogue({
    now,
    ...(modules.catalogue ? { store: modules.catalogue } : {}),
    ...(modules.resources ? { own: modules.resources } : {}),
  });
  const open = new Set((options.openPayTo ?? []).map((address) => address.toLowerCase()));
  const settlements = createSettlements({
    suite,
    store,
    now,
    waitMs: options.settleWaitMs ?? SETTLE_WAIT_MS,
    maxPending: options.maxPending ?? FACILITATOR_LIMITS.maxPending,
    finality: options.finality ?? "mined",
  });
  const wire = (address: string | undefined): { readonly payer?: Address } =>
    address === undefined ? {} : { payer: checksumAddress(suite, address as Address) };
  const nowS = (): number => Math.floor(now() / 1000);
  let turn = 0;

  const permit = (request: ParsedRequest, caller: FacilitatorCaller | undefined): void => {
    const payee = payeeOf(request);
    // A deposit pays nobody, and claims may be of channels that a stranger has with itself: only gas would be sure.
    const forAnybody = isTransfer(request) && open.has(payee);
    if (caller ? caller.payTo === "any" || caller.payTo.includes(payee) : forAnybody) return;
    if (!caller) throw tokenRequired();
    throw new AssayError("payee_refused", "This caller may not have payments to this recipient settled.", {
      hints: ["The facilitator's operator lists the recipients of each caller."],
    });
  };

  return {
    verify: async (payload, requirements) => {
      const invalid = ({ reason, message, payer }: Refusal) => ({
        isValid: false,
        invalidReason: reason,
        ...(message === undefined ? {} : { invalidMessage: message }),
        ...wire(payer),
      });
      const parsed = parseRequest(payload, requirements);
      if (!parsed.ok) return invalid(parsed);
      const served = chains.get(parsed.network);
      if (!served) return invalid(refuse(REASON.network, "The network is not served here."));
      if (parsed.request.kind !== "payment") return invalid(refuse(REASON.payloadType, "There is nothing to verify."));
      const judged = await judgePayment(suite, served, parsed.request, nowS());
      if (!judged.ok) return invalid(judged);
      return { isValid: true, ...wire(judged.payer), ...(judged.extra ? { extra: judged.extra } : {}) };
    },
    settle: async (payload, requirements, { caller } = {}) => {
      const parsed = parseRequest(payload, requirements);
      const failed = ({ reason, message, payer }: Refusal) => ({
        success: false,
        errorReason: reason,
        ...(message === undefined ? {} : { errorMessage: message }),
        transaction: "",
        network: parsed.named,
        ...wire(payer),
      });
      if (!parsed.ok) return failed(parsed);
      const { request } = parsed;
      const served = chains.get(parsed.network);
      if (!served) return failed(refuse(REASON.network, "The network is not served here."));
      permit(request, caller);
      const plan =
        request.kind === "payment"
          ? planPayment(suite, served, request)
          : await planServer(suite, served, request, caller);
      if (!plan.ok) return failed(plan);
      const outcome = await settlements.settle({
        served,
        request,
        plan,
        caller: caller?.id ?? "",
        digest: digestOf(payload, requirements),
        nowS: nowS(),
      });
      if (!outcome.ok) return { ...failed(outcome), transaction: outcome.transaction ?? "" };
      if (caller && request.kind === "payment" && !outcome.replayed)
        // The payment is settled, whatever becomes of the catalogue.
        await catalogue.learn(payload, requirements, caller.id).catch(() => undefined);
      const extra = { ...outcome.extra, ...(outcome.replayed ? { replayed: true } : {}) };
      return {
        success: true,
        transaction: outcome.transaction,
        network: parsed.named,
        ...wire(plan.payer),
        ...(outcome.amount === undefined ? {} : { amount: outcome.amount }),
        ...(Object.keys(extra).length === 0 ? {} : { extra }),
      };
    },
    supported: async () => {
      turn++;
      const kinds = modules.chains.flatMap((served) => kindsOf(suite, served, turn));
      const sponsored = modules.chains.some(({ tokens }) => tokens.some(({ eip2612 }) => eip2612));
      const senders = modules.chains.flatMap((served) => served.senders.map(({ address }) => address));
      return {
        kinds,
        extensions: [...(sponsored ? [EIP2612_GAS_SPONSORING] : []), "bazaar"],
        signers: { "eip155:*": [...new Set(senders)].map((address) => checksumAddress(suite, address)) },
      };
    },
    discovery: (query) => catalogue.page(query),
    health: async () => {
      const networks = await Promise.all(
        modules.chains.map(async ({ network, chain }) => {
          try {
            await chain.blockNumber();
            return { network, up: true };
          } catch (error) {
            return { network, up: false, code: isAssayError(error) ? error.code : "internal_error" };
          }
        }),
      );
      const up = networks.filter((network) => network.up).length;
      return { status: up === networks.length ? "ok" : up === 0 ? "down" : "degraded", networks };
    },
  };
}

/** The kinds of one chain. `upto` names its senders in turn: a payment can be settled by the one it names alone. */
function kindsOf(suite: EvmSuite, served: ServedChain, turn: number): readonly SupportedKind[] {
  const { network, senders, tokens, authorizer } = served;
  const sender = senders[turn % senders.length];
  const v1 = v1NameOf(network);
  const extra = (name: string, address: Address | undefined): { readonly extra?: JsonObject } =>
    address === undefined ? {} : { extra: { [name]: checksumAddress(suite, address) } };
  const isServed = (scheme: string): boolean => served.schemes?.some((one) => one === scheme) ?? true;
  const kinds: readonly SupportedKind[] = [
    { x402Version: 2, scheme: "exact", network },
    { x402Version: 2, scheme: "upto", network, ...extra("facilitatorAddress", sender?.address) },
    { x402Version: 2, scheme: "batch-settlement", network, ...extra("receiverAuthorizer", authorizer?.address) },
    ...(v1 !== undefined && tokens.some(({ eip3009 }) => eip3009)
      ? [{ x402Version: 1 as const, scheme: "exact", network: v1 }]
      : []),
  ];
  return kinds.filter(({ scheme }) => isServed(scheme));
}

/** What was asked, beyond the payment's own nonce: SHA-256, hexadecimal. */
function digestOf(payload: JsonValue, requirements: JsonValue): string {
  const { payload: signed } = payload as JsonObject;
  const { asset, payTo, amount, maxAmountRequired, network, scheme } = requirements as JsonObject;
  const asked = { signed, asset, payTo, amount: amount ?? maxAmountRequired, network, scheme };
  const present = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
  return createHash("sha256")
    .update(canonicalJson(present as JsonObject))
    .digest("hex");
}

function configured(chains: readonly ServedChain[], networks: number): void {
  const wrong = (sentence: string): AssayError => new AssayError("facilitator_config_invalid", sentence);
  if (chains.length === 0) throw wrong("A facilitator serves at least one chain.");
  if (networks !== chains.length) throw wrong("Two of the chains are the same network.");
  for (const { network, chain, senders, tokens } of chains) {
    if (chain.network !== network) throw wrong(`The chain of ${network} is of ${chain.network}.`);
    if (senders.length === 0) throw wrong(`Nobody sends transactions on ${network}.`);
    if (new Set(senders.map(({ address }) => address)).size !== senders.length)
      throw wrong(`Two senders on ${network} have the same key, and would take each other's nonces.`);
    if (tokens.length === 0) throw wrong(`No token is served on ${network}.`);
    if (tokens.some(({ address }) => address !== address.toLowerCase()))
      throw wrong(`The addresses of tokens on ${network} are written in lower case.`);
  }
}
