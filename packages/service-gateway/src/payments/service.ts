import { randomBytes } from "node:crypto";
import type { Context, MiddlewareHandler } from "hono";
import { bytesToHex, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { ListingSubject, MeteredUse } from "@assay/protocol";
import { PROFILE, receiptSubject } from "@assay/receipts";
import type { OpenMap, SupplementClaims } from "@assay/receipts";
import type { Recorder } from "../recorder.ts";
import { completeAnswer } from "./answer.ts";
import type { KeptForm } from "./answer.ts";
import type { Paying, Payments } from "./payments.ts";
import { chargeWhole } from "./whole.ts";

export type ServiceModules = {
  readonly payments?: Payments | undefined;
  readonly recorder: Pick<Recorder, "state">;
  readonly suite: Pick<CryptoSuite, "sha256">;
};

/** What a request for a service uses at most, and what its payment is bound to. */
export type ServiceUse = { readonly most: MeteredUse; readonly fingerprint: () => Uint8Array };

const payers = new WeakMap<Request, string>();
const stated = new WeakMap<Request, OpenMap>();

/** Adds to what the log will say of a service that is being paid for: what was done for the payment. */
export function stateOfService(context: Context, facts: OpenMap): void {
  stated.set(context.req.raw, facts);
}

/** The account that pays for this request, CAIP-10; undefined when nobody does. */
export function payerOf(context: Context): string | undefined {
  return payers.get(context.req.raw);
}

/**
 * Has a route paid for under the listing of a service. `useOf` says what the request is about to use, undefined for a
 * caller who pays nothing; it may throw what is wrong with the request. An answer without an error is charged; its payment
 * becomes true with a supplement of the gateway that names service, payment and request, because there is no execution
 * whose receipt could.
 */
export function paidRoute(
  modules: ServiceModules,
  subject: ListingSubject,
  useOf: (context: Context) => Promise<ServiceUse | undefined>,
): MiddlewareHandler {
  return async (context, next) => {
    const { payments } = modules;
    const use = payments && (await useOf(context));
    if (!payments || !use) return next();
    const { raw } = context.req;
    const url = new URL(raw.url);
    let fingerprint: Uint8Array | undefined;
    const taken = await payments.take(
      { subjects: [subject], most: use.most },
      {
        headers: Object.fromEntries(raw.headers),
        path: url.pathname,
        fingerprint: () => (fingerprint ??= use.fingerprint()),
        signal: raw.signal,
        secure: url.protocol === "https:",
      },
      "application/json",
    );
    if (!taken) return next();
    if (taken.kind === "replay") {
      const { status, headers, body } = taken.answer;
      return new Response(Buffer.from(body), { status, headers });
    }
    const startedMs = performance.now();
    try {
      payers.set(raw, taken.account);
      await next();
      if (context.error !== undefined || !context.res.ok) {
        await taken.release();
        return;
      }
      const answer: KeptForm = {
        status: context.res.status,
        headers: Object.fromEntries(context.res.headers),
        body: new Uint8Array(await context.res.arrayBuffer()),
      };
      const milliseconds = Math.ceil(performance.now() - startedMs);
      const used = { ...use.most, ...(use.most.milliseconds === undefined ? {} : { milliseconds }) };
      const sent = await charge(modules, payments, taken, {
        subject,
        used,
        answer,
        request: fingerprint ?? use.fingerprint(),
        facts: stated.get(raw) ?? {},
      });
      // Hono would add the headers of the response before to those of the next.
      context.res = undefined;
      context.res = sent;
    } catch (error) {
      // A log that does not answer may have the record all the same: then the recorder tells the payment what became of it.
      if (!isAssayError(error) || error.code !== "log_unreachable") await taken.release();
      throw error;
    }
  };
}

async function charge(
  { recorder, suite }: ServiceModules,
  payments: Payments,
  paying: Paying,
  done: {
    readonly subject: ListingSubject;
    readonly used: MeteredUse;
    readonly answer: KeptForm;
    /** Digest of the request, 32 bytes. */
    readonly request: Uint8Array;
    readonly facts: OpenMap;
  },
): Promise<Response> {
  const { subject, used, answer } = done;
  const supplementId = new Uint8Array(randomBytes(16));
  const grant = new Uint8Array(randomBytes(32));
  const receiptId = bytesToHex(supplementId);
  const form: KeptForm = {
    ...answer,
    headers: { ...answer.headers, "assay-receipt-id": receiptId, "assay-grant": bytesToHex(grant) },
  };
  const charged = chargeWhole(payments, paying, {
    receiptId: supplementId,
    subject,
    used,
    opening: NOTHING,
    form: { ...form, body: () => form.body },
    keeps: true,
  });
  const { payment, price, promises } = charged.claims;
  const issuedAtMs = payments.nowMs();
  const claims: SupplementClaims = {
    profile: PROFILE.supplement,
    supplementId,
    refersTo: done.request,
    kind: "settlement",
    issuedAtMs,
    body: {
      ...done.facts,
      stage: "charged",
      service: subject,
      ...payment,
      rateSource: price?.rateSource ?? "",
      ...Object.fromEntries((price?.parts ?? []).map((part) => [`part:${part.subject}`, part.amountAtomic])),
      ...promises,
    },
  };
  const recorded = await recorder.state({
    kind: "supplement",
    subject: receiptSubject(supplementId),
    issuedAtMs,
    owner: paying.account,
    visibility: "private",
    claims,
    payment: charged.payment,
    grantSha256: suite.sha256(grant),
    ...(charged.opening ? { opening: charged.opening } : {}),
  });
  const executionDigest = bytesToHex(recorded.statement.digest);
  const facts = { receiptId, logIndex: recorded.logIndex, executionDigest };
  const individual = await payments.individual(paying.open.settlement, { ...facts, serviceDigest: executionDigest });
  const complete = completeAnswer({ ...form, headers: charged.headers }, { ...facts, individual });
  return new Response(Buffer.from(complete.body), { status: complete.status, headers: complete.headers });
}

const NOTHING = new Uint8Array();
