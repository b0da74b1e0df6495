import { base64UrlToBytes, bytesToHex, hexToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import {
  chainDocument,
  DEFAULT_OIP_LIMITS,
  encodeInferRequest,
  joinBody,
  parseHeaderLength,
  parseInferResponse,
} from "@assay/protocol";
import type { ChainDocument, RuntimeProfile, Tensor } from "@assay/protocol";
import { parseTrust } from "@assay/receipts";
import type { Trust, Verdict } from "@assay/receipts";
import { createVerifier } from "@assay/verifier";
import { createConnection } from "./connection.ts";
import type { CallOptions, Connection, ConnectionOptions, ReceiptAccess } from "./connection.ts";
import { modelDetail, modelList, read, receiptList, releasedVersion, storedBlob } from "./documents.ts";
import type { ListedModel, ModelDetail, ReceiptPage, ReleasedVersion } from "./documents.ts";
import { clientError, GatewayError } from "./errors.ts";
import { MAX_JSON_BYTES, MAX_PROOF_BYTES } from "./limits.ts";
import { checkReceiptId, parseModelName } from "./names.ts";
import { openBundle } from "./open-bundle.ts";
import { judgePayment } from "./pay/check-receipt.ts";
import type { CallPayment } from "./pay/payer.ts";
import { readBody, readJson } from "./transport.ts";
import type { Call } from "./transport.ts";

export type ClientOptions = ConnectionOptions & {
  /** What verification starts from. When given, {@link Client.infer} verifies every receipt. */
  readonly trust?: Trust;
};

export type InferRequest = CallOptions & {
  /** `namespace/name` or `namespace/name@version`. */
  readonly model: string;
  readonly inputs: readonly Tensor[];
  /** Output names wanted; all when absent. */
  readonly outputs?: readonly string[];
  readonly profile?: RuntimeProfile;
  /** 8 to 64 bytes that will stand in the receipt: shows that the answer was not made before. */
  readonly nonce?: Uint8Array;
  readonly retention?: "none" | "server-encrypted";
  /** The preprocessing document the inputs went through, in the bytes its digest is of. */
  readonly preprocessing?: { readonly digest: string; readonly bytes: Uint8Array };
  /** Whether the caller's token is sent, so that the receipt names who asked. Default: when the client has a token. */
  readonly identify?: boolean;
  /** Whether the receipt is fetched and verified before this resolves. Default: when `trust` was given. */
  readonly verify?: boolean;
  /** Most that the call may cost, decimal text in units of the asset that is paid. */
  readonly maxSpend?: string;
};

/** An answer, with what only its caller is given. */
export type InferAnswer = {
  readonly modelName: string;
  readonly modelVersion?: string;
  readonly outputs: readonly Tensor[];
  /** 32 hexadecimal digits. */
  readonly receiptId: string;
  /** Digest of the execution statement, 64 hexadecimal digits. */
  readonly executionDigest: string;
  /** Opens request and response; 32 bytes that nobody else has. */
  readonly masterSalt: Uint8Array;
  /** Lets its holder read this receipt later, 64 hexadecimal digits. */
  readonly grant: string;
  readonly logIndex?: number;
  /** What was paid for it; absent when it was free. */
  readonly payment?: CallPayment;
  /** The opened bundle and its verdict, when the receipt was verified. */
  readonly receipt?: { readonly bytes: Uint8Array; readonly verdict: Verdict };
};

export type PushFile = {
  readonly path: string;
  readonly sha256: string;
  /** The content; asked for only when the gateway does not have it. */
  readonly read: () => Promise<Uint8Array>;
};

/** One call with a JSON body and a JSON answer, for operators: upstreams, contracts, nodes. */
export type AdminCall = CallOptions & {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Path and query below the gateway's address, encoded. */
  readonly path: string;
  readonly body?: JsonValue;
};

/** A client of one gateway. Every method throws `GatewayError` with the gateway's code, or a client error. */
export type Client = {
  readonly url: string;
  /** Runs a model once. Never sent twice. Throws `receipt_failed` when its receipt was verified and did not hold. */
  infer(request: InferRequest): Promise<InferAnswer>;
  /** The bundle of an answer, opened by what its caller knows; waits up to `waitMs` for a checkpoint that covers it. */
  receiptOf(request: InferRequest, answer: InferAnswer, options?: { readonly waitMs?: number }): Promise<Uint8Array>;
  receipts(query?: CallOptions & { limit?: number; before?: number; model?: string }): Promise<ReceiptPage>;
  /** The JSON view of a receipt. */
  receipt(id: string, access?: ReceiptAccess): Promise<JsonValue>;
  bundle(id: string, access?: ReceiptAccess & { readonly waitMs?: number }): Promise<Uint8Array>;
  proof(id: string, format: "tlog-proof" | "cose", options?: CallOptions): Promise<Uint8Array>;
  air(id: string, access?: ReceiptAccess): Promise<Uint8Array>;
  eraseOpening(id: string, access?: ReceiptAccess): Promise<void>;
  models(query?: CallOptions & { readonly prefix?: string }): Promise<readonly ListedModel[]>;
  model(name: string, options?: CallOptions): Promise<ModelDetail>;
  /** A file of a model, as a stream. */
  modelFile(name: string, path: string, options?: CallOptions): Promise<ReadableStream<Uint8Array>>;
  /** Uploads what the gateway lacks, then releases the manifest as the next version. */
  push(
    name: string,
    release: CallOptions & {
      readonly manifest: Uint8Array;
      readonly files: readonly PushFile[];
      readonly visibility?: "public" | "private";
      readonly onFile?: (path: string, done: number, total: number) => void;
    },
  ): Promise<ReleasedVersion>;
  rollback(name: string, version: number, options?: CallOptions): Promise<JsonValue>;
  deprecate(name: string, version: number, options?: CallOptions): Promise<JsonValue>;
  /** What the gateway asks to be trusted for. Trusting it is the caller's decision. */
  trust(options?: CallOptions): Promise<Trust>;
  /** A resource of the log's read interface: `checkpoint`, `tile/…`, `vkeys`. */
  log(path: string, options?: CallOptions): Promise<Uint8Array>;
  /** The chain that the gateway settles payments on. */
  chain(options?: CallOptions): Promise<ChainDocument>;
  /** A call of the gateway's own API that has no method here, as the owner when the client has a key; null without a body. */
  admin(call: AdminCall): Promise<JsonValue>;
  /** Whether the gateway answers and can serve. */
  ready(options?: CallOptions): Promise<boolean>;
  /** The caller's owner id, after proving the key. Throws `signer_missing`. */
  owner(options?: CallOptions): Promise<string>;
};

/**
 * A client of the gateway at `url`. Throws `gateway_url_invalid`.
 *
 * @example
 * const client = createClient({ url: "http://127.0.0.1:8402", trust });
 * const { outputs, receipt } = await client.infer({ model: "demo/digits", inputs });
 * console.log(receipt?.verdict.status);
 */
export function createClient(options: ClientOptions): Client {
  const connection = createConnection(options);
  const { suite, now } = connection;
  const verifier = options.trust ? createVerifier({ trust: options.trust, suite }) : undefined;
  return clientOver(connection, verifier && ((bytes) => verifier(bytes, now())), options.token !== undefined);
}

/**
 * The client of a connection. `verify` finds the verdict on a bundle; without it nothing is verified. `identified` is
 * whether inferences say by default who asks.
 */
export function clientOver(
  connection: Connection,
  verify: ((bytes: Uint8Array) => Promise<Verdict>) | undefined,
  identified: boolean,
): Client {
  const { transport, known, bearer, access, bundle } = connection;
  const post = async (path: string, body: object, signal: AbortSignal | undefined): Promise<JsonValue> =>
    transport.json({
      method: "POST",
      path,
      headers: { "content-type": "application/json", ...(await bearer(signal)) },
      body: JSON.stringify(body),
      signal,
    });

  // What is public is asked for without saying who asks; only what is refused is asked for again as the owner.
  const publicly = async (path: string, signal: AbortSignal | undefined): Promise<Response> => {
    const call: Call = { method: "GET", path, signal };
    try {
      return await transport.send(call);
    } catch (error) {
      if (!known || !(error instanceof GatewayError) || ![401, 403, 404].includes(error.status)) throw error;
      return transport.send({ ...call, headers: await bearer(signal) });
    }
  };
  const stream = async (path: string, signal: AbortSignal | undefined): Promise<ReadableStream<Uint8Array>> => {
    const response = await publicly(path, signal);
    return response.body ?? new ReadableStream<Uint8Array>({ start: (controller) => controller.close() });
  };

  const infer = async (request: InferRequest): Promise<InferAnswer> => {
    const { bare, version } = parseModelName(request.model);
    const body = encodeInferRequest({
      inputs: request.inputs,
      ...(request.outputs ? { outputs: request.outputs.map((name) => ({ name, binary: true })) } : {}),
    });
    const headers: Record<string, string> = {
      "content-type": body.contentType,
      ...(body.headerLength === undefined ? {} : { "inference-header-content-length": String(body.headerLength) }),
      ...(request.profile ? { "assay-profile": request.profile } : {}),
      ...(request.nonce ? { "assay-client-nonce": bytesToHex(request.nonce) } : {}),
      ...(request.retention ? { "assay-retention": request.retention } : {}),
      ...(request.preprocessing ? { "assay-preprocessing-digest": request.preprocessing.digest } : {}),
      ...((request.identify ?? identified) ? await bearer(request.signal) : {}),
    };
    const at = version === undefined ? "" : `/versions/${version}`;
    const path = `/v2/models/${encodeURIComponent(bare)}${at}/infer`;
    const call: Call = {
      method: "POST",
      path,
      headers,
      body: joinBody(body),
      signal: request.signal,
      limits: { maxSpend: request.maxSpend },
    };
    const response = await transport.send(call);
    const payment = connection.payer?.paymentOf(response);
    const answer = { ...(await readAnswer(response)), ...(payment ? { payment } : {}) };
    if (!(request.verify ?? verify !== undefined)) return answer;
    if (!verify) throw clientError("receipt_failed", "A receipt cannot be verified without anything to trust.");
    const bytes = await receiptOf(request, answer);
    const verdict = judgePayment(connection.suite, await verify(bytes), bytes, payment);
    if (verdict.status === "failed") {
      const row = verdict.checks.find(({ status }) => status === "fail");
      throw clientError("receipt_failed", `The answer's receipt does not hold: ${row?.message ?? verdict.code}`, {
        hints: [`The receipt is ${answer.receiptId}; its verdict is ${verdict.code}.`],
      });
    }
    return { ...answer, receipt: { bytes, verdict } };
  };

  const receiptOf: Client["receiptOf"] = async (request, answer, wait = {}) => {
    const bytes = await bundle(answer.receiptId, { grant: answer.grant, ...wait, ...signalOf(request) });
    return openBundle(bytes, {
      masterSalt: answer.masterSalt,
      modelAsked: request.model,
      inputs: request.inputs,
      outputs: answer.outputs,
      ...(request.preprocessing ? { preprocessing: request.preprocessing.bytes } : {}),
    });
  };

  const push: Client["push"] = async (name, release) => {
    const { bare } = parseModelName(name);
    for (const [position, file] of release.files.entries()) {
      const call: Call = {
        method: "POST",
        path: "/v1/blobs",
        headers: { "content-type": "application/octet-stream", ...(await bearer(release.signal)) },
        body: await file.read(),
        signal: release.signal,
        // A blob is named by its content: storing it twice stores it once.
        safe: true,
      };
      const stored = read(storedBlob, await transport.json(call), "stored blob");
      if (stored.sha256 !== file.sha256) {
        throw clientError("response_malformed", `The gateway stored ${file.path} under another digest than its own.`);
      }
      release.onFile?.(file.path, position + 1, release.files.length);
    }
    const body = {
      manifest: new TextDecoder().decode(release.manifest),
      ...(release.visibility ? { visibility: release.visibility } : {}),
    };
    const path = `/v1/models/${encodeURIComponent(bare)}/releases`;
    return read(releasedVersion, await post(path, body, release.signal), "released version");
  };

  return {
    url: connection.url,
    infer,
    receiptOf,
    bundle,
    push,
    receipts: async ({ limit, before, model, signal } = {}) => {
      const query = new URLSearchParams();
      if (limit !== undefined) query.set("limit", String(limit));
      if (before !== undefined) query.set("before", String(before));
      if (model !== undefined) query.set("model", model);
      const path = `/v1/receipts?${query.toString()}`;
      const page = await transport.json({ method: "GET", path, headers: await bearer(signal), signal });
      return read(receiptList, page, "list of receipts");
    },
    receipt: async (id, of = {}) =>
      transport.json({
        method: "GET",
        path: `/v1/receipts/${checkReceiptId(id)}`,
        headers: await access(of),
        signal: of.signal,
      }),
    proof: (id, format, { signal } = {}) =>
      transport.bytes(
        { method: "GET", path: `/v1/receipts/${checkReceiptId(id)}/proof?format=${format}`, signal },
        MAX_PROOF_BYTES,
      ),
    air: async (id, of = {}) =>
      transport.bytes(
        {
          method: "POST",
          path: `/v1/receipts/${checkReceiptId(id)}/air`,
          headers: await access(of),
          signal: of.signal,
        },
        MAX_PROOF_BYTES,
      ),
    eraseOpening: async (id, of = {}) => {
      const path = `/v1/receipts/${checkReceiptId(id)}/erase-opening`;
      await transport.send({ method: "POST", path, headers: await access(of), signal: of.signal, safe: true });
    },
    models: async ({ prefix, signal } = {}) => {
      const query = prefix === undefined ? "" : `?prefix=${encodeURIComponent(prefix)}`;
      const headers = known ? await bearer(signal) : {};
      const list = await transport.json({ method: "GET", path: `/v1/models${query}`, headers, signal });
      return read(modelList, list, "list of models").models;
    },
    model: async (name, { signal } = {}) => {
      const path = `/v1/models/${nameInPath(name)}`;
      return read(modelDetail, await readJson(await publicly(path, signal), path), "model");
    },
    modelFile: async (name, file, { signal } = {}) => {
      const path = file.split("/").map(encodeURIComponent).join("/");
      return stream(`/v1/models/${nameInPath(name)}/files/${path}`, signal);
    },
    rollback: (name, version, { signal } = {}) =>
      post(`/v1/models/${encodeURIComponent(parseModelName(name).bare)}/rollback`, { version }, signal),
    deprecate: (name, version, { signal } = {}) =>
      post(`/v1/models/${encodeURIComponent(parseModelName(name).bare)}/deprecate`, { version }, signal),
    trust: async ({ signal } = {}) =>
      parseTrust(await transport.bytes({ method: "GET", path: "/v1/trust", signal }, MAX_JSON_BYTES)),
    log: (path, { signal } = {}) => transport.bytes({ method: "GET", path: `/log/${path}`, signal }, MAX_JSON_BYTES),
    chain: async ({ signal } = {}) =>
      read(chainDocument, await transport.json({ method: "GET", path: "/v1/chain", signal }), "account of its chain"),
    async admin({ method, path, body, signal }) {
      const response = await transport.send({
        method,
        path,
        headers: {
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...(known ? await bearer(signal) : {}),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal,
      });
      return response.status === 204 ? null : readJson(response, path);
    },
    ready: async ({ signal } = {}) => {
      try {
        await transport.bytes({ method: "GET", path: "/readyz", signal, safe: false }, MAX_JSON_BYTES);
        return true;
      } catch {
        return false;
      }
    },
    owner: async ({ signal } = {}) => {
      const owner = await connection.owner(signal);
      if (owner === undefined) throw clientError("signer_missing", "A token that was given does not say whose it is.");
      return owner;
    },
  };
}

/** A model's name, version included, as one segment of a path. */
function nameInPath(name: string): string {
  const { bare, version } = parseModelName(name);
  return encodeURIComponent(version === undefined ? bare : `${bare}@${version}`);
}

function signalOf({ signal }: CallOptions): { readonly signal?: AbortSignal } {
  return signal ? { signal } : {};
}

async function readAnswer(response: Response): Promise<InferAnswer> {
  const header = (name: string, form: RegExp): string => {
    const value = response.headers.get(name) ?? "";
    if (form.test(value)) return value;
    throw clientError("response_malformed", `The answer's header ${name} is missing or malformed.`, {
      hints: ["Is this an Assay gateway? Other servers of the Open Inference Protocol give no receipt."],
    });
  };
  const receiptId = header("assay-receipt-id", /^[0-9a-f]{32}$/);
  const executionDigest = header("assay-execution-digest", /^[0-9a-f]{64}$/);
  const masterSalt = base64UrlToBytes(header("assay-opening", /^[A-Za-z0-9_-]{43}$/));
  const grant = bytesToHex(hexToBytes(header("assay-grant", /^[0-9a-f]{64}$/)));
  const index = response.headers.get("assay-log-index");
  const length = parseHeaderLength(response.headers.get("inference-header-content-length") ?? undefined);
  const { modelName, modelVersion, outputs } = parseInferResponse(
    await readBody(response, DEFAULT_OIP_LIMITS.maxBodyBytes),
    length,
  );
  return {
    modelName,
    ...(modelVersion === undefined ? {} : { modelVersion }),
    outputs,
    receiptId,
    executionDigest,
    masterSalt,
    grant,
    ...(index !== null && /^\d{1,15}$/.test(index) ? { logIndex: Number(index) } : {}),
  };
}
