import { bytesToHex, isAssayError } from "@assay/core";
import type { AssayError, JsonValue } from "@assay/core";
import { createChain, createSender, isLoopbackUrl, memoryJournal } from "@assay/driver-chain";
import { approvalData, createChainReader, fundDocument, read } from "@assay/sdk";
import type { ChainReader, KeptChannel } from "@assay/sdk";
import { formatUnits, fromHex, parseUnits, PERMIT2 } from "@assay/x402";
import type { Address } from "@assay/x402";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { again } from "../explain-price.ts";
import { withGateway, withMoney } from "../gateway.ts";
import type { Gateway, GatewayFlags } from "../gateway.ts";
import { asJson, moneyText } from "../money-text.ts";
import { cliError } from "../render-error.ts";
import { chainIfAny, guardWallet, payStore, startedChain, tokenOf, tokensOf } from "../spend.ts";
import type { KnownToken } from "../spend.ts";
import { facts, printable, table } from "../style.ts";
import { hasPassphrase, makeWallet, openWallet, walletAddress, walletPath } from "../wallet.ts";

export type NewFlags = { readonly passphrase: boolean };
export type FundFlags = GatewayFlags & { readonly asset?: string; readonly amount?: string };
export type ApproveFlags = GatewayFlags & { readonly asset: string };
export type ExportFlags = GatewayFlags & { readonly yes: boolean };

/** What the faucet gives when nobody says how much: enough to try things out, of the network's token too. */
const FUNDS = [
  ["ETH", "1"],
  ["USDC", "100"],
  ["ASY", "100"],
] as const;

/** `assay wallet new`. */
export async function make(cli: Cli, flags: NewFlags): Promise<number> {
  const { world, output } = cli;
  // Whoever has set a passphrase opens the wallet with it from now on.
  const isOwn = flags.passphrase || hasPassphrase(world);
  const wallet = await makeWallet(world, isOwn ? "passphrase" : "local secret");
  const path = walletPath(world);
  output.answer(
    () =>
      [
        output.style.strong(wallet.address),
        "",
        facts(
          [
            ["Kept at", path],
            [
              "Opened by",
              isOwn
                ? "your passphrase, which nobody can give back to you"
                : "a random secret in this home: good for development chains, and for nothing else",
            ],
          ],
          output.style,
        ),
        "",
        "  assay wallet fund",
      ].join("\n"),
    () => ({ address: wallet.address, path, protection: wallet.protection }),
  );
  return EXIT.done;
}

type Holding = {
  readonly token: Pick<KnownToken, "symbol" | "decimals"> & { readonly address: Address | null };
  readonly balance: bigint;
  readonly allowance: bigint | undefined;
};

/** `assay wallet show`: the address, and what it has on the gateway's chain. */
export async function show(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { world, output } = cli;
  const address = await walletAddress(world);
  const { channels } = await payStore(world).update((state) => ({ channels: [...state.channels] }));
  const seen = await withGateway(cli, flags, async (gateway) => {
    const chain = await chainIfAny(gateway, world.interrupt);
    if (!chain || chain.rpcUrl === null) return undefined;
    output.progress("reading the chain");
    const reader = createChainReader({ url: chain.rpcUrl, fetch: world.fetch });
    return { chain, holdings: await holdingsOf(reader, address, tokensOf(chain)) };
  });
  const here = channels.filter(({ network }) => network === seen?.chain.network);
  const { style } = output;
  output.answer(
    () =>
      [
        style.strong(address),
        "",
        ...(seen
          ? [
              table(
                ["Token", "Balance", "Permit2 may spend"],
                seen.holdings.map(({ token, balance, allowance }) => [
                  printable(token.symbol),
                  formatUnits(balance, token.decimals),
                  allowance === undefined ? "" : formatUnits(allowance, token.decimals),
                ]),
                style,
                { right: [1, 2] },
              ),
            ]
          : ["The gateway has no chain, or does not say where it is read."]),
        ...(here.length === 0 ? [] : ["", channelTable(cli, here, seen?.holdings ?? [])]),
      ].join("\n"),
    () => ({
      address,
      network: seen?.chain.network ?? null,
      balances: (seen?.holdings ?? []).map(({ token, balance, allowance }) => ({
        symbol: token.symbol,
        address: token.address,
        decimals: token.decimals,
        amount: formatUnits(balance, token.decimals),
        amountAtomic: balance.toString(),
        allowanceAtomic: allowance?.toString() ?? null,
      })),
      channels: here.map((channel) => asJson(channel)),
    }),
  );
  return EXIT.done;
}

async function holdingsOf(
  reader: ChainReader,
  address: Address,
  tokens: readonly KnownToken[],
): Promise<readonly Holding[]> {
  const ether = { symbol: "ETH", decimals: 18, address: null };
  return Promise.all([
    reader.balance(address).then((balance) => ({ token: ether, balance, allowance: undefined })),
    ...tokens.map(async (token) => {
      const [balance, allowance] = await Promise.all([
        reader.balance(address, token.address),
        reader.allowance(address, token.address, PERMIT2),
      ]);
      return { token, balance, allowance };
    }),
  ]);
}

function channelTable({ output }: Cli, channels: readonly KeptChannel[], holdings: readonly Holding[]): string {
  const text = (channel: KeptChannel, atomic: string): string => {
    const token = holdings.find((one) => one.token.address === channel.asset)?.token;
    return token ? `${formatUnits(BigInt(atomic), token.decimals)} ${printable(token.symbol)}` : atomic;
  };
  return table(
    ["Channel", "Payee", "Deposited", "Charged", "Signed for"],
    channels.map((channel) => [
      output.style.id(channel.channelId),
      output.style.id(channel.payee),
      text(channel, channel.balance),
      text(channel, channel.charged),
      text(channel, channel.signed),
    ]),
    output.style,
    { right: [2, 3, 4] },
  );
}

