import { z } from "zod";
import { canonicalJson, utf8ToBytes } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import { JURISDICTION_EVIDENCE, SECURITY_MODES } from "../text/execution.ts";
import { base64, hexText, uint } from "./schemas.ts";

/** Limits of what a node says of itself. */
export const NODE_LIMITS = {
  /** A join request: a keyset of at most 64 KiB in base64 and an advertisement. */
  maxJoinBytes: 1024 * 1024,
  maxOffers: 256,
  maxKinds: 4,
  maxAliases: 16,
  /** Statements offered in one call; each has at most 16 KiB of envelope and 256 KiB of claims. */
  maxStatements: 64,
  maxStatementsBytes: 24 * 1024 * 1024,
  /** Gaps that one heartbeat's answer names; the next names more. */
  maxGaps: 256,
} as const;

const NAME = z.string().min(1).max(512);
const decimal = z.string().regex(/^[0-9]{1,30}(?:\.[0-9]{1,18})?$/, "must be a decimal number as text");

const price = z.strictObject({
  asset: z.string().min(1).max(64),
  decimals: z.number().int().min(0).max(18).optional(),
  perCall: decimal.optional(),
  perMillionInputTokens: decimal.optional(),
  perMillionOutputTokens: decimal.optional(),
});

/** One model as a node offers it. Hub models name their manifest; upstream models have none. */
export const offerSchema = z.strictObject({
  engine: z.string().min(1).max(128),
  model: NAME,
  version: NAME.optional(),
  manifestDigest: hexText(32).optional(),
  aliases: z.array(NAME).max(NODE_LIMITS.maxAliases).optional(),
  kinds: z
    .array(z.enum(["chat", "completion", "embedding", "tensor"]))
    .min(1)
    .max(NODE_LIMITS.maxKinds),
  family: z.string().min(1).max(128).optional(),
  contextTokens: uint.optional(),
  maxOutputTokens: uint.optional(),
  price: price.optional(),
  warm: z.boolean().optional(),
  auditable: z.boolean().optional(),
});

/** What a node says of itself. `cpuClass` is the fingerprint of its runtime, lower-case hex. */
export const advertisementSchema = z.strictObject({
  offers: z.array(offerSchema).max(NODE_LIMITS.maxOffers),
  securityModes: z.array(z.enum(SECURITY_MODES)).min(1).max(SECURITY_MODES.length),
  jurisdiction: z
    .strictObject({
      country: z.string().regex(/^[A-Z]{2}$/, "must be a country code of ISO 3166-1 alpha-2"),
      evidence: z.enum(JURISDICTION_EVIDENCE),
    })
    .optional(),
  cpuClass: hexText(32).optional(),
  accelerator: z.string().min(1).max(128).optional(),
  slots: uint.optional(),
  capacity: uint.optional(),
});
export type Advertisement = z.output<typeof advertisementSchema>;
export type Offer = z.output<typeof offerSchema>;

const joinBody = {
  publicKey: base64(32, 32),
  role: z.enum(["node", "gateway"]),
  challenge: z.string().min(1).max(1024),
  keyset: z.strictObject({ envelope: base64(1, 16 * 1024), document: base64(1, 64 * 1024) }),
  /** Where the gateway reaches the node, and the secret it shows there; a gateway that only writes has neither. */
  url: z.string().min(1).max(2048).optional(),
  secret: base64(32, 32).optional(),
  advertisement: advertisementSchema,
};
/** A request to join, signed by the identity key; `countersignature` is the operator's, on the operator's own machine. */
export const joinSchema = z.strictObject({
  ...joinBody,
  signature: base64(64, 64),
  invite: z.string().min(1).max(256).optional(),
  countersignature: base64(64, 64).optional(),
});
export type JoinRequest = z.output<typeof joinSchema>;
export type JoinWire = z.input<typeof joinSchema>;

/** Roles have different keysets: a node signs executions, a gateway what it decided around them. */
export type PartyRole = "node" | "gateway";

/**
 * What both signatures of a join request cover: all of it but the signatures, by the digest of its canonical JSON. The
 * operator's has another first line, so that neither can stand for the other.
 */
