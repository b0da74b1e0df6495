import { AssayError } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { TEXT_LIMITS, isDatatype } from "@assay/protocol";
import { exportAir, receiptJson, viewReceipt } from "@assay/receipts";
import {
  createApi,
  createExporter,
  createItemMemory,
  createOpeningVault,
  createPayments,
  describe,
  mountRouteApi,
  startGateway,
} from "@assay/service-gateway";
import type { Auth } from "@assay/service-gateway";
import type { Hub } from "@assay/service-hub";
import { timeOrderedId } from "@assay/service-node";
import { createChecking } from "./checking.ts";
import type { Engines } from "./engines.ts";
import type { Home } from "./home.ts";
import type { LogIndex } from "./log-index.ts";
import type { LogPlace } from "./log-place.ts";
import { serverMetrics } from "./metrics.ts";
import { createServable, modelsModule } from "./models.ts";
import type { Money } from "./money/money.ts";
import type { Nodes } from "./nodes.ts";
import type { Content } from "./open-hub.ts";
import { recentReceipts } from "./recent.ts";
import type { Records } from "./records.ts";
import { routeTensors } from "./tensors.ts";
import type { Trusting } from "./trusting.ts";

/** Every room of a server, for those who ask it something. */
export type Rooms = {
  readonly place: LogPlace;
  readonly index: LogIndex;
  readonly blobs: Content;
  readonly records: Records;
  readonly hub: Hub;
  readonly auth: Auth;
  readonly nodes: Nodes;
  readonly money: Money | undefined;
  readonly engines: Engines;
  readonly trust: Trusting;
};

/** A list waits this long for the index to have what was logged before it was asked for; usually it takes a tenth. */
const INDEXED_WAIT_MS = 250;
const MAX_BLOB_BYTES = 8 * 1024 * 1024 * 1024;
const MAX_JSON_BYTES = 16 * 1024 * 1024;
const DEFAULT_MAX_BODY_BYTES = 256 * 1024 * 1024;

/** Listens, and answers. Resolves with the address once it does. */
export async function startAnswering(home: Home, rooms: Rooms): Promise<{ readonly url: string }> {
  const { config, suite, now, random, keystore, logger, undo } = home;
  const { records, hub, auth, nodes, money } = rooms;
  const { recorder, parties, book } = records;
  const { runtime, node, text, auditor } = rooms.engines;
  const { log } = rooms.place;
  const recent = recentReceipts();
  const metrics = serverMetrics({ log, recorder, runtime, lagRecords: rooms.index.lagRecords });
  const vault = createOpeningVault(keystore.secret("openings"));
  const payments = money
    ? createPayments({
        desk: money.desk,
        log,
        vault,
        suite,
        metrics,
        now,
        individual: money.individual,
        allFree: money.allFree,
        mayCost: money.mayCost,
        v1: money.v1,
        onError: (error) => logger.warn({ err: describe(error) }, "payment"),
      })
    : undefined;
  const servable = createServable(hub);
  const answers = { recorder, vault, auth, suite, metrics, auditor, payments, now, onReceipt: recent.add };
  const maxBodyBytes = config.maxBodyBytes ?? DEFAULT_MAX_BODY_BYTES;
  const gateway = await startGateway(
    {
      host: config.host,
      port: config.port,
      ...(config.tls ? { tls: config.tls } : {}),
      ...(config.requestTimeoutMs === undefined ? {} : { requestTimeoutMs: config.requestTimeoutMs }),
    },
    {
      api: openApi(home, rooms, { servable, recent: recent.get, metrics, vault, payments }),
      logger,
      infer: {
        ...answers,
        execute: routeTensors((request) => node.execute(request), {
          registry: book.registry,
          router: text.router,
          network: nodes.network,
        }),
        model: servable,
        rawInput: async (model) => {
          const { signature } = await hub.facts(hub.catalogue.resolve(model.name, model.version));
          const [only, ...more] = signature.inputs;
          if (!only || more.length > 0 || !isDatatype(only.datatype)) return {};
          return { rawInput: { name: only.name, datatype: only.datatype, shape: only.shape } };
        },
        nodeSubject: parties.nodeSubject,
        maxBodyBytes,
      },
      text: {
        ...answers,
        router: text.router,
        random,
        receiptId: () => timeOrderedId(now(), random(10)),
        items: createItemMemory(now),
        maxBodyBytes: Math.min(maxBodyBytes, TEXT_LIMITS.maxBodyBytes),
      },
    },
  );
  undo.push(() => {
    nodes.leave();
    return gateway.close();
  });
  return { url: gateway.url };
}

type ApiModules = Parameters<typeof createApi>[0];

/** Everything that is answered beside inference. */
function openApi(
  { config, suite, now }: Home,
  { place, index, blobs, records, hub, auth, nodes, money, engines, trust }: Rooms,
  shared: {
    readonly servable: ReturnType<typeof createServable>;
    readonly recent: NonNullable<ApiModules["recent"]>;
    readonly metrics: ApiModules["metrics"];
    readonly vault: ApiModules["vault"];
    readonly payments: ApiModules["payments"];
  },
): ReturnType<typeof createApi> {
  const { recorder, parties, state, book } = records;
  const { node, text } = engines;
  const { log } = place;
  const exporter = createExporter({
    log,
    index: index.stores.index,
    state,
    suite,
    logSigner: place.signer,
    ...(place.cosigned ? { cosigned: place.cosigned } : {}),
    ...(money ? { anchor: money.anchor } : {}),
  });
  const checking = createChecking({
    suite,
    trust: trust.current,
    now,
    execute: (request) => node.execute(request),
    engine: text.local,
    model: (name, version) => shared.servable(name, version, undefined),
    files: async ({ name, version }) => (await hub.materialise(hub.catalogue.resolve(name, version))).all,
    recheckable: async (manifestDigest) => (await hub.facts({ manifestDigest })).language?.recheckable ?? false,
  });
  const api = createApi({
    log,
    index: index.stores.index,
    blobs,
    putUntil: blobs.kept?.putUntil,
    suite,
    models: modelsModule(hub),
    exporter,
    recorder,
    vault: shared.vault,
    auth,
    metrics: shared.metrics,
    trust: trust.current,
    verify: checking.verify,
    audit: checking.audit,
    logKeys: place.trusted.keys,
    receiptView: (bundle) => receiptJson(requireView(bundle)),
    exportAir: (bundle) => exportAir(requireView(bundle), parties.executionSigner()),
    recent: shared.recent,
    indexed: async () => {
      if (index.stores.available()) await index.settled(INDEXED_WAIT_MS);
    },
    ready: () => readiness([place.problem(), index.problem()]),
    textModels: () => text.router.textModels(),
    payments: shared.payments,
    ...(money ? { listings: money.listings, describeListing: money.describeListing } : {}),
    options: { version: config.version, maxBlobBytes: MAX_BLOB_BYTES, maxJsonBytes: MAX_JSON_BYTES },
  });
  mountRouteApi(api, { auth, ...text });
  money?.routes(api, { auth, session: book.registry.session });
  nodes.routes(api);
  return api;
}

function readiness(problems: readonly (string | undefined)[]): { ready: boolean; reasons: readonly string[] } {
  const reasons = problems.filter((problem) => problem !== undefined);
  return { ready: reasons.length === 0, reasons };
}

function requireView(bundle: Uint8Array): Extract<ReturnType<typeof viewReceipt>, { view: unknown }>["view"] {
  const taken = viewReceipt(nodeSuite, bundle);
  if ("fault" in taken) throw new AssayError(taken.fault.code, taken.fault.message);
  return taken.view;
}
