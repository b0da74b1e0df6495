import { AssayError, bytesToHex, bytesToUtf8, utf8ToBytes } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { assemble, parseText, reopenText } from "@assay/protocol";
import type {
  ChoiceDelta,
  EmbedOutcome,
  EngineOutcome,
  ExecutedText,
  Frame,
  GenerateRequest,
  LanguageEngine,
  TextDialect,
  TextExecution,
  TextRequest,
} from "@assay/protocol";
import {
  commitFields,
  decodeClaims,
  jsonFields,
  prefixProof,
  receiptSubject,
  transcriptLeaf,
  transcriptRoot,
  transcriptSalt,
  verifyPrefix,
} from "@assay/receipts";
import type { ExecutionClaims } from "@assay/receipts";
import { describe, expect, it } from "vitest";
import { createTextNode } from "./text-node.ts";

const suite = nodeSuite;
const receiptId = new Uint8Array(16).fill(7);
const masterSalt = new Uint8Array(32).fill(9);

const outcome: EngineOutcome = {
  facts: {
    profile: "llm",
    engine: "onnxruntime-node",
    engineVersion: "1.2.3",
    engineSha256: "ab".repeat(32),
    cpuClass: "cd".repeat(32),
    threads: 2,
    sampler: "gumbel-max/1",
    logitTolerance: "0.001",
  },
  usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
  parameters: { temperature: "0.7", max_tokens: 16, seed: 11, logit_bias: null },
  tokens: [[5, 6]],
  engineMs: 12.3456,
  modelDigest: { sha256: "ef".repeat(32), scheme: "sha256-manifest" },
};
const upstream: EngineOutcome = {
  facts: {
    profile: "upstream",
    provider: "openai",
    modelReported: "gpt-x-2026",
    tlsSpkiSha256: "12".repeat(32),
    seen: { host: "api.example", requestId: "r".repeat(400) },
  },
  usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5, estimated: true },
  parameters: {},
  engineMs: 1,
};

type Script = {
  readonly steps?: readonly ChoiceDelta[];
  readonly outcome?: EngineOutcome;
  readonly failAfter?: number;
  readonly failure?: unknown;
  readonly embed?: () => Promise<EmbedOutcome>;
  /** Waits before the step of this number until the signal aborts. */
  readonly hangBefore?: number;
};

function engineOf(script: Script) {
  const seen: { request?: GenerateRequest; stopped: boolean; pulled: number } = { stopped: false, pulled: 0 };
  const engine: LanguageEngine = {
    name: "local",
    models: async () => [],
    check: async () => undefined,
    generate(request, { signal }) {
      seen.request = request;
      const events = async function* (): AsyncGenerator<ChoiceDelta> {
        try {
          for (const [i, step] of (script.steps ?? []).entries()) {
            if (i === script.hangBefore) {
              await new Promise((_, reject) => {
                const stopped = (): void => reject(new AssayError("request_cancelled", "Stopped."));
                if (signal.aborted) stopped();
                signal.addEventListener("abort", stopped);
              });
            }
            if (i === script.failAfter) throw script.failure;
            signal.throwIfAborted();
            seen.pulled++;
            yield step;
          }
          if (script.failAfter === (script.steps ?? []).length) throw script.failure;
        } finally {
          seen.stopped = true;
        }
      };
      return { events: events(), outcome: () => script.outcome ?? outcome };
    },
    embed:
      script.embed ??
      (async () => ({ ...outcome, vectors: [new Float32Array([0.5, -1.25]), new Float32Array([1, 2])] })),
    stats: () => ({ running: 0, queued: 0 }),
    close: async () => undefined,
  };
  return { engine, seen };
}

const text = (content: string, index = 0): ChoiceDelta => ({ index, delta: { content }, finish_reason: null });
const end = (finish_reason: "stop" | "length" | "tool_calls" = "stop", index = 0): ChoiceDelta => ({
  index,
  delta: {},
  finish_reason,
});
const STEPS = [text("Hel"), text("lo "), text("wörld"), end()];

const BODIES: Record<Exclude<TextDialect, "embeddings">, Record<string, unknown>> = {
  chat: { model: "a/b", messages: [{ role: "user", content: "hi" }], temperature: 0.7 },
  completions: { model: "a/b", prompt: "hi" },
  responses: { model: "a/b", input: "hi", instructions: "Be kind." },
};

