import { createRoute } from "@hono/zod-openapi";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { AssayError, base64ToBytes, utf8ToBytes } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { StoredRecord } from "@assay/protocol";
import { BUNDLE_MEDIA_TYPE } from "@assay/receipts";
import { limitBody } from "../limit-body.ts";
import { anyJson, bytes, problem, receiptParams } from "../schemas.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { paidRoute, payerOf } from "./service.ts";
import type { ServiceModules, ServiceUse } from "./service.ts";

export type ReceiptApiModules = ServiceModules & {
  /** The record of a receipt, or of a service that was paid for, that this caller may read. Throws `receipt_not_yours`. */
  readonly readable: (context: Context, id: string) => Promise<StoredRecord>;
  /** The bundle of a receipt that this caller may read, with its openings where they are kept. */
  readonly bundle: (context: Context, id: string) => Promise<Uint8Array>;
  /** Verifies a bundle with what this gateway trusts; a verdict is an answer, whatever it says. */
  readonly verify?: ((bundle: Uint8Array, signal: AbortSignal) => Promise<JsonValue>) | undefined;
  /** Executes what an opened bundle tells again and compares. Throws what keeps it from being done. */
  readonly audit?: ((bundle: Uint8Array, signal: AbortSignal) => Promise<JsonValue>) | undefined;
  readonly maxBundleBytes: number;
};

/** The longest that a verification and an audit may take, milliseconds: what bounds a price per second. */
const SERVICE_LIMIT_MS = { verification: 60_000, audit: 5 * 60_000 } as const;

/** Adds stored answers, and verification and audits on request, which may have a price. */
export function mountReceiptApi(app: OpenAPIHono, modules: ReceiptApiModules): void {
  const json = (description: string) => ({
    200: { description, content: { "application/json": { schema: anyJson } } },
    default: problem,
  });
  const ofBody =
    (milliseconds: number) =>
    async (context: Context): Promise<ServiceUse> => {
      const body = new Uint8Array(await context.req.arrayBuffer());
      const { pathname } = new URL(context.req.raw.url);
      return { most: { milliseconds }, fingerprint: () => fingerprintOf(context.req.method, pathname, body) };
    };
  const bundleBody = (required: boolean) => ({
    content: { [BUNDLE_MEDIA_TYPE]: { schema: bytes } },
    required,
  });
  const { payments, verify, audit } = modules;

  if (payments) {
    app.openapi(
      createRoute({
        method: "get",
        path: "/v1/receipts/{id}/answer",
        operationId: "receipts.answer",
        summary: "The answer that was paid for, again, within a day",
        security: [{ grant: [] }, { token: [] }],
        tags: ["payments"],
        request: { params: receiptParams },
        responses: {
          200: { description: "As it was sent.", content: { "application/octet-stream": { schema: bytes } } },
          default: problem,
        },
      }),
      async (context) => {
        const id = context.req.param("id");
        const answer = await payments.answerIn(await modules.readable(context, id));
        if (!answer)
          throw new AssayError("answer_not_kept", `The answer of the receipt ${id} is not kept here (any more).`);
        const { status, headers, body } = answer;
        return new Response(Buffer.from(body), { status, headers: { ...headers, "assay-replayed": "true" } });
      },
    );
  }
  if (verify) {
    app.use("/v1/verify", limitBody(modules.maxBundleBytes));
    app.use("/v1/verify", paidRoute(modules, "service:verification", ofBody(SERVICE_LIMIT_MS.verification)));
    app.openapi(
      createRoute({
        method: "post",
        path: "/v1/verify",
        operationId: "receipts.verify",
        summary: "Verify a bundle with what this gateway trusts",
        tags: ["payments"],
        request: { body: bundleBody(true) },
        responses: json("The verdict."),
      }),
      async (context) => {
        const bundle = new Uint8Array(await context.req.arrayBuffer());
        const signal = AbortSignal.any([context.req.raw.signal, AbortSignal.timeout(SERVICE_LIMIT_MS.verification)]);
        return context.json((await verify(bundle, signal)) as never, 200);
      },
    );
  }
  if (audit) {
    app.use("/v1/receipts/:id/audit", paidRoute(modules, "service:audit", ofBody(SERVICE_LIMIT_MS.audit)));
    app.openapi(
      createRoute({
        method: "post",
        path: "/v1/receipts/{id}/audit",
        operationId: "receipts.audit",
        summary: "Execute again what a receipt tells, and compare",
        security: [{ grant: [] }, { token: [] }],
        tags: ["payments"],
        request: { params: receiptParams, body: bundleBody(false) },
        responses: json("What was found."),
      }),
      async (context) => {
        const sent = new Uint8Array(await context.req.arrayBuffer());
        // Work for nothing is for those who have a receipt of this gateway; who pays may bring any.
        if (payerOf(context) === undefined) await modules.readable(context, context.req.param("id"));
        const bundle = sent.length > 0 ? sent : await modules.bundle(context, context.req.param("id"));
        const signal = AbortSignal.any([context.req.raw.signal, AbortSignal.timeout(SERVICE_LIMIT_MS.audit)]);
        return context.json((await audit(bundle, signal)) as never, 200);
      },
    );
  }
}

