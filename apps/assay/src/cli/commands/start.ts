import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isAssayError } from "@assay/core";
import type { ChainDocument } from "@assay/sdk";
import type { Cli } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { absolute, readWhole, writeWhole } from "../files.ts";
import { gatewayAt, gatewayFile } from "../gateway.ts";
import { cliError } from "../render-error.ts";
import { facts } from "../style.ts";
import { verdictLine } from "../verdict-text.ts";
import { walletPath } from "../wallet.ts";
import { runOnce } from "./run.ts";

export type StartFlags = {
  readonly host?: string;
  readonly port?: number;
  readonly databaseUrl?: string;
  readonly exposed: boolean;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly jurisdiction?: string;
  readonly peer?: string;
  readonly invite?: string;
};

const LOOPBACK: ReadonlySet<string> = new Set(["127.0.0.1", "::1", "localhost"]);
/** A chain of certificates is a few kilobytes. */
const MAX_PEM_BYTES = 256 * 1024;
const DEMO = { model: "demo/digits", input: "image", sample: "samples/seven.png" };

/** `assay start`: serves this home until it is interrupted, after showing one inference with its receipt. */
export async function start(cli: Cli, flags: StartFlags): Promise<number> {
  const { output, world } = cli;
  const settings = await world.serverSettings();
  const host = flags.host ?? settings.host;
  const port = flags.port ?? settings.port;
  const databaseUrl = flags.databaseUrl ?? settings.databaseUrl;
  const tls = await tlsOf(cli, flags);
  if (!LOOPBACK.has(host) && !flags.exposed && !tls) {
    throw cliError("usage_invalid", `${host} can be reached by other machines, and the gateway speaks plain HTTP.`, {
      hints: ["Give it a certificate with --tls-cert and --tls-key, put a proxy with TLS before it, or say --exposed."],
    });
  }
  if (flags.peer !== undefined && databaseUrl === undefined) {
    throw cliError("usage_invalid", "A second gateway shares the first one's database.", {
      hints: ["Name it with --database-url, for both of them."],
    });
  }
  const peer =
    flags.peer === undefined
      ? undefined
      : { url: flags.peer, ...(flags.invite === undefined ? {} : { invite: flags.invite }) };
  const country = flags.jurisdiction?.toUpperCase();
  if (country !== undefined && !/^[A-Z]{2}$/.test(country)) {
    throw cliError("usage_invalid", "A jurisdiction is one country here, for example DE.");
  }
  output.progress("starting");
  const server = await world
    .startServer({
      host,
      port,
      quiet: false,
      ...(databaseUrl === undefined ? {} : { databaseUrl }),
      ...(tls ? { tls } : {}),
      ...(peer ? { peer } : {}),
      ...(country === undefined ? {} : { country }),
    })
    .catch((cause: unknown) => {
      throw explained(cause, world.home, host, port);
    });
  try {
    writeWhole(gatewayFile(world.home), JSON.stringify({ url: server.url, pid: process.pid }));
    const demo = await firstInference(cli, server.url);
    const chain = await gatewayAt(cli, server.url, true)
      .client.chain({ signal: world.interrupt })
      .catch(() => undefined);
    const { style } = output;
    output.answer(
      () =>
        [
          style.strong("Assay"),
          "",
          facts(
            [
              ["Serving", server.url],
              ["Home", world.home],
              ["Version", world.version],
              ...(chain && chain.state !== "none"
                ? ([["Payments", chainWords(chain)]] as const)
                : existsSync(join(world.home, "prices.json"))
                  ? ([["Payments", "off: everything is free, also what has a price in this home"]] as const)
                  : []),
            ],
            style,
          ),
          ...(demo && "text" in demo ? ["", demo.text] : []),
          "",
          style.faint("  Ask it yourself, from another terminal:"),
          `  npx assay run ${DEMO.model} --input ${DEMO.input}=@${join(world.modelsFolder, "digits", "samples", "three.png")}${demo && "price" in demo ? " --max-spend AMOUNT" : ""}`,
          ...(demo && "path" in demo ? [`  npx assay verify ${demo.path}`] : []),
          '  npx assay chat "What is 17 + 25?"',
          ...(chain?.development === true && !existsSync(walletPath(world))
            ? ["  npx assay wallet new && npx assay wallet fund"]
            : []),
        ].join("\n"),
      () => ({
        url: server.url,
        home: world.home,
        version: world.version,
        network: chain?.network ?? null,
        demo: demo && "json" in demo ? demo.json : null,
      }),
    );
    await interrupted(world.interrupt);
    output.note(output.noteStyle.faint("Finishing what is under way."));
    return EXIT.done;
  } finally {
    if (ownsFile(world.home)) rmSync(gatewayFile(world.home), { force: true });
    await server.close();
  }
}

