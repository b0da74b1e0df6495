/** Limits of single values in requests to language models, beside `TEXT_LIMITS`, which bound their numbers. */
export const TEXT_VALUE_LIMITS = {
  /** A namespace, a name and a version, or an upstream's name for a model. */
  maxModelChars: 512,
  /** A stop text is compared at every token; none in honest use comes near. */
  maxStopChars: 1024,
  /** OpenAI's own bounds for labels. */
  maxMetadataPairs: 16,
  maxMetadataKeyChars: 64,
  maxMetadataValueChars: 512,
  /** Opaque names: `user`, `safety_identifier`, `prompt_cache_key`. */
  maxIdentifierChars: 512,
  /** Biased tokens of one request: each is applied at every step. */
  maxLogitBiases: 4096,
  /** Tokens of one choice that may be asked for; the largest contexts known are below. */
  maxTokens: 16_777_216,
  /** The largest vectors known have a few thousand numbers. */
  maxDimensions: 65_536,
  /** Levels of nesting in a body: JSON schemas of tools are the deepest honest part. */
  maxDepth: 64,
  /** Names of parts that no engine is given; more are counted in the last one. */
  maxOmitted: 32,
} as const;
