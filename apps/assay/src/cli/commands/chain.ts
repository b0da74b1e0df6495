import { read, resetDocument } from "@assay/sdk";
import type { ChainDocument } from "@assay/sdk";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withGateway, withMoney } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { asJson } from "../money-text.ts";
import { cliError } from "../render-error.ts";
import { startedChain } from "../spend.ts";
import { facts, printable } from "../style.ts";

export type ResetFlags = GatewayFlags & { readonly yes: boolean };

const STATES: Record<ChainDocument["state"], string> = {
  starting: "starting",
  running: "running",
  down: "not answering",
  none: "none",
};

/** `assay chain status`. */
export async function status(cli: Cli, flags: GatewayFlags): Promise<number> {
  const { world, output } = cli;
  const chain = await withMoney(cli, flags, (gateway) => startedChain(gateway, world.interrupt));
  const { style } = output;
  output.answer(
    () =>
      [
        `${style.mark("other", chain.state === "running" ? "pass" : "inconclusive")} ${style.strong(chain.network)} ${STATES[chain.state]}`,
        "",
        facts(
          [
            ["Kind", chain.development ? "development: its money is worth nothing" : "public"],
            ["Address", chain.rpcUrl === null ? "not told" : printable(chain.rpcUrl)],
            ["Block", chain.blockNumber === null ? "unknown" : String(chain.blockNumber)],
            ...chain.assets.map((asset) => [printable(asset.symbol), asset.address] as const),
            ...(chain.payTo === null ? [] : ([["Paid to", chain.payTo]] as const)),
            ...Object.entries(chain.contracts).map(([name, address]) => [printable(name), address] as const),
          ],
          style,
        ),
      ].join("\n"),
    () => asJson(chain),
  );
  return chain.state === "running" ? EXIT.done : EXIT.nodeUnavailable;
}

/** `assay chain reset`: the development chain begins anew; what was on it is gone. */
export async function reset(cli: Cli, flags: ResetFlags): Promise<number> {
  const { world, output } = cli;
  if (!flags.yes) {
    throw cliError("usage_invalid", "A reset takes every balance, channel and anchor of the chain with it.", {
      hints: ["Say that you mean it: `assay chain reset --yes`."],
    });
  }
  const answer = await withGateway(cli, { ...flags, needsDatabase: true }, async (gateway) => {
    const { client } = gateway;
    const chain = await startedChain(gateway, world.interrupt);
    if (!chain.development) {
      throw cliError("chain_not_development", `${chain.network} is no development chain: nobody can reset it.`);
    }
    output.progress("beginning the chain anew");
    return client.admin({ method: "POST", path: "/v1/chain/reset", signal: world.interrupt });
  });
  const done = read(resetDocument, answer, "reset");
  output.answer(
    () => `${done.network} began anew, at block ${done.blockNumber}. Wallets keep their keys; their balances are gone.`,
    () => asJson(done),
  );
  return EXIT.done;
}
