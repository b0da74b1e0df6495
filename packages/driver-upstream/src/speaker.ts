import type { EmbedOutcome, EmbedRequest, GenerateRequest, Generation, ListedEngineModel } from "@assay/protocol";

/** One provider's way of speaking. Kinds that are not in `kinds` never reach it. */
export type Speaker = {
  readonly kinds: readonly ("chat" | "completion" | "embedding")[];
  /** Throws what {@link Speaker.generate} would refuse before it sends anything. */
  readonly check: (request: GenerateRequest) => void;
  readonly generate: (request: GenerateRequest, signal: AbortSignal) => Generation;
  readonly embed: (request: EmbedRequest, signal: AbortSignal) => Promise<Omit<EmbedOutcome, "engineMs">>;
  readonly models: (signal: AbortSignal) => Promise<readonly ListedEngineModel[]>;
};