/** Certificate and key, when both are named. */
async function tlsOf(
  { world }: Cli,
  { tlsCert, tlsKey }: StartFlags,
): Promise<{ readonly cert: string; readonly key: string } | undefined> {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw cliError("usage_invalid", "HTTPS needs a certificate and its key.", {
      hints: ["Give both --tls-cert FILE and --tls-key FILE."],
    });
  }
  const pem = async (path: string, what: string): Promise<string> =>
    new TextDecoder().decode(await readWhole(absolute(world, path), MAX_PEM_BYTES, what));
  return { cert: await pem(tlsCert, "certificate"), key: await pem(tlsKey, "key") };
}

/** An inference that is shown, or that the model has a price and nobody pays it at a start. */
type Demo =
  | { readonly text: string; readonly path: string; readonly json: { readonly [key: string]: string } }
  | { readonly price: true };

function chainWords({ network, development, state }: ChainDocument): string {
  const kind = development ? "a development chain on this machine, whose money is worth nothing" : "a public chain";
  return `${network}${state === "starting" ? ", starting" : ""}: ${kind}`;
}

// The demonstration is an ordinary inference over HTTP, kept and verified like any other; a home whose demo model was
// replaced, or an installation without the sample, simply starts without it.
async function firstInference(cli: Cli, url: string): Promise<Demo | undefined> {
  const { output, world } = cli;
  const sample = join(world.modelsFolder, "digits", DEMO.sample);
  if (!existsSync(sample)) return undefined;
  try {
    const gateway = gatewayAt(cli, url, true);
    const { price } = await gateway.client.model(DEMO.model, { signal: world.interrupt });
    if (price && Object.entries(price).some(([rate, amount]) => rate !== "asset" && Number(amount) > 0)) {
      output.note(
        `${output.noteStyle.mark("other", "pass")} ${DEMO.model} has a price, so no first inference is shown: \`npx assay price\` lists prices.`,
      );
      return { price: true };
    }
    const { answer, verdict, path, text } = await runOnce(
      cli,
      gateway,
      { input: [`${DEMO.input}=@${sample}`], profile: "portable", retention: "none", identify: false },
      DEMO.model,
    );
    const { style } = output;
    const lines = [
      `${style.faint(`First inference, of ${sample}:`)} ${text}`,
      "",
      `${style.faint("Receipt")}  ${path}`,
      verdictLine(verdict, style),
    ];
    return {
      path,
      text: lines.join("\n").replaceAll(/^(?=.)/gm, "  "),
      json: { receiptId: answer.receiptId, path, status: verdict.status },
    };
  } catch (error) {
    if (world.interrupt.aborted || !isAssayError(error)) throw error;
    output.note(`${output.noteStyle.mark("other", "inconclusive")} The first inference did not work: ${error.message}`);
    return undefined;
  }
}

function explained(cause: unknown, home: string, host: string, port: number): unknown {
  if (isAssayError(cause) && cause.code === "log_locked") {
    return cliError("home_in_use", `Another process already serves ${home}.`, { cause, hints: [cause.message] });
  }
  if ((cause as { code?: unknown }).code === "EADDRINUSE") {
    return cliError("usage_invalid", `Something else listens at ${host}:${port}.`, {
      cause,
      hints: [`Choose another port with \`assay start --port ${port + 1}\`.`],
    });
  }
  return cause;
}

// A gateway that was started over this home since then has written its own address.
function ownsFile(home: string): boolean {
  try {
    return readFileSync(gatewayFile(home), "utf8").includes(`"pid":${process.pid}`);
  } catch {
    return false;
  }
}

function interrupted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
