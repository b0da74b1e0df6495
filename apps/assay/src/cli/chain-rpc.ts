import { cliError } from "./render-error.ts";
import type { World } from "./world.ts";

export type RpcFlags = { readonly rpc?: string };

/** The node to ask: the flag's, else the address that a gateway is configured with. Throws `usage_invalid`. */
export function rpcOf(world: World, { rpc }: RpcFlags): string {
  const url = rpc ?? world.variable("ASSAY_CHAIN") ?? "";
  if (/^https?:\/\//.test(url)) return url;
  throw cliError("usage_invalid", "Which chain is meant is said by the http or https address of one of its nodes.", {
    hints: ["Name it: --rpc https://rpc.example/base, or in ASSAY_CHAIN."],
  });
}
