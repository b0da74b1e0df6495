import { z } from "@hono/zod-openapi";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { AssayError, bytesToHex, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import {
  bodyOf,
  heartbeatSchema,
  joinSchema,
  keysetSchema,
  NODE_LIMITS,
  parseValue,
  statementsSchema,
} from "@assay/protocol";
import type { Beaten, BlobStore, JoinWire } from "@assay/protocol";
import type { Auth } from "../auth.ts";
import type { LogState } from "../log-state.ts";
import * as schema from "../schemas.ts";
import type { Admission } from "./admission.ts";
import { subjectOf } from "./keysets.ts";
import type { NodeRegistry, Party } from "./registry.ts";
import type { createOffers } from "./statements.ts";
import type { CryptoSuite } from "@assay/core";

export type NodeApiModules = {
  readonly registry: NodeRegistry;
  readonly admission: Admission;
  readonly offers: ReturnType<typeof createOffers>;
  readonly state: Pick<LogState, "chain" | "head" | "lastKeyset">;
  readonly auth: Pick<Auth, "caller" | "isOperator" | "challenge">;
  readonly blobs: Pick<BlobStore, "sizeBytes" | "stream">;
  readonly suite: Pick<CryptoSuite, "sha256">;
};

/** Heartbeats and orders are small. */
const MAX_SMALL_BYTES = 64 * 1024;
const MAX_INVITE_MS = 30 * 24 * 60 * 60 * 1000;
const DEFAULT_INVITE_MS = 24 * 60 * 60 * 1000;
const KEY = /^[0-9a-f]{64}$/;
const COUNTRY = /^[A-Z]{2}$/;

/**
 * Adds the routes by which nodes and second gateways join, speak and leave, and by which the operator decides about
 * them: `/v1/nodes…`, and `/internal/blobs` for the content that admitted parties serve.
 */
export function addNodeRoutes(app: OpenAPIHono, modules: NodeApiModules): void {
  const { registry, admission, auth, state } = modules;

  const json = async (context: Context, maxBytes: number): Promise<JsonValue> => {
    const bytes = await bodyOf(context.req.raw, maxBytes);
    return bytes.length === 0 ? {} : parseJson(bytes, { maxBytes, maxDepth: 8 });
  };
  const operator = async (context: Context): Promise<void> => {
    const caller = await auth.caller(context.req.header("authorization"));
    if (caller && auth.isOperator(caller.owner)) return;
    throw new AssayError("operator_required", "Only this gateway's operator decides about its nodes.", {
      hints: ["Send a token of the operator's key; `assay node admit` does on the gateway's own machine."],
    });
  };
  const keyOf = (context: Context): string => {
    const key = context.req.param("key") ?? "";
    if (KEY.test(key)) return key;
    throw new AssayError("node_not_found", "A node is named by its public key, 64 lower-case hexadecimal digits.");
  };
  /** The party behind the session, which may speak for itself alone. */
  const self = (context: Context): Party => {
    const party = registry.session(context.req.header("authorization"));
    if (party.key === keyOf(context)) return party;
    throw new AssayError("node_session_unknown", "This session is another node's.");
  };
  const answer = (context: Context, { key, subject, state: now }: Party) => context.json({ key, subject, state: now });

  app.post("/v1/nodes/challenge", async (context) => {
    const body = parseValue(z.strictObject({ publicKey: z.string().max(64) }), await json(context, MAX_SMALL_BYTES));
    const given = auth.challenge(body.publicKey);
    const identity = new Uint8Array(Buffer.from(body.publicKey, "base64"));
    // What stands in a public log is nobody's secret; a role has a name of its own, so only one of them is known.
    const subject = (["node", "gateway"] as const)
      .map((role) => subjectOf(modules.suite, role, identity))
      .find((of) => state.lastKeyset(of) !== undefined);
    const head = subject === undefined ? undefined : state.head(subject);
    const keyset = subject === undefined ? undefined : state.lastKeyset(subject);
    return context.json({
      ...given,
      known: {
        ...(head ? { head: { seq: head.seq, ...(head.prev ? { prev: bytesToHex(head.prev) } : {}) } } : {}),
        ...(keyset
          ? {
              keyset: {
                bootSeq: keyset.bootSeq,
                keyset: bytesToHex(keyset.keyset),
                statement: bytesToHex(keyset.statement),
              },
            }
          : {}),
      },
    });
  });
  app.post("/v1/nodes/join", async (context) => {
    const wire = await json(context, NODE_LIMITS.maxJoinBytes);
    const request = parseValue(joinSchema, wire);
    return context.json(await admission.join(request, wire as unknown as JoinWire));
  });
  app.post("/v1/nodes/invites", async (context) => {
    await operator(context);
    const { ttlMs } = parseValue(
      z.strictObject({ ttlMs: z.number().int().min(1000).max(MAX_INVITE_MS).optional() }),
      await json(context, MAX_SMALL_BYTES),
    );
    const { invite, expiresAtMs } = registry.mintInvite(ttlMs ?? DEFAULT_INVITE_MS);
    await registry.save();
    return context.json({ invite, expiresAt: new Date(expiresAtMs).toISOString() });
  });
  app.get("/v1/nodes", async (context) => {
    const caller = await auth.caller(context.req.header("authorization"));
    const all = caller !== undefined && auth.isOperator(caller.owner);
    const shown = registry.list().filter(({ state: of }) => all || of === "active" || of === "draining");
    return context.json({ nodes: shown.map((party) => viewOf(party, registry.liveness(party), all)) });
  });
  app.post("/v1/nodes/:key/admit", async (context) => {
    await operator(context);
    const { country } = parseValue(
      z.strictObject({ country: z.string().regex(COUNTRY).optional() }),
      await json(context, MAX_SMALL_BYTES),
    );
    return answer(context, await admission.admit(keyOf(context), country === undefined ? {} : { country }));
  });
  app.post("/v1/nodes/:key/eject", async (context) => {
    await operator(context);
    const { reason } = parseValue(
      z.strictObject({ reason: z.string().min(1).max(512).optional() }),
      await json(context, MAX_SMALL_BYTES),
    );
    return answer(context, await admission.eject(keyOf(context), reason ?? "ejected by the operator"));
  });
  app.post("/v1/nodes/:key/drain", async (context) => {
    if (context.req.header("authorization")?.startsWith("Bearer assaynode_")) {
      const { state: drained } = await admission.drain(self(context).key);
      return context.json({ state: drained });
    }
    await operator(context);
    return answer(context, await admission.drain(keyOf(context)));
  });
  app.post("/v1/nodes/:key/leave", async (context) => {
    const party = self(context);
    await admission.leave(party);
    return context.json({ state: party.state });
  });
  app.post("/v1/nodes/:key/keyset", async (context) => {
    const party = self(context);
    const body = parseValue(keysetSchema, await json(context, NODE_LIMITS.maxJoinBytes));
    await admission.keyset(party, body);
    return context.json({ state: party.state });
  });
  app.post("/v1/nodes/:key/heartbeat", async (context) => {
    const party = self(context);
    const beat = parseValue(heartbeatSchema, await json(context, MAX_SMALL_BYTES));
    registry.heard(party, beat);
    const [from, to] = beat.unacknowledged ?? [0, 0];
    const { ranges, upTo } = state.chain(party.subject).missing(from, to, NODE_LIMITS.maxGaps);
    const beaten = { state: party.state, missing: ranges.map(([a, b]) => [a, b] as [number, number]), upTo };
    return context.json(beaten satisfies Beaten);
  });
  app.post("/v1/nodes/:key/statements", async (context) => {
    const party = self(context);
    // Whoever was once let in may still bring what it signed then: the chain in the log shall have no gaps.
    if (party.admittedBy === undefined)
      throw new AssayError("node_pending", "This node was not admitted yet, so it has stated nothing here.");
    const { statements } = parseValue(statementsSchema, await json(context, NODE_LIMITS.maxStatementsBytes));
    const outcomes = await Promise.all(statements.map((signed) => modules.offers.offer(party, signed)));
    return context.json({ outcomes });
  });

  // Model content for whoever serves it: nodes that fetch versions, gateways that read through to this one.
  app.get("/internal/blobs/:sha256", async (context) => {
    assertActive(registry.session(context.req.header("authorization")));
    const sha256 = context.req.param("sha256");
    const size = KEY.test(sha256) ? await modules.blobs.sizeBytes(sha256) : undefined;
    if (size === undefined) throw new AssayError("blob_missing", "There is no such content here.");
    const start = Number(/^bytes=([0-9]{1,16})-$/.exec(context.req.header("range") ?? "")?.[1] ?? 0);
    if (start > 0 && start >= size) {
      return new Response(null, { status: 416, headers: { "content-range": `bytes */${size}` } });
    }
    const chunks = modules.blobs.stream(sha256, start > 0 ? { start, end: size } : undefined);
    return new Response(ReadableStream.from(chunks), {
      status: start > 0 ? 206 : 200,
      headers: {
        "content-type": "application/octet-stream",
        "content-length": String(size - start),
        ...(start > 0 ? { "content-range": `bytes ${start}-${size - 1}/${size}` } : {}),
      },
    });
  });

  document(app);
}

/** Admitted and not turned out. Throws `node_pending` or `node_ejected`. */
export function assertActive({ state }: Party): void {
  if (state === "active" || state === "draining") return;
  if (state === "ejected") throw new AssayError("node_ejected", "This party was ejected.");
  throw new AssayError("node_pending", "This party was not admitted yet.");
}

function viewOf(party: Party, liveness: string, all: boolean): JsonValue {
  const { key, subject, role, state, advertisement, registryCountry, audits, lastSeenMs, load } = party;
  return {
    key,
    subject,
    role,
    state,
    liveness,
    advertisement: advertisement as unknown as JsonValue,
    ...(registryCountry === undefined ? {} : { registryCountry }),
    audits: { ...audits },
    lastSeenAt: new Date(lastSeenMs).toISOString(),
    ...(load ? { running: load.running, queued: load.queued } : {}),
    ...(all && party.url !== undefined ? { url: party.url } : {}),
    ...(all && party.admittedBy !== undefined ? { admittedBy: party.admittedBy } : {}),
  };
}

/** What the OpenAPI document says of these routes. */
function document(app: OpenAPIHono): void {
  const problem = { default: schema.problem };
  const ok = (description: string) => ({
    200: { description, content: { "application/json": { schema: schema.anyJson } } },
    ...problem,
  });
  const params = z.object({
    key: z
      .string()
      .regex(KEY)
      .openapi({ param: { name: "key", in: "path" }, example: "00".repeat(32) }),
  });
  const body = { content: { "application/json": { schema: schema.anyJson } } };
  const add = (
    method: "get" | "post",
    path: string,
    operationId: string,
    summary: string,
    parts: { readonly keyed?: true; readonly answer: string; readonly security?: Record<string, string[]>[] },
  ): void =>
    app.openAPIRegistry.registerPath({
      method,
      path,
      operationId,
      summary,
      tags: ["nodes"],
      ...(parts.security ? { security: parts.security } : {}),
      request: { ...(parts.keyed ? { params } : {}), ...(method === "post" ? { body } : {}) },
      responses: ok(parts.answer),
    });
  const owner = [{ token: [] }];
  add("get", "/v1/nodes", "nodes.list", "Nodes of this gateway", {
    security: [{}, { token: [] }],
    answer: "Those at work; for the operator, all.",
  });
  add("post", "/v1/nodes/challenge", "nodes.challenge", "A challenge to join with", {
    answer: "The challenge, and where the log has this identity.",
  });
  add("post", "/v1/nodes/join", "nodes.join", "Ask to join", { answer: "The state and the session." });
  add("post", "/v1/nodes/invites", "nodes.invite", "Mint an invite", {
    security: owner,
    answer: "The invite; it admits one node.",
  });
  for (const [action, summary] of [
    ["admit", "Admit a node"],
    ["eject", "Turn a node out"],
    ["drain", "Give a node no new work"],
    ["leave", "Leave"],
    ["keyset", "Log a new keyset"],
    ["heartbeat", "Say what a node does"],
    ["statements", "Offer statements that may not be logged"],
  ] as const) {
    add("post", `/v1/nodes/{key}/${action}`, `nodes.${action}`, summary, { keyed: true, answer: "What came of it." });
  }
}
