import type { Deployments } from "@assay/contracts";
import { AssayError } from "@assay/core";
import type { Address } from "@assay/x402";
import type { Transport } from "../rpc/transport.ts";
import { calldata, selector } from "../rpc/selector.ts";
import { addressWord, quantity, toQuantity, word } from "../rpc/values.ts";
import { sendAs } from "./impersonate.ts";

/** What an account is given: wei of ether, or a token's smallest units. */
export type Funding = { readonly asset: "ETH" | "USDC" | "ASY"; readonly amountAtomic: bigint };

/** Most of it at once: more than anybody tries out with, and far from where sums overflow. */
export const MAX_FUNDING: Readonly<Record<Funding["asset"], bigint>> = {
  ETH: 10_000n * 10n ** 18n,
  USDC: 1_000_000n * 10n ** 6n,
  ASY: 1_000_000n * 10n ** 18n,
};

const MINT = selector("mint(address,uint256)");
const TRANSFER = selector("transfer(address,uint256)");

/** Gives `to` what it asks for. Throws `chain_fund_refused` for amounts outside of the limits. */
export async function fundAccount(
  rpc: Transport,
  deployments: Deployments,
  deployer: Address,
  to: Address,
  { asset, amountAtomic }: Funding,
): Promise<void> {
  if (amountAtomic <= 0n || amountAtomic > MAX_FUNDING[asset])
    throw new AssayError("chain_fund_refused", `The faucet does not give ${amountAtomic} units of ${asset}.`, {
      hints: [`It gives 1 to ${MAX_FUNDING[asset]} at once.`],
    });
  if (!/^0x[0-9a-f]{40}$/i.test(to))
    throw new AssayError("chain_fund_refused", "The faucet was given no address.", {
      hints: ["An address is 0x and 40 hexadecimal digits."],
    });
  if (asset === "ETH") {
    const has = quantity(await rpc.request("eth_getBalance", [to, "latest"]), "the balance");
    await rpc.request("anvil_setBalance", [to, toQuantity(has + amountAtomic)]);
    return;
  }
  const token = deployments.tokens.find((one) => one.symbol === asset);
  if (token === undefined)
    throw new AssayError("chain_fund_refused", `The chain has no ${asset}.`, { hints: ["Reset the chain."] });
  // Anybody may make test dollars; the network's token has a fixed supply, which the deployer holds.
  const call = asset === "USDC" ? MINT : TRANSFER;
  await sendAs(rpc, { from: deployer, to: token.address, data: calldata(call, addressWord(to), word(amountAtomic)) });
}
