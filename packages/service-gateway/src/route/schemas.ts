import { z } from "@hono/zod-openapi";
import { routingOptionsSchema } from "@assay/protocol";
import { ASSURANCES, isDecimal, MAX_TIERS } from "@assay/routing";

const decimal = z.string().max(64).refine(isDecimal, 'a decimal text such as "0.25"');
const label = z.string().regex(/^[\w.:/-]{1,128}$/, "1 to 128 letters, digits, and _ . : / -");
/** A model as it may be asked for: no spaces and no control characters. */
const modelName = z.string().regex(/^[!-~]{1,256}$/, "1 to 256 visible ASCII characters");

/** Models that one upstream may have listings for; the largest aggregators have some hundreds. */
const MAX_PRICED_MODELS = 2_000;
/** Longest API key; the longest in use are signed tokens of some hundred bytes. */
const MAX_KEY_LENGTH = 4_096;
/** Models behind one contract. */
const MAX_CONTRACT_MODELS = 64;

export const UPSTREAM_KINDS = ["openai", "anthropic", "gemini", "openai-compatible", "gguf"] as const;
export const TEXT_KINDS = ["chat", "completion", "embedding"] as const;

const priceSchema = z
  .strictObject({
    asset: z.string().regex(/^[\w.:/-]{1,64}$/),
    decimals: z.int().min(0).max(18).optional(),
    perCall: decimal.optional(),
    perMillionInputTokens: decimal.optional(),
    perMillionOutputTokens: decimal.optional(),
  })
  .openapi("Price");

const upstreamFacts = {
  name: z
    .string()
    .regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, "1 to 32 lower-case letters, digits and dashes between them")
    .refine((name) => name !== "local" && name !== "any", "local and any have meanings of their own"),
  kind: z.enum(UPSTREAM_KINDS),
  baseUrl: z.string().min(1).max(2048).optional().describe("Where its API begins; the provider's own when absent"),
  path: z
    .string()
    .regex(/^\/[^\0]{1,4095}$/, "an absolute path")
    .optional()
    .describe("Of kind gguf: the file on the gateway's machine"),
  allowPlain: z
    .boolean()
    .optional()
    .describe("Send prompts over plain HTTP to another machine, where the network itself protects them; never a key"),
  prices: z
    .record(modelName, priceSchema)
    .refine((prices) => Object.keys(prices).length <= MAX_PRICED_MODELS, `at most ${MAX_PRICED_MODELS} models`)
    .optional()
    .describe('Listing by model id; "*" for all others'),
  families: z
    .record(modelName, label)
    .refine((families) => Object.keys(families).length <= MAX_PRICED_MODELS, `at most ${MAX_PRICED_MODELS} models`)
    .optional()
    .describe('Family by model id; "*" for all others'),
  country: z
    .string()
    .regex(/^[A-Z]{2}$/, "two capital letters of ISO 3166-1")
    .optional()
    .describe("Where the operator declares that it runs"),
  maxInFlight: z.int().min(1).max(100_000).optional(),
};

/** An upstream as an operator adds it. */
export const upstreamBody = z
  .strictObject({
    ...upstreamFacts,
    apiKey: z
      .string()
      .min(1)
      .max(MAX_KEY_LENGTH)
      .regex(/^[!-~]+$/, "visible ASCII without spaces")
      .optional(),
    replace: z.boolean().optional().describe("Take the place of one of this name"),
  })
  .openapi("UpstreamRequest");

const storedUpstream = z.strictObject({
  ...upstreamFacts,
  sealedKey: z
    .string()
    .max(MAX_KEY_LENGTH * 2)
    .optional(),
  keyFingerprint: z
    .string()
    .regex(/^[0-9a-f]{8}$/)
    .optional(),
  addedAtMs: z.int().min(0),
});
export const upstreamDocument = z.strictObject({ version: z.literal(1), upstreams: z.array(storedUpstream) });

