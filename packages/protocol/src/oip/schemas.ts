import { z } from "zod";
import type { Datatype } from "../tensor.ts";
import { DATATYPES } from "./datatypes.ts";

// Shapes of the Open Inference Protocol's JSON documents, for the OpenAPI document and for tests. The hot path does
// not use them: requests and responses go through parseInferRequest and encodeInferResponse.

export const datatypeSchema = z.enum(DATATYPES as readonly [Datatype, ...Datatype[]]);

export const oipParametersSchema = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]));

type NestedData = string | number | boolean | NestedData[];
const dataSchema: z.ZodType<NestedData[]> = z.array(
  z.union([z.string(), z.number(), z.boolean(), z.lazy(() => dataSchema)]),
);

export const requestTensorSchema = z.strictObject({
  name: z.string().min(1),
  shape: z.array(z.int().nonnegative()),
  datatype: datatypeSchema,
  parameters: z.strictObject({ binary_data_size: z.int().nonnegative().optional() }).optional(),
  data: dataSchema.optional(),
});

export const requestOutputSchema = z.strictObject({
  name: z.string().min(1),
  parameters: z.strictObject({ binary_data: z.boolean().optional() }).optional(),
});

export const inferRequestSchema = z.strictObject({
  id: z.string().optional(),
  parameters: oipParametersSchema.optional(),
  inputs: z.array(requestTensorSchema).min(1),
  outputs: z.array(requestOutputSchema).optional(),
});

export const responseTensorSchema = z.object({
  name: z.string().min(1),
  shape: z.array(z.int().nonnegative()),
  datatype: datatypeSchema,
  parameters: oipParametersSchema.optional(),
  data: dataSchema.optional(),
});

export const inferResponseSchema = z.object({
  model_name: z.string(),
  model_version: z.string().optional(),
  id: z.string().optional(),
  parameters: oipParametersSchema.optional(),
  outputs: z.array(responseTensorSchema),
});

export const serverMetadataSchema = z.object({
  name: z.string(),
  version: z.string(),
  extensions: z.array(z.string()),
});
export type ServerMetadata = z.infer<typeof serverMetadataSchema>;

export const tensorMetadataSchema = z.object({
  name: z.string(),
  datatype: datatypeSchema,
  shape: z.array(z.int().min(-1)),
});

export const modelMetadataSchema = z.object({
  name: z.string(),
  versions: z.array(z.string()),
  platform: z.string(),
  inputs: z.array(tensorMetadataSchema),
  outputs: z.array(tensorMetadataSchema),
});
export type ModelMetadata = z.infer<typeof modelMetadataSchema>;

export const modelReadySchema = z.object({ name: z.string(), ready: z.boolean() });
export type ModelReady = z.infer<typeof modelReadySchema>;

export const serverLiveSchema = z.object({ live: z.boolean() });
export const serverReadySchema = z.object({ ready: z.boolean() });

export const errorDocumentSchema = z.object({
  error: z.string(),
  code: z.string(),
  hints: z.array(z.string()).optional(),
});
export type ErrorDocument = z.infer<typeof errorDocumentSchema>;
