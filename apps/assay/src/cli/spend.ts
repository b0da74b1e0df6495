import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import type { JsonValue } from "@assay/core";
import { developmentProfiles } from "@assay/contracts";
import { isLoopbackUrl, nativeEvmSuite } from "@assay/driver-chain";
import { createPayer, GatewayError, spendLimit, textPayStore } from "@assay/sdk";
import type { CallPayment, ChainDocument, Payer, PayStore } from "@assay/sdk";
import { formatUnits, parseUnits } from "@assay/x402";
import type { Address, AssetLimit, Network } from "@assay/x402";
import type { Cli } from "./command.ts";
import { readIfThere, writeWhole } from "./files.ts";
import type { Gateway } from "./gateway.ts";
import { cliError } from "./render-error.ts";
import type { Style } from "./style.ts";
import { openWallet } from "./wallet.ts";
import type { Protection } from "./wallet.ts";
import type { World } from "./world.ts";

/** What may be spent, as flags say it. */
export type SpendFlags = {
  /** Most for one call, decimal text in units of `asset`; without it nothing is paid. */
  readonly maxSpend?: string;
  /** Symbol; the dollar when absent. */
  readonly asset?: string;
  /** Most in an hour, all commands of this home together. */
  readonly maxSpendHour?: string;
  readonly allowPayee?: readonly string[];
};

/** A token, as a policy knows it. */
export type KnownToken = Pick<AssetLimit, "network" | "address" | "symbol" | "decimals" | "domain">;

/** Calls that an hour has room for when nobody says how much may be spent in one. */
const CALLS_AN_HOUR = 100n;
/** What a payer remembers is below it by far. */
const MAX_STATE_BYTES = 8 * 1024 * 1024;
/** How long another command may hold what is remembered, milliseconds: it writes one small file. */
const LOCK_WAIT_MS = 10_000;
const LOCK_PAUSE_MS = 20;

/**
 * Who pays for a command's calls: this home's wallet within what the flags allow, on the chain that the gateway names.
 * Undefined without `--max-spend`, and for a gateway that has no chain. Throws `wallet_missing`, `wallet_locked`,
 * `usage_invalid` for an unknown asset and `development_key_refused`.
 */
export async function payerFor(
  cli: Cli,
  gateway: Gateway,
  flags: SpendFlags,
  onPayment?: (payment: CallPayment) => void,
): Promise<Payer | undefined> {
  const { world, output } = cli;
  const { maxSpend } = flags;
  if (maxSpend === undefined) {
    const useless = [flags.maxSpendHour, flags.allowPayee].some((given) => given !== undefined);
    if (!useless) return undefined;
    throw cliError("usage_invalid", "Without a limit for a call nothing is paid.", {
      hints: ["Give --max-spend AMOUNT."],
    });
  }
  const chain = await chainIfAny(gateway, world.interrupt);
  if (!chain) return undefined;
  const token = tokenOf(chain, flags.asset ?? "USDC", gateway);
  const perHour = flags.maxSpendHour ?? hourOf(maxSpend, token.decimals);
  const limit = spendLimit(token, { perCall: maxSpend, perHour });
  output.progress("opening the wallet");
  const wallet = await openWallet(world);
  guardWallet(chain, gateway, wallet.protection);
  return createPayer({
    signer: wallet.signer,
    suite: nativeEvmSuite(),
    policy: {
      assets: [limit],
      hosts: [new URL(gateway.url).host],
      ...(flags.allowPayee ? { payees: flags.allowPayee.map(addressIn) } : {}),
    },
    store: payStore(world),
    ...(chain.rpcUrl === null ? {} : { rpcUrl: chain.rpcUrl }),
    fetch: world.fetch,
    now: world.now,
    randomBytes: world.randomBytes,
    sleep: world.sleep,
    ...(onPayment ? { onPayment } : {}),
  });
}

/** What is remembered of this home's payments, by all its commands together. */
export function payStore(world: World): PayStore {
  const path = join(world.home, "wallet.state.json");
  return textPayStore({
    read: async () => {
      const bytes = await readIfThere(path, MAX_STATE_BYTES, "state of the wallet");
      return bytes && new TextDecoder().decode(bytes);
    },
    write: (text) => {
      writeWhole(path, text);
      return Promise.resolve();
    },
    exclusively: (work) => locked(world, `${path}.lock`, work),
  });
}

/** The chain of a gateway, waited for while it is starting; undefined when it has none. */
export async function chainIfAny(gateway: Gateway, signal: AbortSignal): Promise<ChainDocument | undefined> {
  try {
    const chain = await startedChain(gateway, signal);
    return chain.state === "none" ? undefined : chain;
  } catch (error) {
    if (error instanceof GatewayError && error.status === 404) return undefined;
    throw error;
  }
}

/** What a gateway says of its chain, once that has started or the time for it is over. */
export async function startedChain({ client, watched }: Gateway, signal: AbortSignal): Promise<ChainDocument> {
  for (;;) {
    const chain = await client.chain({ signal });
    if (chain.state !== "starting" || !(await watched.wait("chain"))) return chain;
  }
}

/**
 * A token by its symbol. What tokens are called is believed of a gateway of one's own and of a development chain on this
 * machine; of any other only the public dollar is known. Throws `usage_invalid`.
 */