function start(dialect: TextDialect, body: unknown, script: Script, extra: Partial<TextRequest> = {}) {
  const bytes = utf8ToBytes(typeof body === "string" ? body : JSON.stringify(body));
  const { engine, seen } = engineOf(script);
  const node = createTextNode({
    engines: (name) => (name === "local" ? engine : undefined),
    suite,
    now: () => 1_700_000_000_000,
    subject: "urn:assay:node:test",
  });
  const execution = node.execute({
    receiptId,
    masterSalt,
    createdS: 1_700_000_000,
    body: bytes,
    parsed: parseText(dialect, bytes, {}),
    target: { engine: "local", model: { name: "a/b" }, modelName: "a/b", modelVersion: "2" },
    signal: new AbortController().signal,
    ...extra,
  });
  return { execution, seen, bytes, node };
}

async function all(execution: TextExecution): Promise<Frame[]> {
  const frames: Frame[] = [];
  for await (const frame of execution.frames) frames.push(frame);
  return frames;
}

/** Checks what a verifier would: that roots, counts, transcript and fields of the claims are those of the frames. */
function checkClaims(
  executed: ExecutedText,
  dialect: TextDialect,
  body: Uint8Array,
  frames: readonly Frame[],
): ExecutionClaims {
  const claims = decodeClaims("execution", executed.claims);
  const request = commitFields(suite, masterSalt, "request", jsonFields(body));
  expect([bytesToHex(claims.requestRoot), claims.requestFields]).toEqual([bytesToHex(request.root), request.count]);
  const answer = bytesToUtf8(body).includes('"stream":true')
    ? JSON.stringify(assemble(dialect, frames))
    : frames[0]!.data;
  const response = commitFields(suite, masterSalt, "response", jsonFields(answer));
  expect([bytesToHex(claims.responseRoot), claims.responseFields]).toEqual([bytesToHex(response.root), response.count]);
  return claims;
}

function checkTranscript(claims: ExecutionClaims, frames: readonly Frame[]): void {
  const salt = transcriptSalt(suite, masterSalt);
  const bytes = frames.map(({ data }) => utf8ToBytes(data));
  expect(claims.transcript?.frames).toBe(frames.length);
  const root = claims.transcript?.root ?? new Uint8Array();
  expect(bytesToHex(root)).toBe(bytesToHex(transcriptRoot(suite, salt, bytes)));
  const leaves = bytes.map((frame) => transcriptLeaf(suite, salt, frame));
  const half = Math.ceil(bytes.length / 2);
  const proof = prefixProof(suite, leaves, half);
  expect(verifyPrefix(suite, salt, bytes.slice(0, half), bytes.length, proof, root)).toBe(true);
  const other = [...bytes.slice(0, half - 1), utf8ToBytes("other")];
  expect(verifyPrefix(suite, salt, other, bytes.length, proof, root)).toBe(false);
}

