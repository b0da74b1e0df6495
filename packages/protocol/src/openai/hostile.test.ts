import { isAssayError, utf8ToBytes } from "@assay/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TEXT_DIALECTS } from "../text/execution.ts";
import { assemble } from "./assemble.ts";
import { chatEndpoint } from "./chat-request.ts";
import { completionEndpoint } from "./completion-request.ts";
import { embeddingEndpoint } from "./embedding-request.ts";
import { parseText } from "./parse.ts";
import { responsesEndpoint } from "./responses-request.ts";

const names = {
  chat: chatEndpoint,
  completions: completionEndpoint,
  responses: responsesEndpoint,
  embeddings: embeddingEndpoint,
};
const KNOWN = [
  "type",
  "role",
  "content",
  "text",
  "index",
  "delta",
  "function",
  "name",
  "arguments",
  "tool_calls",
  "format",
];
const WORDS = [
  "user",
  "assistant",
  "function",
  "message",
  "function_call",
  "reasoning",
  "input_text",
  "output_text",
  "auto",
];
/** JSON that is near enough to the real thing to get past the first check. */
const near = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom(...WORDS),
    fc.constantFrom(null, true, false, 0, 1, -1, 1.5, 1e300),
    fc.string(),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...KNOWN), tie("value"), { maxKeys: 4 }),
  ),
})).value;

function codeOf(run: () => unknown): string {
  try {
    run();
    return "accepted";
  } catch (error) {
    if (!isAssayError(error)) throw error;
    expect(error.message.length).toBeLessThan(1000);
    return error.code;
  }
}

describe("what a stranger may send", () => {
  it.each(TEXT_DIALECTS)("is a request or a refusal, never a fault: %s", (dialect) => {
    const { schema, unsupported } = names[dialect];
    const keys = [...Object.keys(schema.shape), ...Object.keys(unsupported), "__proto__", "constructor", "x"];
    const codes = ["accepted", "parameter_unknown", "parameter_invalid", "parameter_unsupported"];
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(...keys), near), { maxLength: 5 }),
        fc.boolean(),
        (members, model) => {
          const all = model ? [["model", "m"], ...members] : members;
          const body = `{${all.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`;
          expect(codes).toContain(codeOf(() => parseText(dialect, utf8ToBytes(body), {})));
        },
      ),
      { numRuns: 400 },
    );
  });

  it.each(TEXT_DIALECTS)("adds up to an answer or is refused, never a fault: %s", (dialect) => {
    const types = [
      "response.created",
      "response.output_item.added",
      "response.output_item.done",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.annotation.added",
      "response.function_call_arguments.delta",
      "response.completed",
    ];
    const frame = fc.record(
      {
        id: fc.constant("i"),
        created: fc.constant(1),
        model: fc.constant("m"),
        type: fc.constantFrom(...types),
        object: fc.constantFrom("chat.completion.chunk", "chat.completion", "response", "list"),
        choices: fc.oneof(
          near,
          fc.array(fc.record({ index: fc.nat(20), delta: near, logprobs: near, text: near }), { maxLength: 3 }),
        ),
        output_index: fc.nat(3),
        content_index: fc.nat(3),
        item: near,
        part: near,
        delta: near,
        response: near,
        logprobs: near,
      },
      { requiredKeys: ["id", "created", "model"] },
    );
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 6 }), (frames) => {
        const run = () =>
          JSON.stringify(
            assemble(
              dialect,
              frames.map((one) => ({ data: JSON.stringify(one) })),
            ),
          );
        expect(["accepted", "response_malformed"]).toContain(codeOf(run));
      }),
      { numRuns: 400 },
    );
  });
});
