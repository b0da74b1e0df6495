import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { isAssayError } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { findChainBinary } from "@assay/driver-chain";
import { createClient, GatewayError, listingList, paymentList, read } from "@assay/sdk";
import type { Client, PaymentDocument } from "@assay/sdk";
import { fail, pass, runningGateway, warn } from "./doctor-checks.ts";
import type { Finding } from "./doctor-checks.ts";
import { ownerKey } from "./gateway.ts";
import { formatTime } from "./style.ts";
import { walletPath } from "./wallet.ts";
import type { World } from "./world.ts";

/** Payments of one state that are looked at: whether there are any, and since when, is what is asked. */
const LOOK_AT = 100;
/** A payment that is due for longer has been passed over: the settler looks several times a minute. */
const LATE_MS = 2 * 60_000;

async function gatewayOf(world: World): Promise<Client | undefined> {
  const url = await runningGateway(world);
  if (url === undefined) return undefined;
  const { fetch, now, sleep } = world;
  return createClient({ url, fetch, now, sleep, suite: nodeSuite, signer: ownerKey(world), retries: 0 });
}

/** Whether there is a chain to settle on: the running gateway's, else what the embedded one needs. */
export async function checkChain(world: World): Promise<Finding> {
  const client = await gatewayOf(world);
  if (!client) return checkChainBinary(world);
  const chain = await client.chain({ signal: world.interrupt }).catch((error: unknown) => {
    if (error instanceof GatewayError && error.status === 404) return undefined;
    throw error;
  });
  if (!chain) return pass("The gateway has no chain: everything is free.");
  const { state, network, development, blockNumber } = chain;
  const kind = development ? "a development chain" : "a public chain";
  switch (state) {
    case "running":
      return pass(`${network}, ${kind}, at block ${blockNumber ?? "unknown"}.`);
    case "starting":
      return warn(`${network}, ${kind}, is starting.`, "Look again in a few seconds: `assay chain status`.");
    case "down":
      return fail(`${network}, ${kind}, does not answer.`, "The gateway's log says why; what is free goes on.");
    case "none":
      return pass("The gateway has no chain: everything is free.");
  }
}

function checkChainBinary({ variable }: World): Finding {
  const configured = variable("ASSAY_CHAIN") ?? "";
  if (configured === "off") return pass("Payments are off.");
  if (/^https?:/.test(configured)) return pass("Another node's chain; it is asked once a gateway runs.");
  try {
    const binary = findChainBinary();
    if (existsSync(binary)) return pass("The embedded chain is installed; it starts with a gateway.");
  } catch (error) {
    if (!isAssayError(error)) throw error;
  }
  return warn(
    "The embedded chain is not installed, so nothing can be paid for.",
    "Run `npm ci` without --omit=optional; everything that is free works without it.",
  );
}

/** Whether the wallet is there, and who can open it. */
export function checkWallet(world: World): Promise<Finding> {
  const path = walletPath(world);
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return Promise.resolve(pass("None yet; `assay wallet new` makes one."));
  if (process.platform !== "win32" && (found.mode & 0o077) !== 0)
    return Promise.resolve(fail(`Others can read ${path}.`, `chmod 600 ${path}`));
  const secret = existsSync(join(world.home, "keys", "wallet.key"));
  return Promise.resolve(
    pass(secret ? "Opened by a secret of this home: for development chains." : "Opened by a passphrase."),
  );
}

/** Whether what was paid gets settled, and what has a price. */
export async function checkPayments(world: World): Promise<Finding> {
  const client = await gatewayOf(world);
  if (!client) return pass("No gateway runs with this home; what is due is settled when one does.");
  const signal = world.interrupt;
  const of = async (state: string): Promise<readonly PaymentDocument[]> =>
    read(
      paymentList,
      await client.admin({ method: "GET", path: `/v1/payments?state=${state}&limit=${LOOK_AT}`, signal }),
      "list of payments",
    ).payments;
  let states: readonly (readonly PaymentDocument[])[];
  try {
    states = await Promise.all(["due", "settling", "failed", "dead"].map(of));
  } catch (error) {
    if (error instanceof GatewayError && error.status === 404) return pass("The gateway takes no payments.");
    throw error;
  }
  const { prices } = read(
    listingList,
    await client.admin({ method: "GET", path: "/v1/prices", signal }),
    "list of prices",
  );
  const [due = [], settling = [], failed = [], dead = []] = states;
  if (dead.length > 0)
    return warn(`${few(dead)} given up.`, "See why, and try again: `assay pay ls --state dead`, `assay pay retry ID`.");
  const oldest = Math.min(...[...due, ...settling, ...failed].map(({ takenAtMs }) => takenAtMs));
  const waiting = few([...due, ...settling, ...failed]);
  if (world.now() - oldest > LATE_MS)
    return warn(`${waiting} unsettled, the oldest since ${formatTime(oldest)}.`, "Settle now: `assay pay settle`.");
  return pass(`${prices.length} prices; ${waiting} unsettled, none given up.`);
}

function few(payments: readonly unknown[]): string {
  const count = payments.length >= LOOK_AT ? `${LOOK_AT} or more` : String(payments.length);
  return `${count} ${payments.length === 1 ? "payment is" : "payments are"}`;
}