describe("an answer in every dialect", () => {
  for (const dialect of ["chat", "completions", "responses"] as const) {
    it(`${dialect}: one body, stated`, async () => {
      const { execution, bytes } = start(dialect, BODIES[dialect], { steps: STEPS });
      const frames = await all(execution);
      expect(frames).toHaveLength(1);
      const executed = await execution.finish();
      const claims = checkClaims(executed, dialect, bytes, frames);
      expect(claims.transcript).toBeUndefined();
      expect(claims).toMatchObject({
        kind: dialect === "completions" ? "completion" : "chat",
        finishReason: "stop",
        modelName: "a/b",
        modelVersion: "2",
        modelDigestCheck: "hashed-at-load",
        modelDigestScheme: "sha256-manifest",
        mode: "vanilla",
        engineUs: 12346,
        usage: { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 },
        parameters: { temperature: "0.7", max_tokens: 16, seed: 11 },
      });
      expect(claims.runtime).toMatchObject({ profile: "llm", sampler: "gumbel-max/1", logitTolerance: "0.001" });
      expect(claims.parameters).not.toHaveProperty("logit_bias");
      expect(JSON.stringify(JSON.parse(frames[0]!.data))).toContain("Hello wörld");
      expect(executed).toMatchObject({
        finish: "stop",
        subject: receiptSubject(receiptId),
        modelName: "a/b",
        manifestDigest: "ef".repeat(32),
        issuedAtMs: 1_700_000_000_000,
      });
    });

    it(`${dialect}: a stream, stated frame by frame`, async () => {
      const { execution, bytes } = start(dialect, { ...BODIES[dialect], stream: true }, { steps: STEPS });
      const frames = await all(execution);
      const executed = await execution.finish();
      const claims = checkClaims(executed, dialect, bytes, frames);
      checkTranscript(claims, frames);
      expect(claims.finishReason).toBe("stop");
      expect(frames.at(-1)?.final).toBe(true);
      expect(frames.slice(0, -1).every((frame) => frame.final === undefined)).toBe(true);
      expect(frames.every(({ data }) => !data.includes('"usage":null'))).toBe(true);
    });

    it(`${dialect}: the frames that were taken are stated, however early the reader leaves`, async () => {
      const whole = await all(start(dialect, { ...BODIES[dialect], stream: true }, { steps: STEPS }).execution);
      for (let taken = 1; taken < whole.length; taken++) {
        const { execution, bytes, seen } = start(dialect, { ...BODIES[dialect], stream: true }, { steps: STEPS });
        const frames: Frame[] = [];
        for await (const frame of execution.frames) {
          frames.push(frame);
          if (frames.length === taken) break;
        }
        expect(frames).toEqual(whole.slice(0, taken));
        const executed = await execution.finish();
        const claims = checkClaims(executed, dialect, bytes, frames);
        checkTranscript(claims, frames);
        expect([executed.finish, claims.finishReason]).toEqual(["incomplete", "incomplete"]);
        expect(seen.stopped).toBe(true);
      }
    });
  }
});

