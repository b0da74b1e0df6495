import type { OpenAPIHono, createRoute } from "@hono/zod-openapi";
import {
  chatRequestSchema,
  completionRequestSchema,
  embeddingRequestSchema,
  responsesRequestSchema,
} from "@assay/protocol";
import { z } from "zod";
import { paidHeaders, paymentHeaders, paymentRequired, receiptHeaders } from "../schemas.ts";

type Registry = OpenAPIHono["openAPIRegistry"];
type JsonSchema = { readonly [key: string]: unknown };
type RouteParts = Partial<Parameters<typeof createRoute>[0]>;
/** As the API declares its routes: method, path, operation id, summary and the rest. */
type Route = (
  method: "post",
  path: string,
  operationId: string,
  summary: string,
  parts: RouteParts,
) => ReturnType<typeof createRoute>;

const text = { type: "string" } as const;
const integer = { type: "integer" } as const;
const anything = {} as const;
const list = (items: JsonSchema): JsonSchema => ({ type: "array", items });
const object = (properties: JsonSchema, required = Object.keys(properties)): JsonSchema => ({
  type: "object",
  properties,
  required,
});
const ref = (name: string): JsonSchema => ({ $ref: `#/components/schemas/${name}` });

const assay = {
  ...object({ receipt_id: text, tokens: list(list(integer)) }, ["receipt_id"]),
  description: "Beside OpenAI's members: the receipt's id and, of engines that choose them, the tokens.",
};
const usage = object({ prompt_tokens: integer, completion_tokens: integer, total_tokens: integer });
const answer = (choice: JsonSchema, more: JsonSchema = {}): JsonSchema =>
  object({ id: text, object: text, created: integer, model: text, choices: list(choice), usage, assay, ...more });

const COMPONENTS: Readonly<Record<string, JsonSchema>> = {
  TextProblem: object({
    error: object({ message: text, type: text, param: { type: ["string", "null"] }, code: text }),
    code: { ...text, description: "Stable; each has a page under /errors/." },
    hints: list(text),
    docs: text,
  }),
  ChatAnswer: answer(
    object(
      {
        index: integer,
        message: object({ role: text, content: { type: ["string", "null"] }, tool_calls: list(anything) }, ["role"]),
        logprobs: anything,
        finish_reason: text,
      },
      ["index", "message", "finish_reason"],
    ),
  ),
  CompletionAnswer: answer(object({ index: integer, text, finish_reason: text }), { completion: text }),
  EmbeddingAnswer: object({
    object: { const: "list" },
    data: list(
      object({
        object: { const: "embedding" },
        index: integer,
        embedding: { anyOf: [list({ type: "number" }), { ...text, description: "base64 of little-endian float32" }] },
      }),
    ),
    model: text,
    usage: object({ prompt_tokens: integer, total_tokens: integer }),
    assay,
  }),
  ResponsesAnswer: object(
    {
      id: text,
      object: { const: "response" },
      created_at: integer,
      status: text,
      model: text,
      output: list(anything),
      assay,
    },
    ["id", "object", "created_at", "status", "model", "output", "assay"],
  ),
};

const ROUTES = [
  ["/v1/chat/completions", "text.chat", "Answer a conversation", "ChatRequest", chatRequestSchema, "ChatAnswer"],
  [
    "/v1/completions",
    "text.complete",
    "Continue a text",
    "CompletionRequest",
    completionRequestSchema,
    "CompletionAnswer",
  ],
  [
    "/v1/responses",
    "text.respond",
    "Answer in the form of the Responses API",
    "ResponsesRequest",
    responsesRequestSchema,
    "ResponsesAnswer",
  ],
  ["/v1/embeddings", "text.embed", "Vectors of texts", "EmbeddingRequest", embeddingRequestSchema, "EmbeddingAnswer"],
] as const;

const HEADERS = z.object({
  "assay-client-nonce": z.string().optional().describe("8 to 64 bytes in hexadecimal, to be found in the receipt."),
  "assay-retention": z.enum(["none", "client-encrypted", "server-encrypted"]).optional(),
  ...paymentHeaders,
});

/**
 * Puts the text API into the document. The routes are answered before the framework; what they take is what `protocol`
 * parses with, so the document cannot say something else.
 */
export function declareTextRoutes(registry: Registry, route: Route, security: RouteParts["security"]): void {
  for (const [name, schema] of Object.entries(COMPONENTS)) registry.registerComponent("schemas", name, schema);
  const headers = {
    ...receiptHeaders,
    ...paidHeaders,
    "assay-node": { description: "Who signs the execution.", schema: { type: "string" as const } },
  };
  for (const [path, operationId, summary, name, schema, answers] of ROUTES) {
    registry.registerComponent("schemas", name, jsonSchemaOf(schema));
    const streams = name !== "EmbeddingRequest";
    registry.registerPath(
      route("post", path, operationId, summary, {
        ...(security ? { security } : {}),
        tags: ["text"],
        request: {
          headers: HEADERS,
          body: { content: { "application/json": { schema: ref(name) } }, required: true },
        },
        responses: {
          200: {
            description: streams
              ? "The answer, or with `stream` its events; the receipt is named in the headers. Of a stream, the last events come when the receipt is durable, and its digest and log index in a comment after them."
              : "The answer; the receipt is named in the headers.",
            headers,
            content: {
              "application/json": { schema: ref(answers) },
              ...(streams ? { "text/event-stream": { schema: text } } : {}),
            },
          },
          402: { ...paymentRequired, content: { "application/json": { schema: ref("TextProblem") } } },
          default: {
            description: "What was wrong, in OpenAI's shape with a stable code.",
            content: { "application/json": { schema: ref("TextProblem") } },
          },
        },
      }),
    );
  }
}

/** The JSON schema of what a request may be; recursive JSON inside it, such as a tool's schema, is anything. */
function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const {
    $schema: _,
    $defs: __,
    ...made
  } = z.toJSONSchema(schema, {
    io: "input",
    unrepresentable: "any",
    override({ zodSchema, jsonSchema }) {
      if (zodSchema._zod.def.type !== "lazy") return;
      for (const key of Object.keys(jsonSchema)) Reflect.deleteProperty(jsonSchema, key);
    },
  });
  return withoutRefs(made) as JsonSchema;
}

function withoutRefs(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutRefs);
  if (typeof value !== "object" || value === null) return value;
  if ("$ref" in value) return {};
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutRefs(item)]));
}
