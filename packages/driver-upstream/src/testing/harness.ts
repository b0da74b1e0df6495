import { isAssayError } from "@assay/core";
import type { AssayError } from "@assay/core";
import type { ChoiceDelta, EngineOutcome, GenerateParameters, GenerateRequest, LanguageEngine } from "@assay/protocol";
import { createUpstream } from "../index.ts";
import type { UpstreamKind, UpstreamLimits } from "../index.ts";

export const SECRET = "sk-secret-0123456789abcdef";

/** An upstream of this driver at `url`, with a key that tests look for where it must not be. */
export function upstreamAt(
  url: string,
  options: {
    readonly kind?: UpstreamKind;
    readonly limits?: Partial<UpstreamLimits>;
    readonly ca?: string;
    readonly now?: () => number;
  } = {},
): LanguageEngine {
  const kind = options.kind ?? "openai-compatible";
  return createUpstream({
    name: "played",
    kind,
    baseUrl: kind === "openai" || kind === "openai-compatible" ? `${url}/v1` : url,
    apiKey: SECRET,
    limits: { totalTimeoutMs: 20_000, ...options.limits },
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    now: options.now ?? Date.now,
    random: () => 0.5,
  });
}

/** A chat of one message. */
export function chat(parameters: GenerateParameters = {}, stream = true, model = "m"): GenerateRequest {
  return { kind: "chat", model: { name: model }, messages: [{ role: "user", content: "hello" }], parameters, stream };
}

export type Read = {
  readonly deltas: readonly ChoiceDelta[];
  readonly text: string;
  readonly outcome: EngineOutcome;
  /** What it ended with, when it did not end well. */
  readonly error?: AssayError;
};

/** Reads an answer, however it ends. */
export async function read(
  engine: LanguageEngine,
  request: GenerateRequest,
  signal: AbortSignal = new AbortController().signal,
): Promise<Read> {
  const generation = engine.generate(request, { signal });
  const deltas: ChoiceDelta[] = [];
  let error: AssayError | undefined;
  try {
    for await (const delta of generation.events) deltas.push(delta);
  } catch (thrown) {
    if (!isAssayError(thrown)) throw thrown;
    error = thrown;
  }
  const text = deltas.map((delta) => delta.delta.content ?? "").join("");
  return { deltas, text, outcome: generation.outcome(), ...(error === undefined ? {} : { error }) };
}

/** The code of the error, and of its cause when the answer had begun: `engine_interrupted/upstream_failed`. */
export function codeOf(result: { readonly error?: AssayError }): string {
  const { error } = result;
  if (error === undefined) return "none";
  return error.code === "engine_interrupted" && isAssayError(error.cause)
    ? `${error.code}/${error.cause.code}`
    : error.code;
}
