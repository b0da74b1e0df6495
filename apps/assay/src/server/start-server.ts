import { createAuth, ownerOf } from "@assay/service-gateway";
import { seedDemoModels } from "../demo/seed.ts";
import { startAnswering } from "./answering.ts";
import { openRuntime, startEngines } from "./engines.ts";
import { openHome } from "./home.ts";
import type { Home } from "./home.ts";
import { openLogIndex } from "./log-index.ts";
import type { LogIndex } from "./log-index.ts";
import { joinLog, openOwnLog } from "./log-place.ts";
import type { LogPlace } from "./log-place.ts";
import type { Money } from "./money/money.ts";
import { createNodes } from "./nodes.ts";
import { openBlobs, openHub } from "./open-hub.ts";
import { openRecords } from "./records.ts";
import type { Records } from "./records.ts";
import type { RunningServer, ServerConfig } from "./server-config.ts";
import { openTrust } from "./trusting.ts";
import { followTheLog, startUpkeep } from "./upkeep.ts";
import type { BlobStore } from "@assay/protocol";

export type { RunningServer, ServerConfig } from "./server-config.ts";

/** Settling begins when the index has what the log has: a minute's work for a few hundred thousand records. */
const INDEX_CATCHES_UP_MS = 600_000;
/** How long somebody who waits for the database waits for its index. */
const DATABASE_READY_MS = 30_000;

/** Starts everything in this process over `config.home`: log, hub, runtime, database, gateway. */
export async function startServer(config: ServerConfig): Promise<RunningServer> {
  const home = await openHome(config);
  try {
    return await open(home);
  } catch (error) {
    await home.undo.unwind();
    throw error;
  }
}

/** Opens one room after the other; each leaves in `undo` how it is closed. */
async function open(home: Home): Promise<RunningServer> {
  const { config, suite, now, keystore, ownerKey, undo } = home;
  const place = await openLogPlace(home);
  const index = openLogIndex(home, place);
  const blobs = await openBlobs(home, place);
  const records = await openRecords(home, place);
  records.listen((decoded) => index.offer(decoded));
  const hub = await openHub(home, place, records, blobs);
  const runtime = openRuntime(home);
  const auth = createAuth({
    secrets: index.stores.secrets,
    suite,
    challengeSecret: keystore.secret("challenges"),
    operatorKey: ownerKey.publicKey,
    now,
  });
  const nodes = await createNodes({
    ...records.book,
    log: place.log,
    state: records.state,
    recorder: records.recorder,
    auth,
    blobs,
    suite,
    operatorKey: ownerKey.publicKey,
    onRecorded: records.onRecorded,
    now,
    lendsLog: place.own !== undefined,
    onHeard: (subject, atMs) => engines.text.router.heard(subject, atMs),
  });
  undo.push(() => nodes.close());
  // A chain that is begun anew has contracts of the same addresses: what is trusted once stays true.
  let trustChain = (): void => undefined;
  const money = await openMoneyIfAny(home, { place, index, records, blobs, onRunning: () => trustChain() });
  const engines = await startEngines(home, { place, records, hub, runtime, nodes, money });
  const trust = await openTrust(home, place, records, () => money?.trusted());
  trustChain = trust.extend;
  trustChain();
  followTheLog(home, place, records, index, hub);
  if (config.seed !== false && place.own)
    await seedDemoModels({ hub, blobs, suite, owner: ownerOf(ownerKey.publicKey) });
  startUpkeep(home, place, records);
  const { url } = await startAnswering(home, { place, index, blobs, records, hub, auth, nodes, money, engines, trust });
  return running(home, { url, trust: trust.own, hub, log: place.log, runtime, index, money });
}

function openLogPlace({ config, at, keystore, now, undo }: Home): Promise<LogPlace> {
  const place = config.peer
    ? joinLog(keystore, config.peer, now)
    : openOwnLog(keystore, { directory: at("log"), now, witnesses: config.witnesses ?? [], log: config.log });
  return place.then((opened) => {
    undo.push(() => opened.close());
    return opened;
  });
}

/** Chain, ledger and settler, where anything can have a price. What they stand on is loaded only then. */
async function openMoneyIfAny(
  { config, at, keystore, suite, now, logger, undo }: Home,
  parts: {
    readonly place: LogPlace;
    readonly index: LogIndex;
    readonly records: Records;
    readonly blobs: BlobStore;
    readonly onRunning: () => void;
  },
): Promise<Money | undefined> {
  if (!config.money) return undefined;
  const { place, index, records } = parts;
  const { openMoney } = await import("./money/open-money.ts");
  const money = await openMoney(config.money, {
    at,
    keystore,
    log: place.log,
    blobs: parts.blobs,
    recorder: records.recorder,
    suite,
    database: index.starting,
    indexed: () => index.settled(INDEX_CATCHES_UP_MS),
    settles: place.own !== undefined,
    ...(place.askOwner ? { owner: place.askOwner } : {}),
    gateway: records.parties.gatewaySubject,
    host: config.host,
    now,
    logger,
    onRunning: parts.onRunning,
  });
  records.listen((decoded, next) => money.ingest(decoded, next));
  undo.push(() => money.close());
  return money;
}

function running(
  { undo }: Home,
  parts: Pick<RunningServer, "url" | "trust" | "hub" | "log" | "runtime"> & {
    readonly index: LogIndex;
    readonly money: Money | undefined;
  },
): RunningServer {
  const { index, money, ...own } = parts;
  const databaseReady = index.starting.then(async () => {
    await index.settled(DATABASE_READY_MS);
  });
  // Whoever waits for it hears of a failure; nobody has to.
  databaseReady.catch(() => undefined);
  let closing: Promise<void> | undefined;
  return {
    ...own,
    databaseReady,
    ...(money ? { money } : {}),
    rebuildIndex: index.rebuild,
    close() {
      closing ??= undo.unwind();
      return closing;
    },
  };
}