describe("choices and tools", () => {
  it("states two choices that end at different times", async () => {
    const body = { ...BODIES.chat, n: 2, stream: true, stream_options: { include_usage: true } };
    const steps = [text("a"), text("b", 1), end("length", 1), text("c"), end("stop")];
    const { execution, bytes } = start("chat", body, { steps });
    const frames = await all(execution);
    const executed = await execution.finish();
    checkTranscript(checkClaims(executed, "chat", bytes, frames), frames);
    expect(executed.finish).toBe("stop");
    const finals = frames.filter((frame) => frame.final);
    expect(finals).toHaveLength(2);
    expect(JSON.parse(finals[1]!.data)).toMatchObject({
      choices: [],
      usage: { total_tokens: 5 },
      assay: { tokens: [[5, 6]] },
    });
  });

  it("states calls of tools, and tools by name and digest", async () => {
    const tools = [{ type: "function", function: { name: "sum", parameters: { type: "object" } } }];
    const body = { ...BODIES.chat, tools, tool_choice: "auto" };
    const call = (part: string): ChoiceDelta => ({
      index: 0,
      delta: { tool_calls: [{ index: 0, function: { name: "sum", arguments: part } }] },
      finish_reason: null,
    });
    const { execution, bytes } = start("chat", body, {
      steps: [call('{"a"'), call(":1}"), end("tool_calls")],
      outcome: { ...outcome, parameters: { tools: ["sum"], tool_choice: "auto", response_format: { type: "text" } } },
    });
    const frames = await all(execution);
    const claims = checkClaims(await execution.finish(), "chat", bytes, frames);
    expect(claims.finishReason).toBe("tool_calls");
    expect(claims.parameters).toMatchObject({
      tools: { names: ["sum"] },
      tool_choice: "auto",
      response_format: { type: "text" },
    });
    const { message } = (JSON.parse(frames[0]!.data) as { choices: { message: unknown }[] }).choices[0]!;
    expect(message).toMatchObject({
      content: null,
      tool_calls: [{ type: "function", function: { name: "sum", arguments: '{"a":1}' } }],
    });
  });

  it("keeps the claim small whatever was asked", async () => {
    const logitBias = Object.fromEntries(Array.from({ length: 4096 }, (_, i) => [String(i), 0.5]));
    const tools = Array.from({ length: 200 }, (_, i) => ({
      type: "function",
      function: { name: `tool_${"x".repeat(40)}_${i}` },
    }));
    const { execution, bytes } = start(
      "chat",
      { ...BODIES.chat, tools, logit_bias: logitBias },
      {
        steps: STEPS,
        outcome: { ...outcome, parameters: { tools: [], logit_bias: logitBias, stop: ["x".repeat(4000)] } },
      },
    );
    const frames = await all(execution);
    const claims = checkClaims(await execution.finish(), "chat", bytes, frames);
    for (const name of ["tools", "logit_bias", "stop"])
      expect(claims.parameters?.[name]).toEqual({ sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  });
});

describe("upstreams", () => {
  it("states what the upstream showed, and no digest", async () => {
    const { execution, bytes } = start("chat", BODIES.chat, { steps: STEPS, outcome: upstream });
    const claims = checkClaims(await all(execution).then(() => execution.finish()), "chat", bytes, await framesAgain());
    expect(claims.modelDigest).toBeUndefined();
    expect(claims.modelDigestCheck).toBeUndefined();
    expect(claims.upstream).toMatchObject({
      provider: "openai",
      modelReported: "gpt-x-2026",
      facts: { host: "api.example" },
    });
    expect(bytesToHex(claims.upstream?.tlsSpkiSha256 ?? new Uint8Array())).toBe("12".repeat(32));
    expect(claims.upstream?.facts?.["requestId"]).toBe("r".repeat(256));
    expect(claims.runtime).toMatchObject({ profile: "upstream", provider: "openai" });
    expect(claims.usage).toMatchObject({ estimated: true });

    async function framesAgain(): Promise<Frame[]> {
      return all(start("chat", BODIES.chat, { steps: STEPS, outcome: upstream }).execution);
    }
  });
});

describe("failures", () => {
  const failure = new AssayError("engine_interrupted", "It broke.");

  it("rejects with the engine's error when no frame was handed out", async () => {
    for (const stream of [true, false]) {
      const { execution } = start("chat", { ...BODIES.chat, stream }, { steps: STEPS, failAfter: 0, failure });
      await expect(all(execution)).rejects.toBe(failure);
      await expect(execution.finish()).rejects.toBe(failure);
    }
  });

  it("answers nothing of a body whose engine broke in the middle", async () => {
    const { execution } = start("chat", BODIES.chat, { steps: STEPS, failAfter: 2, failure });
    await expect(all(execution)).rejects.toBe(failure);
    await expect(execution.finish()).rejects.toBe(failure);
  });

  it("states an incomplete stream with exactly its frames", async () => {
    for (let failAfter = 1; failAfter <= STEPS.length; failAfter++) {
      const { execution, bytes } = start(
        "chat",
        { ...BODIES.chat, stream: true },
        { steps: STEPS, failAfter, failure },
      );
      const frames: Frame[] = [];
      await expect(
        (async () => {
          for await (const frame of execution.frames) frames.push(frame);
        })(),
      ).rejects.toBe(failure);
      const executed = await execution.finish();
      const claims = checkClaims(executed, "chat", bytes, frames);
      checkTranscript(claims, frames);
      expect(claims.finishReason).toBe("incomplete");
      expect(claims.usage).toEqual({ prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 });
    }
  });

  it("gives what is no error of ours a code, and keeps its cause", async () => {
    const cause = new TypeError("undefined is not a function");
    const { execution } = start(
      "chat",
      { ...BODIES.chat, stream: true },
      { steps: STEPS, failAfter: 0, failure: cause },
    );
    await expect(all(execution)).rejects.toMatchObject({ code: "engine_interrupted", cause });
  });

  it("takes an engine that ends without ending its choices for broken", async () => {
    const { execution } = start("chat", BODIES.chat, { steps: STEPS.slice(0, 2) });
    await expect(all(execution)).rejects.toMatchObject({ code: "engine_interrupted" });
    const after = start("chat", BODIES.chat, { steps: [...STEPS, text("more")] });
    await expect(all(after.execution)).rejects.toMatchObject({ code: "engine_interrupted" });
    const other = start("chat", BODIES.chat, { steps: [text("x", 1)] });
    await expect(all(other.execution)).rejects.toMatchObject({ code: "engine_interrupted" });
  });

  it("stops an engine in the middle of a step when it is finished early", async () => {
    const { execution, seen, bytes } = start("chat", { ...BODIES.chat, stream: true }, { steps: STEPS, hangBefore: 1 });
    const frames = execution.frames[Symbol.asyncIterator]();
    const first = await frames.next();
    const pending = frames.next().catch((error: unknown) => error);
    const executed = await execution.finish();
    expect(await pending).toMatchObject({ code: "request_cancelled" });
    expect(seen.stopped).toBe(true);
    expect(checkClaims(executed, "chat", bytes, [first.value as Frame]).finishReason).toBe("incomplete");
  });

  it("passes the caller's abort on", async () => {
    const abort = new AbortController();
    const { execution } = start(
      "chat",
      { ...BODIES.chat, stream: true },
      { steps: STEPS, hangBefore: 1 },
      { signal: abort.signal },
    );
    const frames = execution.frames[Symbol.asyncIterator]();
    await frames.next();
    const pending = frames.next();
    abort.abort();
    await expect(pending).rejects.toMatchObject({ code: "request_cancelled" });
    expect((await execution.finish()).finish).toBe("incomplete");
  });

  it("rejects when nobody took a frame", async () => {
    const { execution } = start("chat", BODIES.chat, { steps: STEPS });
    await expect(execution.finish()).rejects.toMatchObject({ code: "request_cancelled" });
  });

  it("counts an answer as whole once its last frame was taken, asked for more or not", async () => {
    const { execution } = start("chat", BODIES.chat, { steps: STEPS });
    await execution.frames[Symbol.asyncIterator]().next();
    expect((await execution.finish()).finish).toBe("stop");
  });

  it("refuses an engine that it has not, and a body that fields cannot hold, before any engine runs", async () => {
    const target = { engine: "gone", model: { name: "x" }, modelName: "x" };
    const missing = start("chat", BODIES.chat, { steps: STEPS }, { target });
    await expect(all(missing.execution)).rejects.toMatchObject({ code: "engine_unavailable" });
    await expect(missing.node.check(parseText("chat", missing.bytes, {}), target)).rejects.toMatchObject({
      code: "engine_unavailable",
    });
    const doubled = '{"model":"a","model":"a/b","messages":[{"role":"user","content":"hi"}]}';
    const twice = start("chat", doubled, { steps: STEPS });
    await expect(all(twice.execution)).rejects.toMatchObject({ code: "json_invalid" });
    expect(twice.seen.request).toBeUndefined();
  });
});

describe("embeddings", () => {
  it("states the vectors", async () => {
    for (const encoding_format of ["float", "base64"]) {
      const { execution, bytes } = start("embeddings", { model: "a/e", input: ["x", "y"], encoding_format }, {});
      const frames = await all(execution);
      const executed = await execution.finish();
      const claims = checkClaims(executed, "embeddings", bytes, frames);
      expect(claims).toMatchObject({ kind: "embedding", finishReason: "stop" });
      const { data } = JSON.parse(frames[0]!.data) as { data: { embedding: unknown }[] };
      expect(data[0]!.embedding).toEqual(encoding_format === "float" ? [0.5, -1.25] : "AAAAPwAAoL8=");
    }
  });

  it("refuses vectors with values that are no numbers", async () => {
    const embed = async (): Promise<EmbedOutcome> => ({ ...outcome, vectors: [new Float32Array([Number.NaN])] });
    const { execution } = start("embeddings", { model: "a/e", input: "x" }, { embed });
    await expect(all(execution)).rejects.toMatchObject({ code: "engine_interrupted" });
    await expect(execution.finish()).rejects.toMatchObject({ code: "engine_interrupted" });
  });
});

describe("reopening", () => {
  it("gives the request again, with the tokens and the parameters that were stated", async () => {
    for (const dialect of ["chat", "completions", "responses"] as const) {
      const { execution, seen } = start(dialect, BODIES[dialect], { steps: STEPS });
      await all(execution);
      const { requestFields, responseFields, claims } = await execution.finish();
      const { parameters, kind } = decodeClaims("execution", claims);
      const again = reopenText({
        kind: kind as "chat",
        requestFields,
        responseFields,
        ...(parameters ? { parameters } : {}),
      });
      expect(again.parsed.dialect).toBe(dialect);
      expect(again.parsed.messages).toEqual(seen.request?.messages);
      expect(again.effective).toMatchObject({ temperature: 0.7, max_tokens: 16, seed: 11 });
      expect(again.contradicted).toEqual([]);
      expect(again.tokens).toEqual([[5, 6]]);
      expect(bytesToUtf8(requestFields.find(({ name }) => name === "model")!.value)).toBe('"a/b"');
    }
  });
});
