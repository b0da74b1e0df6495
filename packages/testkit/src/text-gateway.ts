import { bytesToBase64Url, bytesToHex, canonicalJson, hexToBytes, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { createRenderer, errorFrame, openAiError, openAiModelList, parseText, renderEmbeddings } from "@assay/protocol";
import type { ChoiceDelta, Frame, ParsedText, TextDialect, TextUsage } from "@assay/protocol";
import {
  PROFILE,
  commitFields,
  encodeBundle,
  encodeEntry,
  jsonFields,
  receiptSubject,
  transcriptRoot,
  transcriptSalt,
  trustView,
} from "@assay/receipts";
import type { ExecutionClaims, ServiceClaims, Trust } from "@assay/receipts";
import { makeLog } from "./mock-log.ts";
import { MOCK_TIME_MS } from "./mock-receipts.ts";
import { fixedSeed, makeParty } from "./parties.ts";

const suite = nodeSuite;
const DAY_MS = 86_400_000;

/** A request that a scripted gateway got. */
export type GatewayCall = {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  readonly body: Uint8Array;
};

/** What a scripted gateway answers, and which lies it tells. */
export type GatewayScript = {
  /** The steps of an answer; default: three pieces of text and an end. */
  readonly steps?: (parsed: ParsedText) => readonly ChoiceDelta[];
  readonly usage?: TextUsage;
  /** Steps after which the engine fails: the stream ends with an error event and the receipt says `incomplete`. */
  readonly failAfter?: number;
  /** Replaces claims before they are signed. */
  readonly execution?: Partial<ExecutionClaims>;
  /** Adds claims to the service statement of a call. */
  readonly service?: (call: GatewayCall) => Partial<ServiceClaims>;
  /** The blocks of a stream as they go out, in place of the true ones. */
  readonly blocks?: (blocks: readonly string[]) => readonly string[];
  /** Awaited before each block: lets a test hold a stream where it wants. */
  readonly gate?: (block: number) => Promise<void>;
  /** The text of a body, in place of the true one. */
  readonly body?: (text: string) => string;
  /** Changes the headers of answers of models. */
  readonly headers?: (headers: Headers) => void;
  /** What stands in place of the bundle of receipt `id`. */
  readonly bundle?: (id: string, of: (id: string) => Uint8Array | undefined) => Uint8Array | Response;
  /** Answers before everything else; undefined leaves the call to the gateway. */
  readonly intercept?: (call: GatewayCall, count: number) => Response | Promise<Response> | undefined;
  /** Names of the signing node: another name has other keys, which the trust does not name. */
  readonly signer?: string;
};

/** A gateway of the text API in memory: real requests, real frames and real receipts by fixed keys. */
export type TextGateway = {
  readonly fetch: (url: string, init?: RequestInit) => Promise<Response>;
  readonly trust: Trust;
  readonly now: number;
  readonly calls: readonly GatewayCall[];
  /** Ids of the receipts made, in order. */
  readonly receiptIds: readonly string[];
  /** How often a body was left before its end. */
  readonly left: () => number;
};

const USAGE: TextUsage = { prompt_tokens: 14, completion_tokens: 3, total_tokens: 17 };
const PATHS: Readonly<Record<string, TextDialect>> = {
  "/v1/chat/completions": "chat",
  "/v1/completions": "completions",
  "/v1/responses": "responses",
  "/v1/embeddings": "embeddings",
};

/** The steps of a short answer: "The answer", " is", " 42." for each choice. */
export function plainSteps(parsed: ParsedText): readonly ChoiceDelta[] {
  const choices = Array.from({ length: parsed.parameters.n ?? 1 }, (_, index) => index);
  return choices.flatMap((index) => [
    ...["The answer", " is", " 42."].map((content) => ({ index, delta: { content }, finish_reason: null })),
    { index, delta: {}, finish_reason: "stop" as const },
  ]);
}

/** Makes a scripted gateway; `url` is the address that its callers use. */
export async function makeTextGateway(script: GatewayScript = {}, url = "http://gateway.test"): Promise<TextGateway> {
  const window = { notBeforeMs: MOCK_TIME_MS - 3_600_000, notAfterMs: MOCK_TIME_MS + DAY_MS };
  const [known, node, gateway] = await Promise.all([
    makeParty({ name: "alpha", role: "node", ...window }),
    makeParty({ name: script.signer ?? "alpha", role: "node", ...window }),
    makeParty({ name: "front", role: "gateway", ...window }),
  ]);
  const log = makeLog({ origin: "assay.example/log", fillers: 3, witnesses: 1, mlDsa: false });
  const trust: Trust = {
    identities: [known, gateway].map(({ identity, subject }) => ({
      algorithm: identity.algorithm,
      publicKey: identity.publicKey,
      subject,
      label: "test",
    })),
    keysets: [],
    logs: [log.trust],
    revoked: [],
    roots: [],
    chains: [],
  };
  const calls: GatewayCall[] = [];
  const receiptIds: string[] = [];
  const bundles = new Map<string, { readonly bytes: Uint8Array; readonly grant: string }>();
  let left = 0;

  type Made = { readonly id: Uint8Array; readonly salt: Uint8Array; readonly grant: string };
  const begin = (): Made => {
    const count = receiptIds.length;
    const id = fixedSeed(`text receipt ${count}`).slice(0, 16);
    receiptIds.push(bytesToHex(id));
    return { id, salt: fixedSeed(`text salt ${count}`), grant: bytesToHex(fixedSeed(`text grant ${count}`)) };
  };

  const sign = async (
    made: Made,
    call: GatewayCall,
    parsed: ParsedText,
    answer: { readonly body: string; readonly frames?: readonly Frame[]; readonly finish: "stop" | "incomplete" },
  ): Promise<{ readonly digest: string; readonly index: number }> => {
    const request = commitFields(suite, made.salt, "request", jsonFields(call.body));
    const response = commitFields(suite, made.salt, "response", jsonFields(utf8ToBytes(answer.body)));
    const nonce = call.headers.get("assay-client-nonce");
    // A receipt under another id is whole in itself: only its answer shows that it is not its own.
    const signedId = script.execution?.receiptId ?? made.id;
    const about = { subject: receiptSubject(signedId), issuedAtMs: MOCK_TIME_MS };
    const execution = await node.state(
      "execution",
      {
        profile: PROFILE.execution,
        receiptId: made.id,
        mode: "vanilla",
        kind: parsed.kind,
        requestRoot: request.root,
        responseRoot: response.root,
        requestFields: request.count,
        responseFields: response.count,
        issuedAtMs: MOCK_TIME_MS,
        finishReason: answer.finish,
        modelName: "acme/llm",
        runtime: { profile: "llm", engine: "scripted" },
        ...(nonce === null ? {} : { clientNonce: hexToBytes(nonce) }),
        ...(answer.frames
          ? {
              transcript: {
                root: transcriptRoot(
                  suite,
                  transcriptSalt(suite, made.salt),
                  answer.frames.map(({ data }) => utf8ToBytes(data)),
                ),
                frames: answer.frames.length,
              },
            }
          : {}),
        ...script.execution,
      },
      about,
    );
    const service = await gateway.state(
      "service",
      {
        profile: PROFILE.service,
        receiptId: signedId,
        executionDigest: execution.statement.digest,
        issuedAtMs: MOCK_TIME_MS,
        retention: "none",
        ...script.service?.(call),
      },
      about,
    );
    const index = log.append(encodeEntry([execution.statement.envelope, service.statement.envelope]));
    const bytes = encodeBundle({
      profile: PROFILE.bundle,
      statements: [execution, service].map(({ statement, claims }) => ({ envelope: statement.envelope, claims })),
      keysets: [node, gateway].map(({ keyset, keysetStatement }) => ({
        envelope: keysetStatement.envelope,
        document: keyset.bytes,
      })),
      log: [log.prove(index, 0)],
      checkpoints: [await log.note(Math.floor(MOCK_TIME_MS / 1000) + 1)],
    });
    bundles.set(bytesToHex(made.id), { bytes, grant: made.grant });
    return { digest: bytesToHex(execution.statement.digest), index };
  };

  const headersOf = (made: Made, contentType: string, more: Record<string, string> = {}): Headers => {
    const headers = new Headers({
      "content-type": contentType,
      "assay-receipt-id": bytesToHex(made.id),
      "assay-opening": bytesToBase64Url(made.salt),
      "assay-grant": made.grant,
      "assay-node": node.subject,
      "x-request-id": `request-${receiptIds.length}`,
      ...more,
    });
    script.headers?.(headers);
    return headers;
  };

  const answerModel = async (call: GatewayCall, dialect: TextDialect, signal: AbortSignal | undefined) => {
    let parsed: ParsedText;
    try {
      parsed = parseText(dialect, call.body, Object.fromEntries(call.headers));
    } catch (error) {
      return refuse(400, error instanceof Error ? error : new Error("unreadable"));
    }
    const made = begin();
    const usage = script.usage ?? USAGE;
    const about = { receiptId: bytesToHex(made.id), createdS: Math.floor(MOCK_TIME_MS / 1000), model: "acme/llm" };
    if (dialect === "embeddings") {
      const vectors = (parsed.inputs ?? []).map((_, i) => Float32Array.of(i, 0.5, -0.25));
      const body = renderEmbeddings({ ...about, parsed, outcome: { vectors, usage } });
      return whole(made, call, parsed, body);
    }
    const renderer = createRenderer(dialect, { ...about, parsed });
    const frames: Frame[] = [];
    const steps = (script.steps ?? plainSteps)(parsed);
    for (const [position, step] of steps.entries()) {
      if (position === script.failAfter) break;
      frames.push(...renderer.delta(step));
    }
    const failed = script.failAfter !== undefined && script.failAfter < steps.length;
    if (!failed) frames.push(...renderer.end({ usage }));
    if (!parsed.stream) return whole(made, call, parsed, renderer.body());
    const finish = failed ? "incomplete" : "stop";
    const { digest, index } = await sign(made, call, parsed, { body: renderer.body(), frames, finish });
    const note = JSON.stringify({ receipt_id: about.receiptId, execution_digest: digest, log_index: index });
    const problem = { code: "engine_interrupted", message: "The engine stopped.", hints: [], docsPath: "/errors/x.md" };
    const blocks = [
      ...frames.map(block),
      ...(failed
        ? [block(errorFrame(dialect, problem, 502, frames.length))]
        : [`: assay ${note}\n\n`, ...(dialect === "responses" ? [] : ["data: [DONE]\n\n"])]),
    ];
    const out = script.blocks?.(blocks) ?? blocks;
    return new Response(streamOf(out, signal), { headers: headersOf(made, "text/event-stream; charset=utf-8") });
  };

  const whole = async (made: Made, call: GatewayCall, parsed: ParsedText, body: string): Promise<Response> => {
    const { digest, index } = await sign(made, call, parsed, { body, finish: "stop" });
    const more = { "assay-execution-digest": digest, "assay-log-index": String(index) };
    return new Response(script.body?.(body) ?? body, { headers: headersOf(made, "application/json", more) });
  };

  const streamOf = (blocks: readonly string[], signal: AbortSignal | undefined): ReadableStream<Uint8Array> => {
    let next = 0;
    return new ReadableStream<Uint8Array>(
      {
        start(controller) {
          signal?.addEventListener("abort", () => {
            if (next < blocks.length) left++;
            next = blocks.length;
            controller.error(signal.reason);
          });
        },
        async pull(controller) {
          await script.gate?.(next);
          const text = blocks[next++];
          if (text === undefined) controller.close();
          else controller.enqueue(utf8ToBytes(text));
        },
        cancel() {
          if (next < blocks.length) left++;
          next = blocks.length;
        },
      },
      { highWaterMark: 0 },
    );
  };

  const answer = async (call: GatewayCall, signal: AbortSignal | undefined): Promise<Response> => {
    const dialect = call.method === "POST" ? PATHS[call.path] : undefined;
    if (dialect) return answerModel(call, dialect, signal);
    const id = /^\/v1\/receipts\/([0-9a-f]{32})\/bundle\?waitMs=\d+$/.exec(call.path)?.[1];
    const kept = id === undefined ? undefined : bundles.get(id);
    if (id !== undefined && kept) {
      if (call.headers.get("assay-grant") !== kept.grant)
        return refuse(403, new Error("Not yours."), "receipt_not_yours");
      const given = script.bundle?.(id, (other) => bundles.get(other)?.bytes) ?? kept.bytes;
      return given instanceof Response ? given : new Response(given as Uint8Array<ArrayBuffer>);
    }
    if (call.path === "/v1/trust") return new Response(canonicalJson(trustView(trust)) as Uint8Array<ArrayBuffer>);
    if (call.path === "/readyz") return Response.json({ ready: true });
    if (call.path === "/v1/models") {
      const model = { id: "acme/llm", createdS: Math.floor(MOCK_TIME_MS / 1000), ownedBy: "ed25519:00" };
      return Response.json({ ...openAiModelList([model]), models: [] });
    }
    return refuse(404, new Error("There is nothing here."), "route_not_found");
  };

  return {
    trust,
    now: MOCK_TIME_MS + DAY_MS / 2,
    calls,
    receiptIds,
    left: () => left,
    async fetch(target, init = {}) {
      init.signal?.throwIfAborted();
      if (!target.startsWith(url)) throw new TypeError(`Nothing listens at ${target}.`);
      const body = init.body === undefined || init.body === null ? "" : init.body;
      const call: GatewayCall = {
        method: init.method ?? "GET",
        path: target.slice(url.length),
        headers: new Headers(init.headers),
        body: new Uint8Array(await new Response(body).arrayBuffer()),
      };
      calls.push(call);
      return (await script.intercept?.(call, calls.length)) ?? answer(call, init.signal ?? undefined);
    },
  };
}

function block({ event, data }: Frame): string {
  return event === undefined ? `data: ${data}\n\n` : `event: ${event}\ndata: ${data}\n\n`;
}

function refuse(status: number, error: Error, code = "request_invalid"): Response {
  const problem = {
    code: "code" in error && typeof error.code === "string" ? error.code : code,
    message: error.message,
    hints: [],
    docsPath: `/errors/${code}.md`,
  };
  return Response.json(openAiError(problem, status), { status });
}