/** Days that a file is paid for when its sender does not say. */
const DEFAULT_DAYS = 30;
const MAX_DAYS = 3650;

/** The digest that an upload's header says its body has, lower-case hex; undefined without one. Throws `header_invalid`. */
export function digestOf(context: Context): string | undefined {
  const header = context.req.header("content-digest");
  if (header === undefined) return undefined;
  const text = /^sha-256=:([A-Za-z0-9+/]{43}=):$/.exec(header)?.[1];
  if (text === undefined)
    throw new AssayError("header_invalid", "The header content-digest is not sha-256=:<base64>: (RFC 9530).");
  return Buffer.from(base64ToBytes(text)).toString("hex");
}

const DAY_MS = 24 * 60 * 60 * 1000;

/** Days that an upload is to be kept, of its header or the default. Throws `header_invalid`. */
function daysOf(context: Context): number {
  const days = Number(context.req.header("assay-keep-days") ?? DEFAULT_DAYS);
  if (!Number.isInteger(days) || days < 1 || days > MAX_DAYS)
    throw new AssayError("header_invalid", `The header assay-keep-days is a whole number from 1 to ${MAX_DAYS}.`);
  return days;
}

/** Until when an upload that was paid for just now is kept, milliseconds since 1970. */
export function keptUntil(context: Context, nowMs: number): number {
  return nowMs + daysOf(context) * DAY_MS;
}

/** Taken for the length of an upload that does not say it: where that has a price, it is refused next. */
const UNKNOWN_LENGTH = 1024 * 1024 * 1024;

/**
 * What an upload uses of storage. Its body is a stream that may be larger than memory, so a payment is bound to the length
 * and the digest that its headers declare, and the stored bytes are held to both. Throws `header_invalid`, for a missing
 * length or digest only where uploads have a price.
 */
export function uploadUse(context: Context): ServiceUse {
  const length = Number(context.req.header("content-length") ?? Number.NaN);
  const days = daysOf(context);
  const digest = digestOf(context);
  const isKnown = Number.isSafeInteger(length) && length >= 0;
  return {
    most: { byteDays: (isKnown ? length : UNKNOWN_LENGTH) * days },
    fingerprint() {
      if (digest === undefined || !isKnown)
        throw new AssayError("header_invalid", "An upload that has a price needs content-length and content-digest.", {
          hints: ["content-digest is sha-256=:<base64 of the body's SHA-256>: (RFC 9530)."],
        });
      const { pathname } = new URL(context.req.raw.url);
      return fingerprintOf("POST", pathname, utf8ToBytes(`${length} ${days} ${digest}`));
    },
  };
}
