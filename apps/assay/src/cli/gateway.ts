import { join } from "node:path";
import { isAssayError, parseJson } from "@assay/core";
import type { Signer } from "@assay/core";
import { nodeSuite, openKeystore } from "@assay/driver-crypto";
import { createClient, GatewayError } from "@assay/sdk";
import type { Client, Payer } from "@assay/sdk";
import type { Cli } from "./command.ts";
import { readIfThere } from "./files.ts";
import { cliError } from "./render-error.ts";
import { watchFetch } from "./watched-fetch.ts";
import type { WatchedFetch } from "./watched-fetch.ts";
import type { RunningServer, World } from "./world.ts";

/** A gateway for the time of one command. */
export type Gateway = {
  readonly client: Client;
  readonly url: string;
  /** Whether it runs with this home, so that its keys are the person's own. */
  readonly own: boolean;
  /** The same client, with somebody who pays. */
  readonly paidBy: (payer: Payer) => Client;
  /** How it is asked: waits while it is starting, and remembers what was to be paid. */
  readonly watched: WatchedFetch;
};

export type GatewayFlags = { readonly url?: string };

/** Milliseconds that a gateway on this machine is given to say that it is there. */
const PROBE_TIMEOUT_MS = 1_000;
const MAX_GATEWAY_FILE_BYTES = 4096;

/** Where a running `assay start` leaves its address for other commands of the same home. */
export function gatewayFile(home: string): string {
  return join(home, "gateway.json");
}

/** The key that this home's owner is known by; made on first use. */
export function ownerKey(world: World): Signer {
  return openKeystore(join(world.home, "keys")).signer("owner", "ed25519");
}

/**
 * Runs `use` with the gateway that was named (flag, then environment), else the one that runs with this home, else one
 * at the usual address, else one started in this process for this command alone and closed after it. Throws
 * `home_in_use` when another process holds the home and cannot be reached. With `needsDatabase` one that is started here
 * is ready to look up receipts and models before `use` runs.
 */
export async function withGateway<Result>(
  cli: Cli,
  flags: GatewayFlags & { readonly needsDatabase?: boolean },
  use: (gateway: Gateway) => Promise<Result>,
): Promise<Result> {
  const { world, output } = cli;
  const named = flags.url ?? world.url;
  if (named !== undefined) return use(gatewayAt(cli, named, false));
  const running = await findRunning(cli);
  if (running) return use(running);
  output.progress("no gateway answers; starting one for this command");
  const started = await startOrFind(cli);
  if ("client" in started) return use(started);
  const server = started;
  try {
    if (flags.needsDatabase === true) await server.databaseReady;
    // Tokens are kept in the database, so whoever has to sign in waits for it, and nobody else does.
    const owner = ownerKey(world);
    const patient: Signer = {
      ...owner,
      sign: async (message) => {
        await server.databaseReady;
        return owner.sign(message);
      },
    };
    return await use(gatewayAt(cli, server.url, true, patient));
  } finally {
    await server.close();
  }
}

/**
 * Runs `use` as {@link withGateway} does with one that knows of money, and has it said in words when it takes no payments:
 * it has none of those routes then.
 */
export function withMoney<Result>(
  cli: Cli,
  flags: GatewayFlags,
  use: (gateway: Gateway) => Promise<Result>,
): Promise<Result> {
  return withGateway(cli, { ...flags, needsDatabase: true }, async (gateway) => {
    try {
      return await use(gateway);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== "route_not_found") throw error;
      const { code, status, request, retryAfterMs } = error;
      const hints = ["It does when it is started without ASSAY_CHAIN=off."];
      const message = `The gateway at ${gateway.url} takes no payments: it has no chain.`;
      throw new GatewayError(code, message, { status, request, retryAfterMs, hints });
    }
  });
}

/** The gateway at `url`, asked as this home's owner. */
export function gatewayAt(cli: Cli, url: string, own: boolean, signer = ownerKey(cli.world)): Gateway {
  const { now, sleep } = cli.world;
  const watched = watchFetch(cli);
  const options = { url, fetch: watched.fetch, now, sleep, suite: nodeSuite, signer };
  return { client: createClient(options), url, own, paidBy: (payer) => createClient({ ...options, payer }), watched };
}

/** The gateway that runs with this home, else one at the usual address. */
async function findRunning(cli: Cli): Promise<Gateway | undefined> {
  const { world } = cli;
  const local = await localUrl(world);
  if (local !== undefined && (await answers(world, local))) return gatewayAt(cli, local, true);
  const usual = world.usualUrl;
  return usual !== undefined && (await answers(world, usual)) ? gatewayAt(cli, usual, false) : undefined;
}

// Whoever holds the home and does not answer may be a gateway in its first second, which has not said yet where it listens.
async function startOrFind(cli: Cli): Promise<RunningServer | Gateway> {
  const { wait } = watchFetch(cli);
  for (;;) {
    try {
      return await start(cli.world);
    } catch (error) {
      if (!isAssayError(error) || error.code !== "home_in_use" || !(await wait("address"))) throw error;
      const running = await findRunning(cli);
      if (running) return running;
    }
  }
}

/** The address of the gateway that runs with this home, as it left it; it may be gone. */
export function gatewayUrlOf(world: World): Promise<string | undefined> {
  return localUrl(world);
}

async function start(world: World): Promise<RunningServer> {
  const settings = await world.serverSettings();
  try {
    return await world.startServer({
      host: "127.0.0.1",
      port: 0,
      ...(settings.databaseUrl === undefined ? {} : { databaseUrl: settings.databaseUrl }),
      quiet: true,
    });
  } catch (cause) {
    if (isAssayError(cause) && cause.code === "log_locked") {
      throw cliError("home_in_use", `Another process works with ${world.home}, and no gateway answers for it.`, {
        cause,
        hints: [cause.message, "Wait for it to end, or name the gateway it runs with --url."],
      });
    }
    throw cause;
  }
}

async function localUrl(world: World): Promise<string | undefined> {
  const bytes = await readIfThere(gatewayFile(world.home), MAX_GATEWAY_FILE_BYTES, "gateway file");
  if (!bytes) return undefined;
  try {
    const value = parseJson(bytes, { maxBytes: MAX_GATEWAY_FILE_BYTES, maxDepth: 2 });
    const url = typeof value === "object" && value !== null && "url" in value ? value["url"] : undefined;
    return typeof url === "string" ? url : undefined;
  } catch {
    // A half-known address is no address: the next one is tried.
    return undefined;
  }
}

async function answers(world: World, url: string): Promise<boolean> {
  try {
    const signal = AbortSignal.any([world.interrupt, AbortSignal.timeout(PROBE_TIMEOUT_MS)]);
    const response = await world.fetch(`${url.replace(/\/+$/, "")}/livez`, {
      method: "GET",
      redirect: "error",
      signal,
    });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
