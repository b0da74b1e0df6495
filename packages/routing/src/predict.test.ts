import { describe, expect, it } from "vitest";
import type { ParsedText } from "@assay/protocol";
import { tokenBounds } from "./estimate.ts";
import { DEFAULT_LATENCY, HEARTBEAT, afterAnswer, depthOf, median, priorOf } from "./predict.ts";
import { UNKNOWN_HEALTH } from "./health.ts";
import type { Candidate } from "./candidate.ts";

const candidate: Candidate = {
  node: "urn:assay:node:a",
  engine: "local",
  model: "demo/chat",
  kinds: ["chat"],
  securityModes: ["vanilla"],
  auditable: true,
  warm: true,
  health: UNKNOWN_HEALTH,
  load: { inFlight: 0 },
};

describe("depth", () => {
  it("adds what others had by the last report to what is ours now", () => {
    const report = { depth: 5, ownAtReport: 2, atMs: 1000 };
    expect(depthOf({ inFlight: 4, report }, 2000)).toBe(7);
    expect(depthOf({ inFlight: 0, report }, 2000)).toBe(3);
  });

  it("never goes below what is ours, whatever a node reports", () => {
    expect(depthOf({ inFlight: 4, report: { depth: 0, ownAtReport: 9, atMs: 1000 } }, 1000)).toBe(4);
  });

  it("forgets a report that is too old to be true", () => {
    const report = { depth: 5, ownAtReport: 0, atMs: 1000 };
    expect(depthOf({ inFlight: 1, report }, 1000 + HEARTBEAT.deadAfterMs)).toBe(6);
    expect(depthOf({ inFlight: 1, report }, 1001 + HEARTBEAT.deadAfterMs)).toBe(1);
  });
});

describe("averages", () => {
  it("take the first measurement as it is and move towards the next", () => {
    const first = afterAnswer(undefined, { firstByteMs: 100, totalMs: 1090, outputTokens: 100 });
    expect(first).toStrictEqual({ firstByteMs: 100, perTokenMs: 10, serviceMs: 1090, samples: 1 });
    const second = afterAnswer(first, { firstByteMs: 200, totalMs: 2000, outputTokens: 1 });
    expect(second.firstByteMs).toBe(120);
    expect(second.perTokenMs).toBe(10);
    expect(second.samples).toBe(2);
  });

  it("are not fooled by answers in one piece", () => {
    const whole = afterAnswer(undefined, { totalMs: 1000, outputTokens: 100 });
    expect(whole.firstByteMs).toBe(10);
    expect(whole.perTokenMs).toBe(10);
    const streamed = afterAnswer(undefined, { firstByteMs: 400, totalMs: 1000, outputTokens: 61 });
    expect(afterAnswer(streamed, { totalMs: 1000, outputTokens: 61 })).toStrictEqual({ ...streamed, samples: 2 });
  });

  it("stand in for the cold by the median of the others", () => {
    const of = (serviceMs: number): Candidate => ({
      ...candidate,
      latency: { firstByteMs: serviceMs, perTokenMs: 1, serviceMs, samples: 5 },
    });
    expect(priorOf([of(1), of(9), of(5), candidate]).serviceMs).toBe(5);
    expect(priorOf([candidate])).toBe(DEFAULT_LATENCY);
    expect(median([])).toBe(0);
    expect(median([1, 3])).toBe(2);
  });
});

describe("token bounds", () => {
  const text = (changes: Partial<ParsedText>): ParsedText => ({
    dialect: "chat",
    kind: "chat",
    model: "demo/chat",
    messages: [],
    parameters: {},
    stream: false,
    includeUsage: false,
    routing: {},
    ...changes,
  });

  it("bound a chat by its bytes", () => {
    const {
      inputAtMost = 0,
      outputAtMost,
      choices,
    } = tokenBounds(text({ messages: [{ role: "user", content: "näh" }], parameters: { max_tokens: 7, n: 3 } }));
    expect(inputAtMost).toBeGreaterThanOrEqual(4);
    expect(inputAtMost).toBeLessThan(200);
    expect(outputAtMost).toBe(7);
    expect(choices).toBe(3);
  });

  it("count tools", () => {
    const bare = tokenBounds(text({ messages: [{ role: "user", content: "x" }] })).inputAtMost ?? 0;
    const tools = [{ type: "function" as const, function: { name: "look", description: "y".repeat(500) } }];
    const more = tokenBounds(text({ messages: [{ role: "user", content: "x" }], parameters: { tools } })).inputAtMost;
    expect((more ?? 0) - bare).toBeGreaterThan(500);
  });

  it("know no bound for images, and none for answers without a limit", () => {
    const image = { type: "image_url" as const, image_url: { url: "data:image/png;base64,AAAA" } };
    const bounds = tokenBounds(text({ messages: [{ role: "user", content: [image] }] }));
    expect(bounds.inputAtMost).toBeUndefined();
    expect(bounds.outputAtMost).toBeUndefined();
  });

  it("count token ids exactly, and each input of an embedding by itself", () => {
    const completion = tokenBounds(
      text({ dialect: "completions", kind: "completion", prompt: [1, 2, 3], parameters: { best_of: 4 } }),
    );
    expect(completion).toStrictEqual({ inputAtLeast: 3, inputAtMost: 3, choices: 4 });
    const embedding = tokenBounds(text({ dialect: "embeddings", kind: "embedding", inputs: [[1, 2], [3]] }));
    expect(embedding).toStrictEqual({ inputAtLeast: 2, inputAtMost: 3, outputAtMost: 0, choices: 1 });
  });
});
