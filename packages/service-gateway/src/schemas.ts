import { z } from "@hono/zod-openapi";
import { inferRequestSchema, inferResponseSchema, requestTensorSchema, responseTensorSchema } from "@assay/protocol";

/** Schemas of the gateway's own JSON; the Open Inference Protocol's are in `protocol`. */

// Nested data is recursive, which a document of finite depth cannot say: there it is a list of anything.
const data = z.array(z.unknown()).optional().describe("Row-major values, flat or nested; absent for binary tensors.");
export const inferRequest = inferRequestSchema
  .extend({ inputs: z.array(requestTensorSchema.extend({ data })).min(1) })
  .openapi("InferRequest");
export const inferResponse = inferResponseSchema
  .extend({ outputs: z.array(responseTensorSchema.extend({ data })) })
  .openapi("InferResponse");

const hex32 = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .describe("32 bytes in lower-case hexadecimal");
const modelName = z
  .string()
  .max(200)
  .describe("namespace/name, or namespace/name@version")
  .openapi({ example: "demo/digits" });

export const tileParams = z.object({
  path: z.string().openapi({ param: { name: "path", in: "path" }, example: "0/000" }),
});
export const readiness = z.object({ ready: z.boolean(), reasons: z.array(z.string()) }).openapi("Readiness");
export const bytes = z.string().openapi({ format: "binary" });
export const anyJson = z.record(z.string(), z.unknown());

const problemBody = z
  .object({
    error: z.string().describe("One sentence: what was wrong, and with which thing."),
    code: z.string().describe("Stable; each has a page under /errors/."),
    hints: z.array(z.string()).describe("What would be right."),
    docs: z.string(),
  })
  .openapi("Problem");
export const problem = {
  description: "What was wrong, with a stable code.",
  content: { "application/json": { schema: problemBody } },
};

export const modelParams = z.object({ model: modelName.openapi({ param: { name: "model", in: "path" } }) });
export const versionParams = modelParams.extend({
  version: z
    .string()
    .regex(/^[1-9][0-9]*$/)
    .openapi({ param: { name: "version", in: "path" } }),
});
export const fileParams = modelParams.extend({ path: z.string().openapi({ param: { name: "path", in: "path" } }) });
export const receiptParams = z.object({
  id: z.string().openapi({ param: { name: "id", in: "path" }, example: "0193a1b2c3d4e5f60718293a4b5c6d7e" }),
});

/** What pays for a call that has a price, and what it says of being paid. */
export const paymentHeaders = {
  "payment-signature": z.string().optional().describe("x402 v2: a payment for what a 402 has offered, base64 of JSON."),
  "x-payment": z.string().optional().describe("x402 v1: the same."),
  "idempotency-key": z.string().optional().describe("With the same key and request a payer gets the stored answer."),
  "x-settlement-type": z.enum(["private", "batch", "individual"]).optional(),
};
export const inferHeaders = z.object({
  ...paymentHeaders,
  "inference-header-content-length": z
    .string()
    .optional()
    .describe("Length of the JSON before binary tensors; 0 for a raw request."),
  "assay-client-nonce": z.string().optional().describe("8 to 64 bytes in hexadecimal, to be found in the receipt."),
  "assay-preprocessing-digest": hex32.optional().describe("SHA-256 of the preprocessing document that was applied."),
  "assay-retention": z.enum(["none", "client-encrypted", "server-encrypted"]).optional(),
  "assay-profile": z.enum(["portable", "native"]).optional(),
});
const header = (description: string) => ({ description, schema: { type: "string" as const } });
export const receiptHeaders = {
  "assay-receipt-id": header("Id of the receipt, 32 hexadecimal digits."),
  "assay-execution-digest": header("Digest of the execution statement."),
  "assay-opening": header("Master salt that opens the commitments, base64url. Only this answer ever carries it."),
  "assay-grant": header("Lets its holder read the receipt later."),
  "assay-log-index": header("Place in the transparency log."),
};
export const paidHeaders = {
  "payment-response": header("Of a paid answer: what was charged, x402 v2; of a stream, that it will be."),
  "assay-replayed": header("`true` when the answer was paid for before and is given again."),
  "assay-answer-kept": header("`false` when the answer cannot be had again with the same payment."),
};
export const paymentRequired = {
  description: "The call has a price: what pays it, and what was wrong with a payment that came.",
  headers: { "payment-required": header("x402 v2: what is offered, base64 of JSON.") },
};

