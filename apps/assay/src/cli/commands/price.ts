import { isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { GatewayError, listingDocument, listingList, read } from "@assay/sdk";
import type { ListingDocument } from "@assay/sdk";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withMoney } from "../gateway.ts";
import type { Gateway, GatewayFlags } from "../gateway.ts";
import { asJson } from "../money-text.ts";
import { cliError } from "../render-error.ts";
import { facts, printable, table } from "../style.ts";

export type PriceFlags = GatewayFlags & {
  readonly asset: string;
  readonly per: "call" | "1k-tokens" | "second" | "gigabyte-day";
  readonly payee?: readonly string[];
  readonly remove: boolean;
};

/** Services of a gateway that have a price of their own. */
const SERVICES = ["storage", "openings", "anchoring", "verification", "audit"] as const;
/** Most places of an amount: tokens have 18, and a thousandth of one token is wanted at most. */
const AMOUNT = /^(?:0|[1-9]\d{0,29})(?:\.\d{1,18})?$/;

/** `assay model price NAME [AMOUNT]`: sets, shows or removes a model's price. */
export function priceModel(cli: Cli, flags: PriceFlags, name: string, amount?: string): Promise<number> {
  return price(cli, flags, `model:${name}`, amount);
}

/** `assay price SUBJECT [AMOUNT]`: the same for a model or a service; without a subject all prices. */
export async function priceAny(cli: Cli, flags: PriceFlags, subject?: string, amount?: string): Promise<number> {
  if (subject === undefined) return list(cli, flags);
  const service = /^service:(.+)$/.exec(subject)?.[1];
  // A price that an older version took for proofs can be removed.
  const known = SERVICES.some((name) => name === service) || (service === "proving" && flags.remove);
  if (service !== undefined && !known) {
    throw cliError("usage_invalid", `There is no service ${JSON.stringify(service)} that is sold here.`, {
      hints: [`Services are ${SERVICES.map((name) => `service:${name}`).join(", ")}.`],
    });
  }
  return price(
    cli,
    flags,
    service === undefined && !subject.startsWith("model:") ? `model:${subject}` : subject,
    amount,
  );
}

async function price(cli: Cli, flags: PriceFlags, subject: string, amount: string | undefined): Promise<number> {
  const { world, output } = cli;
  const path = `/v1/prices/${encodeURIComponent(subject)}`;
  const { signal } = { signal: world.interrupt };
  if (flags.remove) {
    if (amount !== undefined) {
      throw cliError("usage_invalid", "A price is set or removed, not both.", {
        hints: ["Leave out the amount, or --remove."],
      });
    }
    await withMoney(cli, flags, ({ client }) => client.admin({ method: "DELETE", path, signal }));
    output.answer(
      () => `${printable(subject)} has no price any more: it is free.`,
      () => ({ removed: subject }),
    );
    return EXIT.done;
  }
  const body = amount === undefined ? undefined : bodyOf(flags, amount);
  let isKnown = true;
  const answer = await withMoney(cli, flags, async ({ client }) => {
    if (body !== undefined) {
      const put = await client.admin({ method: "PUT", path, body, signal });
      isKnown = await knows(client, subject, signal);
      return put;
    }
    try {
      return await client.admin({ method: "GET", path, signal });
    } catch (error) {
      if (isAssayError(error) && error.code === "listing_not_found") return undefined;
      throw error;
    }
  });
  if (answer === undefined) {
    output.answer(
      () => `${printable(subject)} has no price: it is free.`,
      () => ({ subject, free: true }),
    );
    return EXIT.done;
  }
  if (!isKnown) output.note("There is no model of that name here yet: the price is that of one that comes.");
  const listing = read(listingDocument, answer, "price");
  output.answer(
    () => [output.style.strong(printable(listing.subject)), "", facts(rowsOf(listing), output.style)].join("\n"),
    () => asJson(listing),
  );
  return EXIT.done;
}

/** Whether what was priced is there: a name with a typing error in it would be given away under the right one. */
async function knows(client: Gateway["client"], subject: string, signal: AbortSignal): Promise<boolean> {
  if (!subject.startsWith("model:")) return true;
  const name = subject.slice("model:".length);
  const path = `/v1/models?prefix=${encodeURIComponent(name)}`;
  let answer: JsonValue;
  try {
    answer = await client.admin({ method: "GET", path, signal });
  } catch (error) {
    // The price is set; a list that does not come says nothing against it.
    if (error instanceof GatewayError) return true;
    throw error;
  }
  const data = typeof answer === "object" && answer !== null && "data" in answer ? answer["data"] : undefined;
  if (!Array.isArray(data)) return true;
  return data.some((one: JsonValue) => typeof one === "object" && one !== null && "id" in one && one["id"] === name);
}

