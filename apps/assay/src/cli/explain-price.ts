import { existsSync } from "node:fs";
import { AssayError, isAssayError } from "@assay/core";
import { GatewayError } from "@assay/sdk";
import { formatUnits } from "@assay/x402";
import type { ParsedQuote, PaymentRequirements } from "@assay/x402";
import type { Cli } from "./command.ts";
import type { Gateway } from "./gateway.ts";
import { chainIfAny, knownTokensOf } from "./spend.ts";
import type { KnownToken, SpendFlags } from "./spend.ts";
import { printable } from "./style.ts";
import { walletPath } from "./wallet.ts";

/** What a call costs in one token: the most that can be charged. */
type Price = { readonly amount: string; readonly symbol: string };

/** Does `work`, and has what it costs and what to type stand in the error when that is not paid. */
export async function explainingPrice<Result>(
  cli: Cli,
  gateway: Gateway,
  flags: SpendFlags,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const quote = gateway.watched.quote();
    throw isAssayError(error) && quote ? await explained(cli, gateway, flags, error, quote) : error;
  }
}

async function explained(
  cli: Cli,
  gateway: Gateway,
  flags: SpendFlags,
  error: AssayError,
  { required }: ParsedQuote,
): Promise<AssayError> {
  const { world } = cli;
  if (error.code === "spend_over_hour")
    return again(error, error.message, ["Allow more in an hour: --max-spend-hour AMOUNT.", ...error.hints]);
  const lacks = error.code.endsWith("_insufficient_balance");
  const said = ["payment_required", "spend_asset_unknown", "spend_over_call"].includes(error.code);
  const [first] = required.accepts;
  if (!(said || lacks) || !first) return error;
  const chain = await chainIfAny(gateway, world.interrupt).catch(() => undefined);
  const known = chain ? knownTokensOf(chain, gateway) : [];
  const prices = required.accepts.flatMap((one) => priceOf(one, known) ?? []);
  const wanted = (flags.asset ?? "USDC").toUpperCase();
  const price = prices.find(({ symbol }) => symbol.toUpperCase() === wanted) ?? prices[0];
  if (error.code === "payment_required") {
    if (!price) {
      return again(error, `This costs at most ${first.amount} smallest units of ${first.asset} on ${first.network}.`, [
        "That token is not known here, so nothing pays for it.",
      ]);
    }
    const wallet = existsSync(walletPath(world)) ? [] : ["Make a wallet, and fill it: `assay wallet new`."];
    return again(error, `This costs at most ${textOf(price)}.`, [`Pay for it: add ${flagsFor(price)}.`, ...wallet]);
  }
  if (!price) return error;
  if (lacks) {
    const deposit = /_batch_settlement_/.test(error.code) ? ", and a channel's deposit is several times that" : "";
    return again(
      error,
      `The wallet has too little ${printable(price.symbol)}: this costs at most ${textOf(price)}${deposit}.`,
      [chain?.development === true ? "Fill it: `assay wallet fund`." : "See what it has: `assay wallet show`."],
    );
  }
  return error.code === "spend_asset_unknown"
    ? again(error, `The price is at most ${textOf(price)}, and what may be spent is ${wanted}.`, [
        `Pay in ${printable(price.symbol)}: add ${flagsFor(price)}.`,
        ...error.hints,
      ])
    : again(error, error.message, [`Allow as much: ${flagsFor(price)}.`, ...error.hints]);
}

function priceOf(requirement: PaymentRequirements, known: readonly KnownToken[]): Price | undefined {
  const token = known.find(({ address, network }) => address === requirement.asset && network === requirement.network);
  return token && { amount: formatUnits(BigInt(requirement.amount), token.decimals), symbol: token.symbol };
}

function textOf({ amount, symbol }: Price): string {
  return `${amount} ${printable(symbol)}`;
}

function flagsFor({ amount, symbol }: Price): string {
  return `--max-spend ${amount}${symbol === "USDC" ? "" : ` --asset ${printable(symbol)}`}`;
}

/** The same error in other words: what a gateway answered stays what it answered. */
export function again(error: AssayError, message: string, hints: readonly string[]): AssayError {
  const { code } = error;
  if (!(error instanceof GatewayError)) return new AssayError(code, message, { hints, cause: error });
  const { status, request, retryAfterMs } = error;
  return new GatewayError(code, message, { status, request, hints, retryAfterMs });
}
