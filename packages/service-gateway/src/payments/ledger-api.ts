import { createRoute, z } from "@hono/zod-openapi";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { AssayError, base64UrlToBytes, bytesToHex } from "@assay/core";
import {
  batchDocument,
  batchList,
  batchVerdict,
  chainDocument,
  fundDocument,
  paymentDocument,
  paymentList,
  resetDocument,
  settleDocument,
} from "@assay/protocol";
import type {
  BatchDocument,
  BatchPage,
  BatchVerdict,
  ChainDocument,
  FundDocument,
  PaymentDocument,
  PaymentPage,
  ResetDocument,
  SettleDocument,
} from "@assay/protocol";
import type { Auth } from "../auth.ts";
import { limitBody } from "../limit-body.ts";
import { requireOperator } from "../operator.ts";
import { bytes, problem } from "../schemas.ts";
import { writable } from "../writable.ts";

/** Which payments a list is of. */
export type PaymentsAsked = {
  readonly state?: string;
  readonly payer?: string;
  readonly receiptId?: string;
  readonly limit?: number;
  readonly before?: string;
};

/** What the ledger and its chain have to say. Every method may throw `database_unavailable` and `chain_unavailable`. */
export type LedgerReports = {
  readonly payments: (asked: PaymentsAsked) => Promise<PaymentPage>;
  /** Undefined when there is no payment of this id. */
  readonly payment: (paymentId: string) => Promise<PaymentDocument | undefined>;
  /** Tries a dead or failed payment again. Throws `payment_not_retryable`. */
  readonly retry: (paymentId: string) => Promise<PaymentDocument | undefined>;
  /** Settles what is due now; waits a little for it. */
  readonly settle: () => Promise<SettleDocument>;
  readonly batches: (asked: { readonly limit?: number; readonly before?: number }) => Promise<BatchPage>;
  readonly batch: (number: number) => Promise<BatchDocument | undefined>;
  readonly verifyBatch: (number: number) => Promise<BatchVerdict | undefined>;
  /** The blob of a batch by its SHA-256, lower-case hex; undefined for any other blob, and for one that is gone. */
  readonly batchBlob: (sha256: string) => Promise<Uint8Array | undefined>;
  readonly chain: () => Promise<ChainDocument>;
  /** Throws `chain_not_development` where money is worth something. */
  readonly fund: (address: string, asset: string, amount: string) => Promise<FundDocument>;
  readonly reset: () => Promise<ResetDocument>;
};

const MAX_BODY_BYTES = 4096;
const TAG = "payments";
const OPERATOR = [{ token: [] }];
const ID = /^0x[0-9a-f]{64}$/;
/** 32 bytes in hexadecimal, or in base64url without padding: its last digit carries four bits. */
const BLOB_ID = /^(?:[0-9a-f]{64}|[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])$/;
const NUMBER = /^(?:0|[1-9]\d{0,14})$/;

const fundBody = z.strictObject({
  address: z.string().regex(/^0x[0-9a-fA-F]{40}$/),
  asset: z.string().min(1).max(32).describe("Symbol of a configured token, or ETH."),
  amount: z
    .string()
    .regex(/^(?:0|[1-9]\d{0,29})(?:\.\d{1,18})?$/)
    .describe("In units of the asset: 12.5."),
});

/**
 * Adds what can be asked about payments, batches and the chain: lists and orders are the operator's; one payment is
 * shown to whoever knows its id, which its payer was given and the chain has; batches and the chain are public.
 */
