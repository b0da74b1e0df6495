import { nodeSuite } from "@assay/driver-crypto";
import { createProxy } from "@assay/service-proxy";
import type { ProxyEvent } from "@assay/service-proxy";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withGateway } from "../gateway.ts";
import type { GatewayFlags } from "../gateway.ts";
import { loadPolicy } from "../policy-file.ts";
import { saveReceipt } from "../receipt-store.ts";
import { routingOf } from "../route-flags.ts";
import type { RouteFlags } from "../route-flags.ts";
import { payerFor, paymentLine } from "../spend.ts";
import type { SpendFlags } from "../spend.ts";
import { facts } from "../style.ts";
import { loadTrust } from "../trust-file.ts";

export type ProxyFlags = GatewayFlags &
  RouteFlags &
  SpendFlags & {
    readonly port?: number;
    readonly verify: "before-release" | "after";
    readonly trust?: string;
    readonly policy?: string;
    /** Whether receipts are kept in this home. */
    readonly keep: boolean;
  };

/** `assay proxy`: an address for unchanged clients of OpenAI's API that lets through only what was verified here. */
export async function proxy(cli: Cli, flags: ProxyFlags): Promise<number> {
  const { world, output } = cli;
  const { trust, source } = await loadTrust(world, flags.trust);
  const policy = flags.policy === undefined ? undefined : await loadPolicy(world, flags.policy);
  return withGateway(cli, flags, async (gateway) => {
    const payer = await payerFor(cli, gateway, flags, (payment) =>
      output.note(output.noteStyle.faint(`  ${paymentLine(payment, output.noteStyle)}`)),
    );
    const running = await createProxy(
      {
        upstreamUrl: gateway.url,
        trust,
        mode: flags.verify,
        routing: routingOf(flags),
        ...(flags.port === undefined ? {} : { port: flags.port }),
        ...(policy ? { policy } : {}),
        ...(flags.maxSpend === undefined ? {} : { maxSpend: flags.maxSpend }),
      },
      {
        ...(payer ? { payer } : {}),
        fetch: world.fetch,
        suite: nodeSuite,
        now: world.now,
        onReceipt: ({ receiptId, bytes, grant }) => {
          if (flags.keep) saveReceipt(world, receiptId, bytes, { url: gateway.url, grant });
        },
        onEvent: (event) => output.note(lineOf(cli, event)),
      },
    );
    try {
      const { style } = output;
      output.answer(
        () =>
          [
            style.strong("Assay proxy"),
            "",
            facts(
              [
                ["Listening", `${running.url}/v1`],
                ["Gateway", gateway.url],
                ["Trusting", source ?? "the file given"],
                [
                  "Paying",
                  payer
                    ? `up to ${flags.maxSpend ?? ""} ${flags.asset ?? "USDC"} a call, by ${payer.address}`
                    : "nothing",
                ],
                ["Verified", flags.verify === "after" ? "at the end of each answer" : "before anything is let through"],
              ],
              style,
            ),
            "",
            style.faint("  Give any client of OpenAI's API this address:"),
            `  OPENAI_BASE_URL=${running.url}/v1`,
          ].join("\n"),
        () => ({
          url: running.url,
          gateway: gateway.url,
          verify: flags.verify,
          payer: payer?.address ?? null,
          trustFile: source ?? null,
        }),
      );
      await new Promise<void>((resolve) => {
        if (world.interrupt.aborted) resolve();
        else world.interrupt.addEventListener("abort", () => resolve(), { once: true });
      });
      return EXIT.done;
    } finally {
      await running.close();
    }
  });
}

function lineOf({ output }: Cli, event: ProxyEvent): string {
  const { noteStyle: style } = output;
  const mark = event.failure === undefined ? style.mark("other", "pass") : style.mark("other", "fail");
  const about = [event.receiptId, event.failure].filter((part) => part !== undefined).join("  ");
  return `${mark} ${event.method} ${event.route} ${event.status} ${Math.round(event.wallMs)} ms  ${about}`;
}
