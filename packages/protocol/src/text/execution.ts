import type { JsonValue } from "@assay/core";
import type { ChatMessage } from "./messages.ts";
import type { EngineModel, GenerateParameters, TextFinishReason, TextUsage } from "./engine.ts";

/** Which API the caller speaks: decides how the answer is written. */
export const TEXT_DIALECTS = ["chat", "completions", "responses", "embeddings"] as const;
export type TextDialect = (typeof TEXT_DIALECTS)[number];

export const SECURITY_MODES = ["vanilla", "tee", "zkml"] as const;
export type SecurityMode = (typeof SECURITY_MODES)[number];
export const JURISDICTION_EVIDENCE = ["declared", "registry", "attested"] as const;
/** How a node's jurisdiction is known, weakest first. */
export type JurisdictionEvidence = (typeof JURISDICTION_EVIDENCE)[number];
export const OBJECTIVES = ["balanced", "latency", "price", "security"] as const;
export type Objective = (typeof OBJECTIVES)[number];

/** What a caller asks of the route; from the body's `assay` member or from `assay-…` headers. Limits are never relaxed. */
export type RoutingOptions = {
  readonly objective?: Objective;
  readonly mode?: SecurityMode;
  /** Country codes (ISO 3166-1 alpha-2) or regions (`EU`, `EEA`) of which one must hold. */
  readonly jurisdiction?: readonly string[];
  readonly jurisdictionEvidence?: JurisdictionEvidence;
  /** Most that the call may cost, decimal text in the listing's asset. */
  readonly maxPrice?: string;
  /** Most milliseconds that the first byte may take by prediction. */
  readonly maxLatencyMs?: number;
  readonly family?: string;
  readonly cpuClass?: string;
  /** What is at stake in this answer, decimal text in US dollars: decides the assurance by the operator's policy. */
  readonly valueAtRisk?: string;
};

/** A request after parsing: typed, limited, every parameter known. */
export type ParsedText = {
  readonly dialect: TextDialect;
  readonly kind: "chat" | "completion" | "embedding";
  /** The name as asked for: a hub model, an upstream's model, a contract, or `any`. */
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  readonly prompt?: string | readonly number[];
  readonly inputs?: readonly (string | readonly number[])[];
  readonly encodingFormat?: "float" | "base64";
  readonly dimensions?: number;
  readonly parameters: GenerateParameters;
  readonly stream: boolean;
  /** Whether a stream ends with a usage frame of its own (`stream_options.include_usage`). */
  readonly includeUsage: boolean;
  readonly routing: RoutingOptions;
  /** Members of the request that a Responses answer repeats, as they came: `instructions`, `tools`, `text`, … */
  readonly repeated?: Readonly<Record<string, JsonValue>>;
  /** Parts that were accepted and that no engine is given, by their path: the receipt's parameters name them. */
  readonly omitted?: readonly string[];
};

/** One event of the answer. `data` is its payload: what a receipt's transcript commits to, without `[DONE]`. */
export type Frame = {
  readonly event?: string;
  readonly data: string;
  /** Set from the first frame on that says how the answer ended: held back until the receipt is durable. */
  readonly final?: true;
};

/** One text execution, as the gateway hands it to a node. */
export type TextRequest = {
  /** 16 bytes, time-ordered, chosen by the gateway so that it can stand in the answer's headers. */
  readonly receiptId: Uint8Array;
  /** 32 random bytes that open both sides; made by the gateway, for the client alone. */
  readonly masterSalt: Uint8Array;
  readonly createdS: number;
  /** The client's body as it came: what the receipt commits to. */
  readonly body: Uint8Array;
  readonly parsed: ParsedText;
  readonly target: TextTarget;
  readonly clientNonce?: Uint8Array;
  readonly principal?: { readonly caller: string; readonly authentication: "token" | "payment" | "signature" };
  readonly signal: AbortSignal;
};

/** What the route chose on the node: a model of the hub, or an upstream's. */
export type TextTarget = {
  /** `local` runs hub models; anything else is the name of a configured upstream. */
  readonly engine: string;
  readonly model: EngineModel;
  /** Name and version for the receipt; version absent for upstreams. */
  readonly modelName: string;
  readonly modelVersion?: string;
};

/** How a text execution ended, for the log line, the router and the price. */
export type TextOutcome = {
  readonly finish: TextFinishReason | "incomplete" | "error";
  readonly usage: TextUsage;
  readonly engineMs: number;
};

/** What the node states about a text execution, unsigned (the local node; the recorder signs) or signed (a remote one). */
export type ExecutedText = TextOutcome & {
  /** `urn:assay:receipt:…`: what the statement is about. */
  readonly subject: string;
  readonly issuedAtMs: number;
  /** Deterministic CBOR of the execution claims. */
  readonly claims: Uint8Array;
  /** COSE_Sign1 of the execution statement, when the node signed for itself. */
  readonly envelope?: Uint8Array;
  readonly requestFields: readonly { readonly name: string; readonly value: Uint8Array }[];
  readonly responseFields: readonly { readonly name: string; readonly value: Uint8Array }[];
  readonly modelName: string;
  readonly manifestDigest: string | null;
  /** The mode that the claims state; `vanilla` when absent. */
  readonly mode?: SecurityMode;
};

export type TextExecution = {
  /**
   * The answer's frames in order; without `stream` exactly one, the whole body. They end after the last one; when the
   * engine fails they throw, and `finish` still gives what happened (`incomplete`) if any frame was taken before.
   */
  readonly frames: AsyncIterable<Frame>;
  /**
   * To be called once, after the frames ended, threw or were left: what to state. Rejects with the engine's error when
   * no frame was handed out: then nothing was answered and another node may be tried.
   */
  readonly finish: () => Promise<ExecutedText>;
};

/** A node as the gateway calls it: the one in this process, or a remote one. */
export type TextExecutor = {
  /** `urn:assay:node:…` of the party that signs. */
  readonly subject: string;
  /** Refuses what the target's engine cannot apply; the codes of `LanguageEngine.check`. */
  readonly check: (parsed: ParsedText, target: TextTarget) => Promise<void>;
  readonly execute: (request: TextRequest) => TextExecution;
};