/** `assay wallet fund`: from the faucet of the gateway's development chain. */
export async function fund(cli: Cli, flags: FundFlags): Promise<number> {
  const { world, output } = cli;
  const address = await walletAddress(world);
  if (flags.amount !== undefined && flags.asset === undefined) {
    throw cliError("usage_invalid", "An amount is of an asset.", { hints: ["Name it: --asset USDC."] });
  }
  const funded = await withMoney(cli, flags, async (gateway) => {
    const chain = await startedChain(gateway, world.interrupt);
    if (chain.state !== "running") {
      throw cliError("chain_unavailable", "The gateway's chain is not there, or not yet.", {
        hints: ["Look at it: `assay chain status`."],
      });
    }
    if (!chain.development) {
      throw cliError("chain_not_development", `${chain.network} is no development chain: nobody gives its money away.`);
    }
    const wanted =
      flags.asset === undefined
        ? FUNDS.filter(([symbol]) => symbol === "ETH" || chain.assets.some((asset) => asset.symbol === symbol))
        : [[flags.asset.toUpperCase(), flags.amount ?? usualOf(flags.asset)] as const];
    const given = [];
    for (const [asset, amount] of wanted) {
      output.progress(`asking for ${amount} ${asset}`);
      const request = { method: "POST", path: "/v1/chain/fund", body: { address, asset, amount } } as const;
      const answer = await gateway.client.admin({ ...request, signal: world.interrupt }).catch((error: unknown) => {
        throw isAssayError(error) && error.code === "operator_required" ? notOurs(error, address) : error;
      });
      given.push(read(fundDocument, answer, "account of what was given"));
    }
    return given;
  });
  output.answer(
    () =>
      [
        output.style.strong(address),
        "",
        ...funded.map((one) => `  ${moneyText(one.funded)} more: ${moneyText(one.balance)} now`),
      ].join("\n"),
    () => ({ address, funded: funded.map((one) => asJson(one)) }),
  );
  return EXIT.done;
}

function notOurs(error: AssayError, address: Address): AssayError {
  return again(error, error.message, [`The faucet is its operator's: have them send something to ${address}.`]);
}

function usualOf(asset: string): string {
  return FUNDS.find(([symbol]) => symbol === asset.toUpperCase())?.[1] ?? "100";
}

/** `assay wallet approve AMOUNT`: lets Permit2 spend exactly as much; 0 takes it back. */
export async function approve(cli: Cli, flags: ApproveFlags, amount: string): Promise<number> {
  const { world, output } = cli;
  const wallet = await openWallet(world);
  const done = await withMoney(cli, flags, async (gateway) => {
    const { chain, rpcUrl } = await readableChain(gateway, world.interrupt);
    guardWallet(chain, gateway, wallet.protection);
    const token = tokenOf(chain, flags.asset, gateway);
    const data = approvalData(PERMIT2, parseUnits(amount, token.decimals));
    output.progress("sending the approval");
    const sender = createSender({
      chain: createChain({ url: rpcUrl, chainId: chain.chainId }),
      signer: wallet.signer,
      journal: memoryJournal(),
    });
    try {
      const jobId = `approve-${bytesToHex(world.randomBytes(8))}`;
      await sender.submit({ jobId, to: token.address, data: fromHex(data) });
      const outcome = await sender.wait(jobId, { until: "mined", signal: world.interrupt });
      if (outcome.state === "dropped" || outcome.state === "pending" || !outcome.receipt.ok) {
        throw cliError("approval_failed", "The chain did not take the approval.");
      }
      return { token, transaction: outcome.hash };
    } finally {
      await sender.close();
    }
  });
  const { symbol } = done.token;
  output.answer(
    () => `Permit2 may spend ${amount} ${printable(symbol)} of ${wallet.address}, and no more.\n  ${done.transaction}`,
    () => ({ address: wallet.address, asset: symbol, amount, spender: PERMIT2, transaction: done.transaction }),
  );
  return EXIT.done;
}

/** `assay wallet export --yes`: the private key, of development wallets and to who typed the passphrase. */
export async function exportKey(cli: Cli, flags: ExportFlags): Promise<number> {
  const { world, output } = cli;
  if (!flags.yes) {
    throw cliError("usage_invalid", "Whoever reads the key has the money.", {
      hints: ["Say that you mean it: `assay wallet export --yes`."],
    });
  }
  const wallet = await openWallet(world);
  if (wallet.protection === "local secret") {
    const isDevelopment = await withGateway(cli, flags, async (gateway) => {
      const chain = await chainIfAny(gateway, world.interrupt);
      return chain?.development === true && isLoopbackUrl(gateway.url);
    });
    if (!isDevelopment) {
      throw cliError("wallet_export_refused", "The gateway has no development chain, and no passphrase was typed.");
    }
  }
  const privateKey = `0x${bytesToHex(wallet.privateKey)}`;
  output.answer(
    () => privateKey,
    (): JsonValue => ({ address: wallet.address, privateKey }),
  );
  return EXIT.done;
}

async function readableChain(gateway: Gateway, signal: AbortSignal) {
  const chain = await startedChain(gateway, signal);
  if (chain.rpcUrl === null) {
    throw cliError("chain_unknown", "The gateway does not say where its chain is read.");
  }
  return { chain, rpcUrl: chain.rpcUrl };
}
