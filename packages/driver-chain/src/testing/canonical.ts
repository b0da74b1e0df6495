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
import { fromHex, toHex, toQuantity } from "../rpc/values.ts";

/** Where {@link placeCanonical} puts a dollar: nowhere that any program knows. */
export const dollarAddress: Address = "0x00000000000000000000000000000000d011a400";

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
  const anybody: Address = "0x00000000000000000000000000000000000000ab";
  await giveEther(rpc, anybody, 10n ** 18n);
  await sendAs(rpc, {
    from: anybody,
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
