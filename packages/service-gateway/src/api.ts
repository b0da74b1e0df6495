import { OpenAPIHono, createRoute, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { AssayError, bytesToHex, hexToBytes, parseJson, utf8ToBytes } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import {
  modelMetadata,
  modelMetadataSchema,
  modelReady,
  modelReadySchema,
  serverLiveSchema,
  serverMetadata,
  serverMetadataSchema,
  serverReadySchema,
} from "@assay/protocol";
import type {
  BlobStore,
  Datatype,
  IndexStore,
  Listing,
  Listings,
  LogSink,
  ReceiptRow,
  StoredRecord,
} from "@assay/protocol";
import { BUNDLE_MEDIA_TYPE, encodeBundle, trustView } from "@assay/receipts";
import type { Trust } from "@assay/receipts";
import type { Auth, Caller } from "./auth.ts";
import type { Exporter } from "./exporter.ts";
import { problemOf } from "./http-errors.ts";
import { assertReadable, isReadable } from "./infer.ts";
import type { ServableModel } from "./infer.ts";
import { limitBody } from "./limit-body.ts";
import type { Metrics } from "./metrics.ts";
import { declareTextRoutes } from "./openai/document.ts";
import { openAiHubModel, openAiTextModel } from "./openai/models.ts";
import type { ListedTextModel } from "./openai/models.ts";
import type { OpeningVault } from "./openings.ts";
import { mountPriceApi } from "./payments/price-api.ts";
import type { PriceApiModules } from "./payments/price-api.ts";
import type { Payments } from "./payments/payments.ts";
import { digestOf, keptUntil, mountReceiptApi, uploadUse } from "./payments/receipt-api.ts";
import type { ReceiptApiModules } from "./payments/receipt-api.ts";
import { paidRoute, payerOf, stateOfService } from "./payments/service.ts";
import type { Recorder } from "./recorder.ts";
import * as schema from "./schemas.ts";
import { decodeSidecar } from "./sidecar.ts";
import { writable } from "./writable.ts";

/** What the gateway needs of the hub, as functions, so that neither knows the other. */
export type ModelsModule = {
  /** The version that `text` names; private ones of others are as if they were not there for `viewer`. */
  readonly resolve: (text: string, viewer: string | undefined) => ListedModel;
  readonly versions: (name: string) => readonly ListedModel[];
  readonly list: (prefix: string) => readonly ListedModel[];
  readonly facts: (model: ListedModel) => Promise<{
    readonly manifest: {
      readonly bytes: Uint8Array;
      readonly manifest: {
        readonly files: readonly { readonly path: string; readonly sha256: string; readonly sizeBytes: number }[];
      };
    };
    readonly signature: {
      readonly inputs: readonly {
        readonly name: string;
        readonly datatype: string;
        readonly shape: readonly number[];
        readonly optional: boolean;
      }[];
      readonly outputs: readonly {
        readonly name: string;
        readonly datatype: string;
        readonly shape: readonly number[];
      }[];
    };
    readonly preprocessing: JsonValue;
    readonly card: string | null;
    /** Of models that are asked with text. */
    readonly language?: object;
  }>;
  readonly release: (request: {
    readonly name: string;
    readonly manifest: Uint8Array;
    readonly owner: string;
    readonly visibility: "public" | "private";
  }) => Promise<ListedModel>;
  readonly change: (
    name: string,
    version: number,
    action: "deprecate" | "rollback",
    owner: string,
  ) => Promise<ListedModel>;
};

/** A version as the hub's catalogue lists it. */
export type ListedModel = Omit<ServableModel, "path" | "sha256"> & {
  readonly status: "released" | "deprecated";
  readonly sizeBytes: number;
  readonly releasedAtMs: number;
  readonly logIndex: number;
};

export type ApiModules = {
  readonly log: LogSink;
  readonly index: IndexStore;
  readonly blobs: BlobStore;
  /** Stores a blob until a time, milliseconds since 1970; without it uploads that were paid for stay for good as well. */
  readonly putUntil?:
    | ((
        source: Parameters<BlobStore["put"]>[0],
        untilMs: number,
        options: { readonly maxBytes?: number; readonly expected: string },
      ) => ReturnType<BlobStore["put"]>)
    | undefined;
  readonly suite: CryptoSuite;
  readonly models: ModelsModule;
  /**
   * Models under names that are not the hub's: upstreams' and contracts. What it last knew when an upstream is away: a
   * list must not fail with one of its parts.
   */
  readonly textModels?: () => Promise<readonly ListedTextModel[]>;
  readonly exporter: Exporter;
  readonly recorder: Recorder;
  readonly vault: OpeningVault;
  readonly auth: Auth;
  readonly metrics: Metrics;
  readonly trust: () => Trust;
  readonly logKeys: readonly string[];
  /** The JSON view of a bundle, for people. */
  readonly receiptView: (bundle: Uint8Array) => JsonValue;
  /** AIR v1 form of a bundle's execution, signed by the node. */
  readonly exportAir: (bundle: Uint8Array) => Promise<Uint8Array>;
  /** Log index of a receipt that is too new for the index. */
  readonly recent: (receiptId: string) => number | undefined;
  /** Waits a moment until the index has what is in the log now: who just got a receipt finds it listed. */
  readonly indexed: () => Promise<void>;
  readonly ready: () => { readonly ready: boolean; readonly reasons: readonly string[] };
  /** Takes payments; without it everything is free. */
  readonly payments?: Payments | undefined;
  /** Prices, for the routes that show and set them; without it they are not there. */
  readonly listings?: Listings | undefined;
  readonly describeListing?: PriceApiModules["describeListing"];
  readonly verify?: ReceiptApiModules["verify"];
  readonly audit?: ReceiptApiModules["audit"];
  readonly options: ApiOptions;
};

export type ApiOptions = {
  readonly version: string;
  readonly maxBlobBytes: number;
  readonly maxJsonBytes: number;
};

/** Challenges and their answers are a few hundred bytes, and anybody may send them. */
const MAX_AUTH_BYTES = 64 * 1024;
/** Who may call, for the document: everybody (who sees more with a token), owners, and holders of a receipt. */
const ANYBODY = [{}, { token: [] }];
const OWNER = [{ token: [] }];
const HOLDER = [{ grant: [] }, { token: [] }];
const MAX_WAIT_MS = 30_000;
const MAX_PAGE = 1000;
const RECEIPT_ID = /^[0-9a-f]{32}$/;

/** All routes but infer, with the OpenAPI document they make. */
export function createApi(modules: ApiModules): OpenAPIHono {
  const { auth, exporter, index, models, options } = modules;
  const app = new OpenAPIHono({
    defaultHook: (result, context) => {
      if (result.success) return;
      const problems = result.error.issues.map((issue) => `${issue.path.join(".") || "body"}: ${issue.message}`);
      return context.json(
        {
          error: `The request does not fit: ${problems.join("; ")}.`,
          code: "request_invalid",
          hints: ["See /openapi.json for its schema."],
          docs: "/errors/request_invalid.md",
        },
        400,
      );
    },
  });
  app.onError((error, context) => {
    const problem = problemOf(error);
    const env: { readonly onFailure?: (error: unknown) => void } | undefined = context.env;
    env?.onFailure?.(error);
    modules.metrics.refusals.inc({ code: problem.body.code });
    return new Response(JSON.stringify({ ...problem.more, ...problem.body }), {
      status: problem.status,
      headers: { ...problem.headers, "content-type": "application/json" },
    });
  });
  app.notFound((context) => {
    const error = new AssayError("route_not_found", `There is nothing at ${context.req.method} ${context.req.path}.`, {
      hints: ["GET /openapi.json lists every route."],
    });
    return context.json(problemOf(error).body, 404);
  });

  app.use("/v1/auth/*", limitBody(MAX_AUTH_BYTES));
  app.use("/v1/models/*", limitBody(options.maxJsonBytes));
  app.use("/v1/receipts/*", limitBody(options.maxJsonBytes));

  const callerOf = (context: Context): Promise<Caller | undefined> => auth.caller(context.req.header("authorization"));
  const owner = async (context: Context): Promise<Caller> => {
    const caller = await callerOf(context);
    if (!caller)
      throw new AssayError("token_required", "This needs an owner's token.", {
        hints: ["Sign a challenge at /v1/auth/challenge and send the token as a bearer."],
      });
    return caller;
  };

  /** A receipt that another gateway just wrote is in the log before it is in the index: its row is waited for, once. */
  const indexedRow = async (id: string): Promise<ReceiptRow | undefined> => {
    const row = await index.receipt(id);
    if (row) return row;
    await modules.indexed();
    return index.receipt(id);
  };

  const rowOf = async (
    id: string,
    kinds: readonly string[] = ["execution"],
  ): Promise<{ readonly logIndex: number; readonly row: ReceiptRow | undefined }> => {
    if (!RECEIPT_ID.test(id))
      throw new AssayError("receipt_not_found", "A receipt id is 32 lower-case hexadecimal digits.");
    const recent = modules.recent(id);
    const row = recent === undefined ? await indexedRow(id) : undefined;
    const logIndex = recent ?? row?.logIndex;
    if (logIndex === undefined || (row && !kinds.includes(row.kind)))
      throw new AssayError("receipt_not_found", `There is no receipt ${id} here.`);
    return { logIndex, row };
  };

  /** The log index of a receipt that this caller may read: its owner, the operator, or the holder of its grant. */
  const readable = async (context: Context, id: string): Promise<number> => (await readableRecord(context, id)).index;
  const readableRecord = async (context: Context, id: string, kinds?: readonly string[]): Promise<StoredRecord> => {
    const { logIndex } = await rowOf(id, kinds);
    const record = await modules.log.read(logIndex);
    if (!record) throw new AssayError("receipt_not_found", `There is no receipt ${id} here.`);
    const sidecar = decodeSidecar(record.claims);
    const grant = context.req.header("assay-grant");
    if (grant !== undefined && sidecar.grantSha256 && /^[0-9a-f]{64}$/.test(grant)) {
      if (bytesToHex(modules.suite.sha256(hexToBytes(grant))) === bytesToHex(sidecar.grantSha256)) return record;
    }
    const caller = await callerOf(context);
    if (caller && (caller.owner === sidecar.owner || auth.isOperator(caller.owner))) return record;
    throw new AssayError("receipt_not_yours", `The receipt ${id} is not yours to read.`, {
      hints: ["Send the assay-grant header that came with the answer, or a token of the receipt's owner."],
    });
  };

  const waitOf = (context: Context): number => {
    const wait = Number(context.req.query("waitMs") ?? 2000);
    return Number.isFinite(wait) ? Math.min(Math.max(0, wait), MAX_WAIT_MS) : 2000;
  };

  const bundleFor = async (context: Context, id: string): Promise<Uint8Array> => {
    const logIndex = await readable(context, id);
    const { bundle, complete } = await exporter.bundle(logIndex, waitOf(context));
    if (!complete) context.header("assay-supplements", "unavailable");
    const record = await modules.log.read(logIndex);
    if (!record || record.erased || record.opening.length === 0) return encodeBundle(bundle);
    const openings = modules.vault.open(hexToBytes(id), record.opening);
    return encodeBundle(openings ? { ...bundle, openings } : bundle);
  };

  const listed = (model: ListedModel): z.infer<typeof schema.modelListed> => ({
    name: model.name,
    version: model.version,
    manifestDigest: model.manifestDigest,
    status: model.status,
    visibility: model.visibility,
    sizeBytes: model.sizeBytes,
    releasedAt: new Date(model.releasedAtMs).toISOString(),
    owner: model.owner,
    logIndex: model.logIndex,
  });

  const listingOf = (name: string): Listing | undefined => modules.listings?.get(`model:${name}`);
  const textModels = async (): Promise<readonly ListedTextModel[]> => (await modules.textModels?.()) ?? [];

  const visible = async (context: Context, text: string): Promise<ListedModel> => {
    const caller = await callerOf(context);
    const model = models.resolve(text, caller?.owner);
    assertReadable(model, caller);
    return model;
  };
  const versionsSeen = async (context: Context, name: string): Promise<readonly ListedModel[]> => {
    const caller = await callerOf(context);
    return models.versions(name).filter((one) => isReadable(one, caller));
  };

  const json = <Schema extends z.ZodType>(description: string, of: Schema) => ({
    200: { description, content: { "application/json": { schema: of } } },
    default: schema.problem,
  });
  const route = (
    method: "get" | "post",
    path: string,
    operationId: string,
    summary: string,
    parts: Partial<Parameters<typeof createRoute>[0]>,
  ): ReturnType<typeof createRoute> =>
    createRoute({ method, path, operationId, summary, responses: { default: schema.problem }, ...parts });

  app.openAPIRegistry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
  app.openAPIRegistry.registerComponent("securitySchemes", "grant", {
    type: "apiKey",
    in: "header",
    name: "assay-grant",
    description: "Came with the answer that the receipt is for.",
  });

  // Open Inference Protocol
  app.openapi(
    route("get", "/v2", "server.metadata", "Server metadata", {
      tags: ["inference"],
      responses: json("Name, version and extensions.", serverMetadataSchema),
    }),
    (context) => context.json(serverMetadata("assay", options.version)),
  );
  app.openapi(
    route("get", "/v2/health/live", "server.live", "Whether the server runs", {
      tags: ["inference"],
      responses: json("It does.", serverLiveSchema),
    }),
    (context) => context.json({ live: true }),
  );
  app.openapi(
    route("get", "/v2/health/ready", "server.ready", "Whether the server takes work", {
      tags: ["inference"],
      responses: json("Ready or not.", serverReadySchema),
    }),
    (context) => {
      const { ready } = modules.ready();
      return context.json({ ready }, ready ? 200 : 503);
    },
  );
  const metadata = async (context: Context): Promise<Response> => {
    const version = context.req.param("version");
    const name = context.req.param("model") ?? "";
    const model = await visible(context, version === undefined ? name : `${name}@${version}`);
    const { signature } = await models.facts(model);
    const shaped = (items: readonly { name: string; datatype: string; shape: readonly number[] }[]) =>
      items.map(({ name: of, datatype, shape }) => ({ name: of, datatype: datatype as Datatype, shape }));
    return context.json(
      modelMetadata(
        model.name,
        (await versionsSeen(context, model.name)).map((one) => String(one.version)),
        { inputs: shaped(signature.inputs), outputs: shaped(signature.outputs) },
      ),
    );
  };
  const ready = async (context: Context): Promise<Response> => {
    const version = context.req.param("version");
    const name = context.req.param("model") ?? "";
    const model = await visible(context, version === undefined ? name : `${name}@${version}`);
    return context.json(modelReady(model.name, true));
  };
  for (const [path, params] of [
    ["", schema.modelParams],
    ["/versions/{version}", schema.versionParams],
  ] as const) {
    const suffix = path === "" ? "" : "Version";
    app.openapi(
      route("get", `/v2/models/{model}${path}`, `models.metadata${suffix}`, "Inputs and outputs of a model", {
        security: ANYBODY,
        tags: ["inference"],
        request: { params },
        responses: json("Names, datatypes and shapes.", modelMetadataSchema),
      }),
      metadata as never,
    );
    app.openapi(
      route("get", `/v2/models/{model}${path}/ready`, `models.ready${suffix}`, "Whether a model takes work", {
        security: ANYBODY,
        tags: ["inference"],
        request: { params },
        responses: json("Ready or not.", modelReadySchema),
      }),
      ready as never,
    );
    // The infer route is answered before the framework; here it only enters the document.
    app.openAPIRegistry.registerPath(
      route(
        "post",
        `/v2/models/{model}${path}/infer`,
        `models.infer${suffix}`,
        "Run a model once and get its receipt",
        {
          security: ANYBODY,
          tags: ["inference"],
          request: {
            params,
            headers: schema.inferHeaders,
            body: {
              content: {
                "application/json": { schema: schema.inferRequest },
                "application/octet-stream": { schema: schema.bytes },
              },
            },
          },
          responses: {
            200: {
              description: "Outputs; the receipt is named in the headers.",
              headers: { ...schema.receiptHeaders, ...schema.paidHeaders },
              content: {
                "application/json": { schema: schema.inferResponse },
                "application/octet-stream": { schema: schema.bytes },
              },
            },
            402: { ...schema.problem, ...schema.paymentRequired },
            default: schema.problem,
          },
        },
      ),
    );
  }

  declareTextRoutes(app.openAPIRegistry, route, ANYBODY);

  // Receipts
  app.openapi(
    route("get", "/v1/receipts", "receipts.list", "Receipts of the caller", {
      security: OWNER,
      tags: ["receipts"],
      request: { query: schema.listQuery },
      responses: json("Newest first.", schema.receiptList),
    }),
    async (context) => {
      const caller = await owner(context);
      const query = schema.listQuery.parse(context.req.query());
      const limit = Math.min(query.limit ?? 50, MAX_PAGE);
      await modules.indexed();
      const rows = await index.receipts({
        limit,
        // Releases and keysets stand in the same log and are no receipts.
        kind: "execution",
        ...(auth.isOperator(caller.owner) ? {} : { owner: caller.owner }),
        ...(query.before === undefined ? {} : { before: query.before }),
        ...(query.model === undefined ? {} : { model: query.model }),
      });
      return context.json({
        receipts: rows.map((row) => ({
          receiptId: row.receiptId,
          executionDigest: row.executionDigest,
          kind: row.kind,
          model: row.model,
          mode: row.mode,
          issuedAt: new Date(row.issuedAtMs).toISOString(),
          logIndex: row.logIndex,
          owner: row.owner,
          visibility: row.visibility,
        })),
        next: rows.length === limit ? (rows.at(-1)?.logIndex ?? null) : null,
      });
    },
  );
  app.openapi(
    route("get", "/v1/receipts/{id}", "receipts.show", "A receipt as JSON", {
      security: HOLDER,
      tags: ["receipts"],
      request: { params: schema.receiptParams, query: schema.waitQuery },
      responses: json("The JSON view; the signed form is the bundle.", schema.anyJson),
    }),
    async (context) =>
      context.json(writable(modules.receiptView(await bundleFor(context, context.req.param("id") ?? "")))),
  );
  app.openapi(
    route("get", "/v1/receipts/{id}/bundle", "receipts.bundle", "A receipt as its bundle", {
      security: HOLDER,
      tags: ["receipts"],
      request: { params: schema.receiptParams, query: schema.waitQuery },
      responses: {
        200: {
          description: "Everything needed to verify.",
          content: { [BUNDLE_MEDIA_TYPE]: { schema: schema.bytes } },
        },
        default: schema.problem,
      },
    }),
    async (context) =>
      context.body(Buffer.from(await bundleFor(context, context.req.param("id") ?? "")), 200, {
        "content-type": BUNDLE_MEDIA_TYPE,
      }),
  );
  app.openapi(
    route("get", "/v1/receipts/{id}/proof", "receipts.proof", "That a receipt is in the log", {
      tags: ["receipts"],
      request: { params: schema.receiptParams, query: schema.proofQuery },
      responses: {
        200: {
          description: "C2SP .tlog-proof, or RFC 9942 COSE receipt.",
          content: { "text/plain": { schema: z.string() }, "application/cose": { schema: schema.bytes } },
        },
        default: schema.problem,
      },
    }),
    async (context) => {
      const { logIndex } = await rowOf(context.req.param("id") ?? "");
      if (context.req.query("format") === "cose")
        return bytesResponse(await exporter.coseReceipt(logIndex, waitOf(context)), "application/cose");
      return bytesResponse(
        utf8ToBytes(await exporter.tlogProof(logIndex, waitOf(context))),
        "text/plain; charset=utf-8",
      );
    },
  );
  app.openapi(
    route("post", "/v1/receipts/{id}/air", "receipts.air", "A receipt as AIR v1", {
      security: HOLDER,
      tags: ["receipts"],
      request: { params: schema.receiptParams },
      responses: {
        200: { description: "COSE_Sign1 of the node.", content: { "application/cose": { schema: schema.bytes } } },
        default: schema.problem,
      },
    }),
    async (context) =>
      bytesResponse(
        await modules.exportAir(await bundleFor(context, context.req.param("id") ?? "")),
        "application/cose",
      ),
  );
  app.openapi(
    route(
      "post",
      "/v1/receipts/{id}/erase-opening",
      "receipts.eraseOpening",
      "Erase what the server keeps of request and response",
      {
        security: HOLDER,
        tags: ["receipts"],
        request: { params: schema.receiptParams },
        responses: { 204: { description: "Erased; the receipt stays valid." }, default: schema.problem },
      },
    ),
    async (context) => {
      await modules.log.eraseOpening(await readable(context, context.req.param("id") ?? ""));
      return context.body(null, 204);
    },
  );
  mountReceiptApi(app, {
    payments: modules.payments,
    recorder: modules.recorder,
    suite: modules.suite,
    readable: (context, id) => readableRecord(context, id, ["execution", "supplement"]),
    bundle: bundleFor,
    verify: modules.verify,
    audit: modules.audit,
    maxBundleBytes: options.maxJsonBytes,
  });
  if (modules.listings)
    mountPriceApi(app, {
      auth,
      listings: modules.listings,
      versions: models.versions,
      describeListing: modules.describeListing,
      countsTokens: async (name) => {
        const [latest] = models.versions(name);
        return latest && (await models.facts(latest)).language !== undefined;
      },
    });
  app.openapi(
    route("get", "/v1/trust", "trust.show", "A trust file for this gateway", {
      tags: ["receipts"],
      responses: json("Identities and log keys; believing them is the reader's decision.", schema.anyJson),
    }),
    (context) => context.json(writable(trustView(modules.trust()))),
  );

  // Models
  app.openapi(
    route("get", "/v1/models", "models.list", "Models", {
      security: ANYBODY,
      tags: ["models"],
      request: { query: schema.prefixQuery },
      responses: json("Current versions by name.", schema.modelList),
    }),
    async (context) => {
      const caller = await callerOf(context);
      const prefix = context.req.query("prefix") ?? "";
      const hub = models.list(prefix).filter((model) => isReadable(model, caller));
      const others = (await textModels()).filter(({ name }) => name.startsWith(prefix));
      return context.json({
        object: "list",
        data: [
          ...hub.map((model) => openAiHubModel(model, listingOf(model.name))),
          ...others.map((model) => openAiTextModel(model, listingOf(model.name))),
        ],
        models: hub.map(listed),
      });
    },
  );
  app.openapi(
    route("get", "/v1/models/{model}", "models.show", "One model", {
      security: ANYBODY,
      tags: ["models"],
      request: { params: schema.modelParams },
      responses: json("Version, history, manifest, signature, card.", schema.modelShown),
    }),
    async (context) => {
      const name = context.req.param("model") ?? "";
      let model: ListedModel;
      try {
        model = await visible(context, name);
      } catch (error) {
        const other = (await textModels()).find((one) => one.name === name);
        if (!other) throw error;
        return context.json(openAiTextModel(other, listingOf(other.name)));
      }
      const facts = await models.facts(model);
      return context.json({
        ...openAiHubModel(model, listingOf(model.name)),
        ...listed(model),
        versions: (await versionsSeen(context, model.name)).map(listed),
        manifest: parseJson(facts.manifest.bytes) as never,
        signature: writable(facts.signature),
        preprocessing: writable(facts.preprocessing),
        card: facts.card,
      });
    },
  );
  app.openAPIRegistry.registerPath(
    route("get", "/v1/models/{model}/files/{path}", "models.file", "One file of a model", {
      security: ANYBODY,
      tags: ["models"],
      request: { params: schema.fileParams },
      responses: {
        200: { description: "The file.", content: { "application/octet-stream": { schema: schema.bytes } } },
        default: schema.problem,
      },
    }),
  );
  // A path may have folders, which one parameter of the framework's typed routes does not match.
  app.get("/v1/models/:model/files/:path{.+}", async (context) => {
    const model = await visible(context, context.req.param("model") ?? "");
    const path = context.req.param("path") ?? "";
    const { manifest } = (await models.facts(model)).manifest;
    const file = manifest.files.find((one) => one.path === path);
    if (!file)
      throw new AssayError("file_not_found", `The model ${model.name} has no file ${path}.`, {
        hints: [`It has: ${manifest.files.map((one) => one.path).join(", ")}.`],
      });
    return streamResponse(modules.blobs.stream(file.sha256), file.sizeBytes, file.sha256);
  });
  app.openapi(
    route("post", "/v1/models/{model}/releases", "models.release", "Release a version", {
      security: OWNER,
      tags: ["models"],
      request: {
        params: schema.modelParams,
        body: { content: { "application/json": { schema: schema.releaseBody } }, required: true },
      },
      responses: json("The new version.", schema.modelListed),
    }),
    async (context) => {
      const caller = await owner(context);
      const name = context.req.param("model") ?? "";
      assertNamespace(auth, caller, name);
      const body = (context.req as unknown as { valid: (what: "json") => z.infer<typeof schema.releaseBody> }).valid(
        "json",
      );
      return context.json(
        listed(
          await models.release({
            name,
            manifest: utf8ToBytes(body.manifest),
            owner: caller.owner,
            visibility: body.visibility ?? "public",
          }),
        ),
      );
    },
  );
  for (const action of ["rollback", "deprecate"] as const) {
    app.openapi(
      route(
        "post",
        `/v1/models/{model}/${action}`,
        `models.${action}`,
        action === "rollback" ? "Make an older version current" : "Mark a version deprecated",
        {
          security: OWNER,
          tags: ["models"],
          request: {
            params: schema.modelParams,
            body: { content: { "application/json": { schema: schema.versionBody } }, required: true },
          },
          responses: json("The version.", schema.modelListed),
        },
      ),
      async (context) => {
        const caller = await owner(context);
        const body = (context.req as unknown as { valid: (what: "json") => z.infer<typeof schema.versionBody> }).valid(
          "json",
        );
        return context.json(
          listed(await models.change(context.req.param("model") ?? "", body.version, action, caller.owner)),
        );
      },
    );
  }
  app.use(
    "/v1/blobs",
    paidRoute(modules, "service:storage", async (context) => {
      const caller = await callerOf(context);
      if (context.req.method !== "POST" || (caller && auth.isOperator(caller.owner))) return undefined;
      return uploadUse(context);
    }),
  );
  app.openapi(
    route("post", "/v1/blobs", "blobs.put", "Store a file", {
      security: OWNER,
      tags: ["models"],
      request: { body: { content: { "application/octet-stream": { schema: schema.bytes } } } },
      responses: json("Its id.", schema.blobStored),
    }),
    async (context) => {
      if (payerOf(context) === undefined) await owner(context);
      const body = context.req.raw.body;
      const expected = digestOf(context);
      const source = body ?? new Uint8Array();
      const { payments, putUntil } = modules;
      const limits = { maxBytes: options.maxBlobBytes };
      // Its payment is bound to the digest that was declared, so there is one.
      if (payerOf(context) !== undefined && payments && putUntil && expected !== undefined) {
        const keptUntilMs = keptUntil(context, payments.nowMs());
        const kept = await putUntil(source, keptUntilMs, { ...limits, expected });
        stateOfService(context, { blob: kept.sha256, sizeBytes: kept.sizeBytes, keptUntilMs });
        return context.json({ ...kept, keptUntilMs });
      }
      return context.json(await modules.blobs.put(source, expected === undefined ? limits : { ...limits, expected }));
    },
  );

  // Tokens
  app.openapi(
    route("post", "/v1/auth/challenge", "auth.challenge", "A challenge to sign", {
      tags: ["tokens"],
      request: { body: { content: { "application/json": { schema: schema.challengeBody } }, required: true } },
      responses: json("Sign it within two minutes.", schema.challengeGiven),
    }),
    (context) => {
      const body = (context.req as unknown as { valid: (what: "json") => z.infer<typeof schema.challengeBody> }).valid(
        "json",
      );
      return context.json(auth.challenge(body.publicKey));
    },
  );
  app.openapi(
    route("post", "/v1/auth/token", "auth.token", "A token for a signed challenge", {
      tags: ["tokens"],
      request: { body: { content: { "application/json": { schema: schema.tokenBody } }, required: true } },
      responses: json("Shown once.", schema.tokenGiven),
    }),
    async (context) => {
      const body = (context.req as unknown as { valid: (what: "json") => z.infer<typeof schema.tokenBody> }).valid(
        "json",
      );
      return context.json(await auth.token(body));
    },
  );

  // The routes below answer with plain text or bytes; they are declared for the document and served as they are.
  const text = (description: string, type = "text/plain") => ({
    200: { description, content: { [type]: { schema: z.string() } } },
    default: schema.problem,
  });
  for (const [path, operationId, summary, tag, responses] of [
    ["/log/vkeys", "log.keys", "The log's verifier keys, one a line", "log", text("C2SP signed-note keys.")],
    ["/log/checkpoint", "log.checkpoint", "The log's latest checkpoint", "log", text("A C2SP signed note.")],
    ["/livez", "server.livez", "Whether the process runs", "operations", text("It does.")],
    [
      "/readyz",
      "server.readyz",
      "Whether the server takes work, and why not",
      "operations",
      json("Ready.", schema.readiness),
    ],
    ["/metrics", "server.metrics", "Metrics in Prometheus's format", "operations", text("Counters and gauges.")],
    ["/openapi.json", "server.openapi", "This document", "operations", json("OpenAPI 3.1.", schema.anyJson)],
  ] as const)
    app.openAPIRegistry.registerPath(route("get", path, operationId, summary, { tags: [tag], responses }));
  app.openAPIRegistry.registerPath(
    route("get", "/log/tile/{path}", "log.tile", "A tile of the log, or its entries", {
      tags: ["log"],
      request: { params: schema.tileParams },
      responses: {
        200: {
          description: "As C2SP tlog-tiles has it.",
          content: { "application/octet-stream": { schema: schema.bytes } },
        },
        default: schema.problem,
      },
    }),
  );

  // Log (C2SP tlog-tiles)
  app.get("/log/vkeys", (context) => context.text(`${modules.logKeys.join("\n")}\n`));
  app.get("/log/*", async (context) => {
    const path = context.req.path.slice("/log/".length);
    const found = await modules.log.resource(path);
    if (!found) throw new AssayError("file_not_found", `The log has no resource ${path}.`);
    const immutable = path !== "checkpoint";
    return new Response(Buffer.from(found), {
      headers: {
        "content-type": immutable ? "application/octet-stream" : "text/plain; charset=utf-8",
        "cache-control": immutable ? "public, max-age=31536000, immutable" : "no-cache",
      },
    });
  });

  // Operations
  app.get("/livez", (context) => context.text("ok\n"));
  app.get("/readyz", (context) => {
    const state = modules.ready();
    return context.json(state, state.ready ? 200 : 503);
  });
  app.get("/metrics", async (context) =>
    context.text(await modules.metrics.registry.metrics(), 200, {
      "content-type": modules.metrics.registry.contentType,
    }),
  );
  app.get("/openapi.json", (context) => context.json(openApiDocument(app, options.version)));
  return app;
}

/** The OpenAPI 3.1 document of the routes of `app`, keys sorted so that it can be compared. */
export function openApiDocument(app: OpenAPIHono, version: string): JsonValue {
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Assay",
      version,
      description: "Runs models and returns with every answer a receipt that anyone can check.",
      license: { name: "Apache-2.0" },
    },
  });
  return sorted(structuredClone(document) as unknown as JsonValue);
}

function sorted(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value as { readonly [key: string]: JsonValue })
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, sorted(item)]),
  );
}

function assertNamespace(auth: Auth, caller: Caller, name: string): void {
  const namespace = name.slice(0, name.indexOf("/"));
  const own = caller.owner.slice("ed25519:".length, "ed25519:".length + 16);
  if (namespace === own || auth.isOperator(caller.owner)) return;
  throw new AssayError("namespace_not_yours", `The namespace ${namespace} is not yours.`, {
    hints: [`Yours is ${own}.`],
  });
}

function bytesResponse(bytes: Uint8Array, type: string): Response {
  return new Response(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), {
    headers: { "content-type": type },
  });
}

function streamResponse(source: AsyncIterable<Uint8Array>, size: number, sha256: string): Response {
  return new Response(ReadableStream.from(source), {
    headers: { "content-type": "application/octet-stream", "content-length": String(size), etag: `"${sha256}"` },
  });
}