export function joinMessage(
  suite: Pick<CryptoSuite, "sha256">,
  by: "node" | "operator",
  wire: Omit<JoinWire, "signature" | "countersignature" | "invite">,
): Uint8Array {
  const { publicKey, role, challenge, keyset, url, secret, advertisement } = wire;
  const signed: JsonValue = {
    publicKey,
    role,
    challenge,
    keyset,
    ...(url === undefined ? {} : { url }),
    ...(secret === undefined ? {} : { secret }),
    advertisement: plainJson(advertisement),
  };
  const digest = Buffer.from(suite.sha256(canonicalJson(signed))).toString("hex");
  return utf8ToBytes(`assay/${by === "node" ? "node-join" : "node-admit"}/1\n${digest}`);
}

// Members that are absent and members that are undefined are one thing in JSON, and must be here.
function plainJson(value: unknown): JsonValue {
  if (Array.isArray(value)) return value.map(plainJson);
  if (typeof value !== "object" || value === null) return value as JsonValue;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, item]) => (item === undefined ? [] : [[key, plainJson(item)]])),
  );
}

/** Where a party's chain stands by the log: what a node continues after it lost its own memory of it. */
export const knownSchema = z.strictObject({
  head: z.strictObject({ seq: uint, prev: hexText(32).optional() }).optional(),
  keyset: z.strictObject({ bootSeq: uint, keyset: hexText(32), statement: hexText(32) }).optional(),
});
export const challengeSchema = z.strictObject({
  challenge: z.string().min(1).max(1024),
  expiresAt: z.string(),
  known: knownSchema,
});

export const PARTY_STATES = ["pending", "active", "draining", "left", "ejected"] as const;
/** `pending` waits for the operator; `ejected` was turned out by the operator or by audits and gets no work. */
export type PartyState = (typeof PARTY_STATES)[number];

export const joinedSchema = z.strictObject({
  subject: NAME,
  state: z.enum(PARTY_STATES),
  /** Bearer for everything after the join. */
  session: z.string().min(32).max(256),
  heartbeatMs: uint,
});
export type Joined = z.output<typeof joinedSchema>;

/** A range of positions in a chain: `from` up to but not including `to`. */
const range = z.tuple([uint, uint]);

/** What a node says every few seconds. `unacknowledged` is the part of its chain that it does not yet know logged. */
export const heartbeatSchema = z.strictObject({
  running: uint,
  queued: uint,
  warm: z.array(NAME).max(NODE_LIMITS.maxOffers).optional(),
  healthy: z.boolean(),
  unacknowledged: range.optional(),
});
export type Heartbeat = z.output<typeof heartbeatSchema>;

export const beatenSchema = z.strictObject({
  state: z.enum(PARTY_STATES),
  /** Positions of the asked range that are not in the log; `upTo` is where the answer stops looking. */
  missing: z.array(range).max(NODE_LIMITS.maxGaps),
  upTo: uint,
});
export type Beaten = z.output<typeof beatenSchema>;

export const statementsSchema = z.strictObject({
  statements: z
    .array(z.strictObject({ envelope: base64(1, 16 * 1024), claims: base64(1, 256 * 1024) }))
    .min(1)
    .max(NODE_LIMITS.maxStatements),
});
/** What became of an offered statement: `logged`, `pending` (its request is still being answered) or `refused`. */
const OFFER_OUTCOMES = ["logged", "pending", "refused"] as const;
export const offeredSchema = z.strictObject({
  outcomes: z
    .array(z.strictObject({ outcome: z.enum(OFFER_OUTCOMES), code: z.string().max(64).optional() }))
    .max(NODE_LIMITS.maxStatements),
});
export type OfferOutcome = (typeof OFFER_OUTCOMES)[number];

export const keysetSchema = z.strictObject({ envelope: base64(1, 16 * 1024), document: base64(1, 64 * 1024) });
export const inviteSchema = z.strictObject({ invite: z.string().min(1).max(256), expiresAt: z.string() });
/** What was asked is done; what the party is now. */
export const acceptedSchema = z.strictObject({ state: z.enum(PARTY_STATES) });