export const waitQuery = z.object({
  waitMs: z
    .string()
    .optional()
    .describe("Milliseconds to wait for a checkpoint that covers the receipt, at most 30,000."),
});
export const proofQuery = waitQuery.extend({ format: z.enum(["tlog-proof", "cose"]).optional() });
export const listQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).optional(),
  before: z.coerce.number().int().min(0).optional().describe("Only log indexes below this."),
  model: z.string().optional(),
});
export const prefixQuery = z.object({ prefix: z.string().optional() });

export const receiptList = z
  .object({
    receipts: z.array(
      z.object({
        receiptId: z.string(),
        executionDigest: hex32,
        kind: z.string(),
        model: z.string().nullable(),
        mode: z.string().nullable(),
        issuedAt: z.string().describe("ISO 8601"),
        logIndex: z.number().int(),
        owner: z.string().nullable(),
        visibility: z.enum(["public", "private"]),
      }),
    ),
    next: z.number().int().nullable().describe("Pass as `before` for the next page."),
  })
  .openapi("ReceiptList");

export const modelListed = z
  .object({
    name: z.string(),
    version: z.number().int(),
    manifestDigest: hex32,
    status: z.enum(["released", "deprecated"]),
    visibility: z.enum(["public", "private"]),
    sizeBytes: z.number().int(),
    releasedAt: z.string(),
    owner: z.string(),
    logIndex: z.number().int(),
  })
  .openapi("ModelVersion");
// What OpenAI's clients read of a list of models, and what else is known of those that are not the hub's.
const openAiMembers = {
  id: z.string().describe("The name to ask for."),
  object: z.literal("model"),
  created: z.number().int().describe("Unix seconds; 0 when nobody knows."),
  owned_by: z.string(),
};
const openAiModel = z
  .object({
    ...openAiMembers,
    kinds: z.array(z.enum(["chat", "completion", "embedding"])).optional(),
    context_tokens: z.number().int().optional(),
    max_output_tokens: z.number().int().optional(),
    price: z.record(z.string(), z.string()).optional().describe("Decimal texts in `asset`."),
  })
  .openapi("OpenAiModel");
export const modelList = z
  .object({
    object: z.literal("list"),
    data: z.array(openAiModel).describe("Every model by name: the hub's, upstreams' and contracts."),
    models: z.array(modelListed).describe("The hub's."),
  })
  .openapi("ModelList");
const item = z.object({
  name: z.string(),
  datatype: z.string(),
  shape: z.array(z.number().int()).describe("-1 for an axis that is free"),
});
const hubModelShown = modelListed
  .extend({
    ...openAiMembers,
    price: z.record(z.string(), z.string()).optional().describe("Decimal texts in `asset`."),
    versions: z.array(modelListed),
    manifest: z
      .unknown()
      .describe("OCI image manifest (CNCF ModelPack); SHA-256 of its canonical bytes is manifestDigest."),
    signature: z.object({ inputs: z.array(item.extend({ optional: z.boolean() })), outputs: z.array(item) }),
    preprocessing: z.unknown(),
    card: z.string().nullable(),
  })
  .openapi("Model");
export const modelShown = z.union([hubModelShown, openAiModel]);
export const releaseBody = z
  .object({ manifest: z.string().max(4 * 1024 * 1024), visibility: z.enum(["public", "private"]).optional() })
  .openapi("Release");
export const versionBody = z.object({ version: z.number().int().positive() }).openapi("VersionChoice");
export const blobStored = z
  .object({
    sha256: hex32,
    sizeBytes: z.number().int(),
    keptUntilMs: z
      .number()
      .int()
      .optional()
      .describe("Until when an upload that was paid for is kept, unless a model is released of it; absent for good."),
  })
  .openapi("Blob");

const base64 = z.string().max(4096);
export const challengeBody = z
  .object({ publicKey: base64.describe("Raw Ed25519 key, base64") })
  .openapi("ChallengeRequest");
export const challengeGiven = z.object({ challenge: z.string(), expiresAt: z.string() }).openapi("Challenge");
export const tokenBody = z
  .object({
    publicKey: base64,
    challenge: z.string().max(4096),
    signature: base64.describe('Over UTF-8 of "assay/auth/1", a newline and the challenge'),
  })
  .openapi("TokenRequest");
export const tokenGiven = z.object({ token: z.string(), expiresAt: z.string(), owner: z.string() }).openapi("Token");