export function tokenOf(chain: ChainDocument, asset: string, gateway: Pick<Gateway, "own" | "url">): KnownToken {
  if (chain.assets.length === 0) {
    throw cliError("chain_unavailable", "The gateway's chain is not there, or not yet.", {
      hints: ["Look at it: `assay chain status`."],
    });
  }
  const symbol = asset.toUpperCase();
  const known = knownTokensOf(chain, gateway);
  const found = known.find((token) => token.symbol.toUpperCase() === symbol);
  if (found) return found;
  throw cliError("usage_invalid", `${symbol} on ${chain.network} is none of the tokens that are known here.`, {
    hints: [`Known are ${known.map((token) => token.symbol).join(", ") || "none"}.`],
  });
}

/** Tokens of a gateway's chain whose names are believed. */
export function knownTokensOf(chain: ChainDocument, { own, url }: Pick<Gateway, "own" | "url">): readonly KnownToken[] {
  return own || (chain.development && isLoopbackUrl(url)) ? tokensOf(chain) : publicDollar(chain);
}

/** Tokens as a chain's own gateway lists them. */
export function tokensOf(chain: ChainDocument): readonly KnownToken[] {
  return chain.assets.map(({ symbol, address, decimals, name, version }) => ({
    network: chain.network as Network,
    address: addressIn(address),
    symbol,
    decimals,
    domain: { name, version },
  }));
}

function publicDollar(chain: ChainDocument): readonly KnownToken[] {
  if (chain.chainId !== 8453 && chain.chainId !== 84532) return [];
  const { symbol, address, decimals, name, version } = developmentProfiles[chain.chainId].usdc;
  return [{ network: chain.network as Network, address, symbol, decimals, domain: { name, version } }];
}

/**
 * A wallet that anybody who reads the home can open signs on development chains of this machine alone. One behind a
 * passphrase does not sign on a development chain that has a public chain's id: its signatures would be good there too.
 * Throws `development_key_refused`.
 */
export function guardWallet(chain: ChainDocument, gateway: Pick<Gateway, "url">, protection: Protection): void {
  const isOurs = chain.development && isLoopbackUrl(gateway.url);
  if (protection === "local secret" && !isOurs) {
    throw cliError(
      "development_key_refused",
      `The wallet has no passphrase, and ${chain.network} is no development chain here.`,
      {
        hints: ["Make a wallet with one: `assay wallet new --passphrase`."],
      },
    );
  }
  if (protection === "passphrase" && chain.development && chain.chainId !== 31337) {
    throw cliError(
      "development_key_refused",
      `The development chain has the id of ${chain.network}, where this wallet's signatures are good as well.`,
      { hints: ["Pay there with a wallet for development, which has no passphrase."] },
    );
  }
}

/** One line about what was paid: `paid 0.002 USDC by 0x… (exact, payment 0x…)`. */
export function paymentLine(payment: CallPayment, style: Style): string {
  return `paid ${paidText(payment)} by ${payment.payer} (${payment.scheme}, payment ${style.id(payment.paymentId)})`;
}

function paidText({ charged, capAtomic, asset }: CallPayment): string {
  const amount = `${formatUnits(charged?.amountAtomic ?? capAtomic, asset.decimals)} ${asset.symbol}`;
  return charged ? amount : `at most ${amount}`;
}

/** A payment for `--json`: amounts in smallest units and as decimal texts. */
export function paymentJson(payment: CallPayment | undefined): JsonValue {
  if (!payment) return null;
  const { asset, charged, capAtomic } = payment;
  const money = (atomic: bigint): JsonValue => ({
    amount: formatUnits(atomic, asset.decimals),
    amountAtomic: atomic.toString(),
    decimals: asset.decimals,
    symbol: asset.symbol,
    address: asset.address,
  });
  return {
    paymentId: payment.paymentId,
    payer: payment.payer,
    payTo: payment.payTo,
    scheme: payment.scheme,
    network: payment.network,
    amount: charged ? money(charged.amountAtomic) : null,
    cap: money(capAtomic),
    transaction: charged?.transaction ?? null,
  };
}

/** An address as a flag or a document gives it. Throws `usage_invalid`. */
function addressIn(text: string): Address {
  if (/^0x[0-9a-fA-F]{40}$/.test(text)) return text.toLowerCase() as Address;
  throw cliError("usage_invalid", `${JSON.stringify(text)} is no address.`, {
    hints: ["An address is 0x and 40 hexadecimal digits."],
  });
}

function hourOf(maxSpend: string, decimals: number): string {
  return formatUnits(parseUnits(maxSpend, decimals) * CALLS_AN_HOUR, decimals);
}

async function locked<Result>(world: World, path: string, work: () => Promise<Result>): Promise<Result> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const lastMs = performance.now() + LOCK_WAIT_MS;
  while (!lock(path)) {
    if (performance.now() >= lastMs) {
      throw cliError("wallet_busy", `Another command holds ${path}.`, { hints: ["Wait for it to end."] });
    }
    await world.sleep(LOCK_PAUSE_MS, world.interrupt);
  }
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

/** Whether the lock is ours now. One whose process is gone is taken away first. */
function lock(path: string): boolean {
  try {
    const file = openSync(path, "wx", 0o600);
    try {
      writeSync(file, String(process.pid));
    } finally {
      closeSync(file);
    }
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code !== "EEXIST") throw error;
  }
  if (isLeft(path)) rmSync(path, { force: true });
  return false;
}

function isLeft(path: string): boolean {
  let pid: number;
  try {
    pid = Number(readFileSync(path, "utf8"));
  } catch {
    return false;
  }
  // It is empty for the moment between being made and being written.
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as { code?: unknown }).code === "ESRCH";
  }
}
