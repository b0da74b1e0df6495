import {
  batchSettlement,
  canonicalAddresses,
  create2Deployer,
  erc3009DepositCollector,
  exactPermit2Proxy,
  multicall3,
  permit2,
  permit2DepositCollector,
  testUsdc,
  uptoPermit2Proxy,
} from "@assay/contracts";
import type { Address } from "@assay/x402";
import { concatBytes } from "@assay/core";
import { sendAs } from "../embedded/impersonate.ts";
import type { Transport } from "../rpc/transport.ts";
import { calldata, selector } from "../rpc/selector.ts";
import { addressWord, fromHex, toHex, toQuantity, word } from "../rpc/values.ts";

/** Where {@link placeCanonical} puts a dollar: nowhere that any program knows. */
export const dollarAddress: Address = "0x00000000000000000000000000000000d011a400";

const ANYBODY: Address = "0x00000000000000000000000000000000000000ab";

/** What a public chain has before anybody of ours comes: the contracts at canonical addresses, and a dollar. */
export async function placeCanonical(rpc: Transport): Promise<void> {
  const codes = {
    exactPermit2Proxy,
    uptoPermit2Proxy,
    batchSettlement,
    erc3009DepositCollector,
    permit2DepositCollector,
    multicall3,
  };
  for (const [name, { deployedBytecode }] of Object.entries(codes))
    await rpc.request("anvil_setCode", [canonicalAddresses[name as keyof typeof codes], deployedBytecode]);
  await rpc.request("anvil_setCode", [dollarAddress, testUsdc.deployedBytecode]);
  await giveEther(rpc, ANYBODY, 10n ** 18n);
  await sendAs(rpc, {
    from: ANYBODY,
    to: create2Deployer,
    data: concatBytes(fromHex(permit2.salt), fromHex(permit2.bytecode)),
  });
}

export async function giveEther(rpc: Transport, account: Address, wei: bigint): Promise<void> {
  await rpc.request("anvil_setBalance", [account, toQuantity(wei)]);
}

export async function setCode(rpc: Transport, at: Address, code: Uint8Array): Promise<void> {
  await rpc.request("anvil_setCode", [at, toHex(code)]);
}

/** Dollars of {@link dollarAddress}, which anybody may make. */
export async function giveDollars(rpc: Transport, to: Address, amountAtomic: bigint): Promise<void> {
  const mint = calldata(selector("mint(address,uint256)"), addressWord(to), word(amountAtomic));
  await sendAs(rpc, { from: ANYBODY, to: dollarAddress, data: mint });
}