/** An upstream as it is shown: its key by the first eight hex digits of its SHA-256 alone. */
export const upstreamShown = z
  .object({ ...upstreamFacts, keyFingerprint: z.string().nullable(), addedAt: z.string() })
  .openapi("Upstream");
export const upstreamList = z.object({ upstreams: z.array(upstreamShown) }).openapi("UpstreamList");

/** Names that callers use in place of a model: no slash, so that no hub model can have one. */
export const contractName = z
  .string()
  .regex(/^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/, "1 to 64 letters, digits, dots, dashes and underscores")
  .refine((name) => name !== "any", "any has a meaning of its own");
export const contractBody = z
  .strictObject({
    models: z.array(modelName).min(1).max(MAX_CONTRACT_MODELS),
    kinds: z.array(z.enum(TEXT_KINDS)).min(1).max(TEXT_KINDS.length).optional(),
    require: routingOptionsSchema.optional(),
    objective: z.enum(["balanced", "latency", "price", "security"]).optional(),
  })
  .openapi("ContractBody");
export const contractShown = z
  .object({ name: z.string(), ...contractBody.shape, changedAt: z.string() })
  .openapi("Contract");
export const contractList = z.object({ contracts: z.array(contractShown) }).openapi("ContractList");
export const contractDocument = z.strictObject({
  version: z.literal(1),
  contracts: z.record(contractName, contractBody.extend({ changedAtMs: z.int().min(0) })),
});

export const assurancePolicyBody = z
  .strictObject({
    version: z.literal(1),
    tiers: z
      .array(
        z.strictObject({
          upTo: decimal.nullable(),
          assurance: z.enum(ASSURANCES),
          auditShare: decimal.optional(),
        }),
      )
      .min(1)
      .max(MAX_TIERS),
  })
  .openapi("AssurancePolicy");
export const assurancePolicyShown = z
  .object({ policy: assurancePolicyBody, digest: z.string(), isDefault: z.boolean() })
  .openapi("AssurancePolicyShown");

/** The problems of a value that did not fit, one line each. */
export function issuesOf(error: z.ZodError): readonly string[] {
  return error.issues.map((issue) => `${issue.path.join(".") || "document"}: ${issue.message}`);
}

/** What may be asked to be explained; the members of a whole request are those of its API. */
export const explainBody = z
  .looseObject({
    model: z.string(),
    dialect: z.enum(["chat", "completions", "responses", "embeddings"]).optional(),
    kind: z.enum(TEXT_KINDS).optional().describe("Without dialect"),
    assay: z.record(z.string(), z.unknown()).optional().describe("Routing options"),
  })
  .openapi("ExplainRequest");
const texts = z.array(z.string());
export const explained = z
  .object({
    model: z.string(),
    kind: z.string(),
    contract: z.string().nullable(),
    objective: z.string(),
    weights: z.string(),
    assurance: z.object({ demanded: z.string(), reason: z.string(), auditShare: z.string().nullable() }),
    candidates: z.array(
      z.object({
        candidate: z.string(),
        node: z.string(),
        engine: z.string(),
        model: z.string(),
        version: z.string().nullable(),
        outcome: z.string().describe("chosen, eligible, or refused: and the limit that it breaks"),
        score: z.number().nullable(),
        predicted: z.object({ waitMs: z.number(), firstByteMs: z.number(), totalMs: z.number(), depth: z.number() }),
        costAtMost: z.string().nullable(),
        asset: z.string().nullable(),
        health: z.string(),
        samples: z.number().int(),
        country: z.string().nullable(),
        countryEvidence: z.string().nullable(),
        securityModes: texts,
      }),
    ),
    choice: z.object({ candidate: z.string(), node: z.string(), reason: z.string() }).nullable(),
    refusal: z.object({ code: z.string(), error: z.string(), hints: texts }).nullable(),
  })
  .openapi("RouteExplanation");
