import { statedParameters } from "@assay/protocol";
import type { GenerateParameters, GenerateRequest, Generation } from "@assay/protocol";
import { headerText, readAll } from "./body.ts";
import { malformed } from "./errors.ts";
import { createGeneration } from "./generation.ts";
import type { Exchange } from "./generation.ts";
import { errorOf } from "./http-errors.ts";
import type { ErrorContext } from "./http-errors.ts";
import { MAX_MODELS_BYTES } from "./limits.ts";
import type { UpstreamLimits } from "./limits.ts";
import { readObject } from "./read.ts";
import type { JsonObject } from "./read.ts";
import { reportHead } from "./report.ts";
import type { Report } from "./report.ts";
import type { Slots } from "./slots.ts";
import type { StopSignal } from "./stop.ts";
import { promptCharacters } from "./usage.ts";
import type { Transport, TransportAnswer } from "./transport.ts";

export type UpstreamKind = "openai" | "anthropic" | "gemini" | "openai-compatible";

type SendOptions = {
  readonly method: "GET" | "POST";
  /** Path and query, absolute. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: StopSignal;
  readonly firstByteMs: number;
  /** What the answer must be; anything else is a page of some proxy. */
  readonly contentType: string;
  readonly model?: string;
  readonly report: Report;
};

/** What the three ways of speaking share: a transport with a credential, limits and clocks. */
export type Connection = {
  readonly kind: UpstreamKind;
  /** The upstream's configured name, for sentences. */
  readonly provider: string;
  readonly host: string;
  readonly secret: string | undefined;
  readonly limits: UpstreamLimits;
  readonly random: () => number;
  readonly origin: string;
  /** The base address's path, without a slash at its end. */
  readonly root: string;
  readonly base: string;
  /** Sends one request. Throws errors of ours for every status but 2xx, and for another type than the one expected. */
  readonly send: (options: SendOptions) => Promise<TransportAnswer>;
  /** Gets a small document. */
  readonly list: (path: string, headers: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<JsonObject>;
  readonly errorContext: (model?: string) => ErrorContext;
  /** A generation of `request` under this upstream's limits, whose exchange `begin` gives once it is wanted. */
  readonly generate: (options: {
    readonly request: GenerateRequest;
    readonly signal: AbortSignal;
    readonly report: Report;
    /** Parameters with the defaults that this way of speaking sets. */
    readonly parameters: GenerateParameters;
    readonly begin: () => Exchange;
  }) => Generation;
};

export function createConnection(options: {
  readonly kind: UpstreamKind;
  readonly name: string;
  readonly base: URL;
  readonly secret: string | undefined;
  readonly limits: UpstreamLimits;
  readonly transport: Transport;
  readonly slots: Slots;
  readonly now: () => number;
  readonly random: () => number;
  /** Refuses a request by throwing, before anything is sent. */
  readonly admit: (request: GenerateRequest) => void;
}): Connection {
  const { transport, limits, secret } = options;
  const root = options.base.pathname.replace(/\/+$/, "");
  const errorContext = (model?: string): ErrorContext => ({
    provider: options.name,
    secret,
    now: options.now,
    ...(model === undefined ? {} : { model }),
  });
  return {
    kind: options.kind,
    provider: options.name,
    host: transport.host,
    secret,
    limits,
    random: options.random,
    errorContext,
    origin: options.base.origin,
    root,
    base: options.base.origin + root,
    async send({ method, path, headers, body, signal, firstByteMs, contentType, model, report }) {
      const request = { method, path, headers, signal, firstByteMs, ...(body === undefined ? {} : { body }) };
      const answer = await transport.send(request);
      reportHead(report, answer);
      if (answer.status < 200 || answer.status > 299) throw await errorOf(answer, errorContext(model));
      expectType(answer, contentType);
      return answer;
    },
    async list(path, headers, signal) {
      const answer = await transport.send({
        method: "GET",
        path: root + path,
        headers,
        signal,
        firstByteMs: limits.modelsTimeoutMs,
      });
      if (answer.status < 200 || answer.status > 299) throw await errorOf(answer, errorContext());
      return readObject(await readAll(answer, MAX_MODELS_BYTES), "its list of models", MAX_MODELS_BYTES);
    },
    generate({ request, signal, report, parameters, begin }) {
      const n = parameters.n ?? 1;
      return createGeneration({
        n,
        maxCompletion: n * (parameters.max_tokens ?? Number.POSITIVE_INFINITY),
        promptCharacters: () => promptCharacters(request),
        parameters: () => statedParameters(parameters),
        report,
        slots: options.slots,
        totalTimeoutMs: limits.totalTimeoutMs,
        now: options.now,
        signal,
        begin() {
          options.admit(request);
          return begin();
        },
      });
    },
  };
}

/** Throws `upstream_malformed` when the answer is of another type, and closes its connection. */
function expectType(answer: TransportAnswer, expected: string): void {
  if (headerText(answer.headers["content-type"], "").split(";", 1)[0]?.trim() === expected) return;
  answer.body.leave();
  throw malformed(`it is not of the type ${expected}`);
}
