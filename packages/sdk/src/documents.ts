import type { JsonValue } from "@assay/core";
import { datatypeSchema } from "@assay/protocol";
import { z } from "zod";
import { clientError } from "./errors.ts";

// What the gateway answers, as far as this client reads it. Fields that a newer gateway adds are passed over.

const hex32 = z.string().regex(/^[0-9a-f]{64}$/);
const port = z.object({
  name: z.string(),
  datatype: datatypeSchema,
  shape: z.array(z.int().min(-1)),
  /** Inputs the graph can do without. */
  optional: z.boolean().optional(),
});

const listedModel = z.object({
  name: z.string(),
  version: z.int(),
  manifestDigest: hex32,
  status: z.string(),
  visibility: z.string(),
  sizeBytes: z.number(),
  releasedAt: z.union([z.string(), z.number()]),
  owner: z.string(),
});
/** One released version of a model, as lists show it. */
export type ListedModel = z.infer<typeof listedModel>;
export const modelList = z.object({ models: z.array(listedModel) });

export const modelDetail = listedModel.extend({
  versions: z.array(
    z.object({ version: z.int(), manifestDigest: hex32, status: z.string(), current: z.boolean().optional() }),
  ),
  /** The OCI manifest: its exact text, or the same as an object. */
  manifest: z.union([z.string(), z.record(z.string(), z.unknown())]),
  signature: z.object({ inputs: z.array(port), outputs: z.array(port) }),
  preprocessing: z.union([z.record(z.string(), z.unknown()), z.null()]).optional(),
  card: z.union([z.string(), z.null()]).optional(),
  /** Decimal texts in units of `asset`; absent when the model is free. */
  price: z.record(z.string(), z.string()).optional(),
});
/** One model with its current version's manifest, signature, preprocessing document and card. */
export type ModelDetail = z.infer<typeof modelDetail>;

const listedReceipt = z.object({
  receiptId: z.string(),
  executionDigest: z.string(),
  kind: z.string(),
  model: z.union([z.string(), z.null()]),
  mode: z.union([z.string(), z.null()]),
  issuedAt: z.union([z.string(), z.number()]),
  logIndex: z.int(),
  owner: z.union([z.string(), z.null()]),
  visibility: z.string(),
});
/** One receipt, as lists show it. */
export type ListedReceipt = z.infer<typeof listedReceipt>;
export const receiptList = z.object({
  receipts: z.array(listedReceipt),
  next: z.union([z.int(), z.null()]),
});
export type ReceiptPage = z.infer<typeof receiptList>;

export const storedBlob = z.object({ sha256: hex32, sizeBytes: z.number() });
export const releasedVersion = z.object({
  name: z.string(),
  version: z.int(),
  manifestDigest: hex32,
  logIndex: z.union([z.int(), z.null()]).optional(),
});
export type ReleasedVersion = z.infer<typeof releasedVersion>;

export const challengeDocument = z.object({ challenge: z.string().min(1).max(4096) });
const moment = z.union([z.string(), z.number()]);
export const tokenDocument = z.object({ token: z.string().min(1).max(4096), expiresAt: moment, owner: z.string() });

/** `value` as the document it must be. Throws `response_malformed` naming the first part that is not. */
export function read<T>(schema: z.ZodType<T>, value: JsonValue, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join(".") ?? "";
  throw clientError(
    "response_malformed",
    `The gateway's ${what} is not one: ${where === "" ? "it" : where} is wrong.`,
    {
      cause: parsed.error,
    },
  );
}