async function list(cli: Cli, flags: PriceFlags): Promise<number> {
  const { world, output } = cli;
  const answer = await withMoney(cli, flags, ({ client }) =>
    client.admin({ method: "GET", path: "/v1/prices", signal: world.interrupt }),
  );
  const { prices } = read(listingList, answer, "list of prices");
  output.answer(
    () =>
      prices.length === 0
        ? "Nothing has a price: everything is free."
        : table(
            ["What", "Price", "Payees"],
            prices.map((one) => [printable(one.subject), priceWords(one), payeeWords(one)]),
            output.style,
          ),
    () => asJson({ prices }),
  );
  return EXIT.done;
}

function bodyOf(flags: PriceFlags, amount: string): JsonValue {
  if (!AMOUNT.test(amount)) {
    throw cliError("usage_invalid", `${JSON.stringify(amount)} is no amount.`, {
      hints: ["An amount is written like 0.002; 0 is free."],
    });
  }
  const payees = (flags.payee ?? []).map(payeeOf);
  const shared = payees.reduce((sum, { basisPoints }) => sum + basisPoints, 0);
  if (shared > 10_000) {
    throw cliError("usage_invalid", `The payees' shares are ${shared / 100} % together.`, {
      hints: ["Together they have at most 100 %; what is left is the gateway's."],
    });
  }
  return {
    asset: flags.asset.toUpperCase(),
    ...rateOf(flags.per, amount),
    ...(payees.length > 0 ? { payees } : {}),
  };
}

function rateOf(per: PriceFlags["per"], amount: string): { readonly [name: string]: string } {
  switch (per) {
    case "call":
      return { perCall: amount };
    case "second":
      return { perSecond: amount };
    case "gigabyte-day":
      return { perGigabyteDay: amount };
    case "1k-tokens": {
      const million = shifted(amount, 3);
      return { perMillionInputTokens: million, perMillionOutputTokens: million };
    }
  }
}

/** A decimal text times ten to the `places`. */
function shifted(amount: string, places: number): string {
  const [whole = "0", fraction = ""] = amount.split(".");
  const digits = whole + fraction.slice(0, places).padEnd(places, "0");
  const rest = fraction.slice(places).replace(/0+$/, "");
  const trimmed = digits.replace(/^0+(?=\d)/, "");
  return rest === "" ? trimmed : `${trimmed}.${rest}`;
}

function payeeOf(text: string): { readonly address: string; readonly basisPoints: number } {
  const parts = /^(0x[0-9a-fA-F]{40})=(\d{1,3})(?:\.(\d{1,2}))?%?$/.exec(text);
  const basisPoints = parts ? Number(parts[2]) * 100 + Number((parts[3] ?? "").padEnd(2, "0")) : 0;
  if (!parts?.[1] || basisPoints < 1 || basisPoints > 10_000) {
    throw cliError("usage_invalid", `${JSON.stringify(text)} is no payee.`, {
      hints: ["A payee is written ADDRESS=PERCENT: 0x1111111111111111111111111111111111111111=70."],
    });
  }
  return { address: parts[1], basisPoints };
}

function rowsOf(listing: ListingDocument): (readonly [string, string])[] {
  return [
    ["Price", priceWords(listing)],
    ...(listing.payees && listing.payees.length > 0 ? ([["Payees", payeeWords(listing)]] as const) : []),
    ...(listing.payTo === undefined ? [] : ([["Paid to", listing.payTo]] as const)),
    ...(listing.digest === undefined ? [] : ([["Named in receipts", `listing:${listing.digest}`]] as const)),
  ];
}

/** What one call of each service is called. */
const ONE: Readonly<Record<string, string>> = {
  "service:storage": "an upload",
  "service:openings": "an opening kept",
  "service:anchoring": "a receipt anchored by itself",
  "service:verification": "a verification",
  "service:audit": "an audit",
};

/** A price in words: `0.002 USDC a call`. */
export function priceWords(listing: ListingDocument): string {
  const asset = printable(listing.asset);
  const { perMillionInputTokens: input, perMillionOutputTokens: out } = listing;
  const parts = [
    ...(listing.perCall === undefined ? [] : [`${listing.perCall} ${asset} ${ONE[listing.subject] ?? "a call"}`]),
    ...(input === undefined ? [] : [`${input} ${asset} a million tokens${input === out ? "" : " in"}`]),
    ...(out === undefined || input === out ? [] : [`${out} ${asset} a million tokens out`]),
    ...(listing.perSecond === undefined ? [] : [`${listing.perSecond} ${asset} a second`]),
    ...(listing.perGigabyteDay === undefined ? [] : [`${listing.perGigabyteDay} ${asset} a gigabyte and day`]),
  ];
  return parts.length === 0 ? "free" : parts.join(", ");
}

function payeeWords({ payees = [] }: ListingDocument): string {
  return payees.map(({ address, basisPoints }) => `${address} ${basisPoints / 100} %`).join(", ");
}