export function mountLedgerApi(
  app: OpenAPIHono,
  modules: { readonly auth: Pick<Auth, "caller" | "isOperator">; readonly ledger: LedgerReports },
): void {
  const { auth, ledger } = modules;
  for (const path of ["/v1/payments/*", "/v1/batches/*", "/v1/chain/*"]) app.use(path, limitBody(MAX_BODY_BYTES));

  const operator = (context: Context): Promise<void> => requireOperator(auth, context.req.header("authorization"));
  const isOperator = async (context: Context): Promise<boolean> => {
    const caller = await auth.caller(context.req.header("authorization"));
    return caller !== undefined && auth.isOperator(caller.owner);
  };
  const paymentId = (context: Context): string => {
    const id = context.req.param("id") ?? "";
    if (ID.test(id)) return id;
    throw noPayment(id);
  };
  const batchNumber = (context: Context): number => {
    const text = context.req.param("number") ?? "";
    if (NUMBER.test(text)) return Number(text);
    throw noBatch(text);
  };
  const route = (
    method: "get" | "post",
    path: string,
    operationId: string,
    summary: string,
    description: string,
    schema: z.ZodType,
    parts: Partial<Parameters<typeof createRoute>[0]> = {},
  ): ReturnType<typeof createRoute> =>
    createRoute({
      method,
      path,
      operationId,
      summary,
      tags: [TAG],
      security: [{}],
      responses: { 200: { description, content: { "application/json": { schema } } }, default: problem },
      ...parts,
    });
  const query = (...names: readonly string[]) => ({
    query: z.object(
      Object.fromEntries(
        names.map((name) => [
          name,
          z
            .string()
            .max(200)
            .optional()
            .openapi({ param: { name, in: "query" } }),
        ]),
      ),
    ),
  });
  const inPath = (name: string) => ({
    params: z.object({ [name]: z.string().openapi({ param: { name, in: "path" } }) }),
  });

  app.openapi(
    route("get", "/v1/payments", "payments.list", "Payments, the latest first", "A page of them.", paymentList, {
      security: OPERATOR,
      request: query("state", "payer", "receipt", "limit", "before"),
    }),
    async (context) => {
      await operator(context);
      const asked = (name: string): string | undefined => context.req.query(name);
      const [state, payer, receiptId, before] = ["state", "payer", "receipt", "before"].map(asked);
      const limit = whole(asked("limit"), "limit");
      return context.json(
        writable(
          await ledger.payments({
            ...(state === undefined ? {} : { state }),
            ...(payer === undefined ? {} : { payer }),
            ...(receiptId === undefined ? {} : { receiptId }),
            ...(before === undefined ? {} : { before }),
            ...(limit === undefined ? {} : { limit }),
          }),
        ),
      );
    },
  );
  app.openapi(
    route(
      "post",
      "/v1/payments/settle",
      "payments.settle",
      "Settle what is due now",
      "What was done.",
      settleDocument,
      {
        security: OPERATOR,
      },
    ),
    async (context) => {
      await operator(context);
      return context.json(writable(await ledger.settle()));
    },
  );
  app.openapi(
    route("get", "/v1/payments/{id}", "payments.show", "One payment and its settlement", "It.", paymentDocument, {
      request: inPath("id"),
    }),
    async (context) => {
      const id = paymentId(context);
      const found = await ledger.payment(id);
      if (!found) throw noPayment(id);
      return context.json(writable((await isOperator(context)) ? found : withoutPlace(found)));
    },
  );
  app.openapi(
    route(
      "post",
      "/v1/payments/{id}/retry",
      "payments.retry",
      "Try to settle a payment again",
      "It.",
      paymentDocument,
      {
        security: OPERATOR,
        request: inPath("id"),
      },
    ),
    async (context) => {
      await operator(context);
      const id = paymentId(context);
      const found = await ledger.retry(id);
      if (!found) throw noPayment(id);
      return context.json(writable(found));
    },
  );

  app.openapi(
    route("get", "/v1/batches", "batches.list", "Anchored batches, the latest first", "A page of them.", batchList, {
      request: query("limit", "before"),
    }),
    async (context) => {
      const limit = whole(context.req.query("limit"), "limit");
      const before = whole(context.req.query("before"), "before");
      return context.json(
        writable(
          await ledger.batches({
            ...(limit === undefined ? {} : { limit }),
            ...(before === undefined ? {} : { before }),
          }),
        ),
      );
    },
  );
  app.openapi(
    route("get", "/v1/batches/{number}", "batches.show", "One batch", "It.", batchDocument, {
      request: inPath("number"),
    }),
    async (context) => {
      const number = batchNumber(context);
      const found = await ledger.batch(number);
      if (!found) throw noBatch(String(number));
      return context.json(writable(found));
    },
  );
  app.openapi(
    route(
      "post",
      "/v1/batches/{number}/verify",
      "batches.verify",
      "Make a batch again from its blob and compare it with the chain",
      "What was found; nobody has to take the gateway's word for it, the blob is public.",
      batchVerdict,
      { request: inPath("number") },
    ),
    async (context) => {
      const number = batchNumber(context);
      const found = await ledger.verifyBatch(number);
      if (!found) throw noBatch(String(number));
      return context.json(writable(found));
    },
  );

  // What is anchored is public, so that anybody can make a batch again; other blobs are their models'.
  app.openAPIRegistry.registerPath(
    createRoute({
      method: "get",
      path: "/v1/blobs/{id}",
      operationId: "blobs.get",
      summary: "The leaves of an anchored batch",
      tags: [TAG],
      security: [{}],
      request: inPath("id"),
      responses: {
        200: {
          description: "Its canonical JSON. The id is its SHA-256, as it was posted: hexadecimal or base64url.",
          content: { "application/json": { schema: bytes } },
        },
        default: problem,
      },
    }),
  );
  app.get("/v1/blobs/:id", async (context) => {
    const id = context.req.param("id");
    const known = BLOB_ID.test(id);
    const found = known ? await ledger.batchBlob(id.length === 64 ? id : bytesToHex(base64UrlToBytes(id))) : undefined;
    if (!found)
      throw new AssayError("blob_missing", `No batch has a blob ${JSON.stringify(id.slice(0, 80))}.`, {
        hints: ["It is named by its SHA-256: in hexadecimal as batches name it, or in base64url as answers do."],
      });
    return new Response(found as Uint8Array<ArrayBuffer>, {
      headers: {
        "content-type": "application/json",
        "cache-control": "public, max-age=31536000, immutable",
        etag: `"${id}"`,
      },
    });
  });

  app.openapi(
    route("get", "/v1/chain", "chain.show", "The chain that payments are settled on", "Its state.", chainDocument),
    async (context) => context.json(writable(await ledger.chain())),
  );
  app.openapi(
    route("post", "/v1/chain/fund", "chain.fund", "Money of a development chain", "What was given.", fundDocument, {
      security: OPERATOR,
      request: { body: { content: { "application/json": { schema: fundBody } }, required: true } },
    }),
    async (context) => {
      await operator(context);
      const { address, asset, amount } = (
        context.req as unknown as { valid: (what: "json") => z.infer<typeof fundBody> }
      ).valid("json");
      return context.json(writable(await ledger.fund(address, asset, amount)));
    },
  );
  app.openapi(
    route("post", "/v1/chain/reset", "chain.reset", "Begin a development chain anew", "It.", resetDocument, {
      security: OPERATOR,
    }),
    async (context) => {
      await operator(context);
      return context.json(writable(await ledger.reset()));
    },
  );
}

function whole(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (NUMBER.test(text)) return Number(text);
  throw new AssayError("request_invalid", `The query's ${name} is not a whole number.`);
}

/** A private payment's id stands on the chain like every other: it leads nobody to the receipt, who does not have it. */
function withoutPlace(found: PaymentDocument): PaymentDocument {
  return found.settlement === "private" ? { ...found, receiptId: null, logIndex: null } : found;
}

function noPayment(id: string): AssayError<"payment_not_found"> {
  return new AssayError("payment_not_found", `There is no payment ${JSON.stringify(id.slice(0, 80))}.`, {
    hints: ["A payment's id is 0x and 64 hexadecimal digits; receipts and PAYMENT-RESPONSE headers name it."],
  });
}

function noBatch(number: string): AssayError<"batch_not_found"> {
  return new AssayError("batch_not_found", `There is no batch ${JSON.stringify(number.slice(0, 20))}.`);
}
