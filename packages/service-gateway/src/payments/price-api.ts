import { createRoute, z } from "@hono/zod-openapi";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { AssayError } from "@assay/core";
import type { Listing, Listings, ListingSubject } from "@assay/protocol";
import type { Auth, Caller } from "../auth.ts";
import { isReadable } from "../infer.ts";
import type { ServableModel } from "../infer.ts";
import { limitBody } from "../limit-body.ts";
import { problem } from "../schemas.ts";

export type PriceApiModules = {
  readonly auth: Pick<Auth, "caller" | "isOperator">;
  readonly listings: Listings;
  /** All versions of a hub model; none for a name that is not the hub's. */
  readonly versions: (name: string) => readonly Pick<ServableModel, "name" | "owner" | "visibility">[];
  /** Whether a hub model reads and writes tokens; undefined for a name that is not the hub's. */
  readonly countsTokens?: ((name: string) => Promise<boolean | undefined>) | undefined;
  /** What the ledger adds to a listing: its digest, and where payments for it go. */
  readonly describeListing?: ((listing: Listing) => { readonly digest?: string; readonly payTo?: string }) | undefined;
};

/** A listing with its payees is below two kilobytes. */
const MAX_LISTING_BYTES = 16 * 1024;
const SUBJECT = /^(?:model:[\x21-\x7e]{1,256}|service:(?:storage|openings|anchoring|verification|audit|proving))$/;

const decimal = z
  .string()
  .max(64)
  .regex(/^\d+(\.\d+)?$/)
  .openapi({ example: "0.002" });
const rates = {
  asset: z.string().min(1).max(32).describe("Symbol of a token that is taken here.").openapi({ example: "USDC" }),
  perCall: decimal.optional(),
  perMillionInputTokens: decimal.optional(),
  perMillionOutputTokens: decimal.optional(),
  perSecond: decimal.optional(),
  perGigabyteDay: decimal.optional(),
  payees: z
    .array(
      z.strictObject({
        address: z.string().regex(/^0x[0-9a-fA-F]{40}$/),
        basisPoints: z.number().int().min(1).max(10_000).describe("Share in 1/10,000; the rest is the gateway's."),
      }),
    )
    .max(8)
    .optional(),
};
const listingBody = z.strictObject(rates).openapi("ListingBody");
const listingShown = z
  .object({
    subject: z.string().openapi({ example: "model:demo/digits" }),
    ...rates,
    owner: z.string(),
    changedAtMs: z.number(),
    digest: z.string().optional().describe("SHA-256 of its canonical JSON: receipts name it after `listing:`."),
    payTo: z.string().optional().describe("Where payments for it go."),
  })
  .openapi("Listing");
const subjectParams = z.object({
  subject: z
    .string()
    .describe(
      "`model:` and a model's name, or `service:` and `storage`, `openings`, `anchoring`, `verification` or `audit`.",
    )
    .openapi({ param: { name: "subject", in: "path" }, example: "model:demo/digits" }),
});

/**
 * Adds prices: everybody reads them, a model's owner and the operator set them. Names of private models are their owner's
 * to see. Throws `listing_not_found`, `listing_invalid`, `token_required`, `model_not_owned` and `operator_required`.
 */
export function mountPriceApi(app: OpenAPIHono, modules: PriceApiModules): void {
  const { auth, listings } = modules;
  app.use("/v1/prices/*", limitBody(MAX_LISTING_BYTES));
  const callerOf = (context: Context): Promise<Caller | undefined> => auth.caller(context.req.header("authorization"));
  const json = <Schema extends z.ZodType>(description: string, of: Schema) => ({
    200: { description, content: { "application/json": { schema: of } } },
    default: problem,
  });
  const shown = (listing: Listing): z.infer<typeof listingShown> =>
    ({ ...listing, ...modules.describeListing?.(listing) }) as z.infer<typeof listingShown>;
  const subjectOf = (context: Context): ListingSubject => {
    const subject = context.req.param("subject") ?? "";
    if (SUBJECT.test(subject)) return subject as ListingSubject;
    throw new AssayError("listing_invalid", `${JSON.stringify(subject.slice(0, 200))} is nothing that has a price.`, {
      hints: [
        "Name model:<name>, or service:storage, service:openings, service:anchoring, service:verification or service:audit.",
      ],
    });
  };
  const modelOf = (subject: ListingSubject): ReturnType<PriceApiModules["versions"]> =>
    subject.startsWith("model:") ? modules.versions(subject.slice("model:".length)) : [];
  const mayRead = (subject: ListingSubject, caller: Caller | undefined): boolean => {
    const versions = modelOf(subject);
    if (versions.length === 0 || (caller && auth.isOperator(caller.owner))) return true;
    return versions.some((version) => isReadable(version, caller));
  };
  const mayChange = async (context: Context, subject: ListingSubject): Promise<Caller> => {
    const caller = await callerOf(context);
    if (!caller)
      throw new AssayError("token_required", "This needs the token of the model's owner, or of the operator.", {
        hints: ["Sign a challenge at /v1/auth/challenge and send the token as a bearer."],
      });
    if (auth.isOperator(caller.owner)) return caller;
    if (subject.startsWith("service:"))
      throw new AssayError("operator_required", "Only the operator of this gateway sets prices of its services.");
    const versions = modelOf(subject);
    if (versions.length > 0 && versions.every(({ owner }) => owner === caller.owner)) return caller;
    throw new AssayError("model_not_owned", `The model of ${subject} is not yours to price.`, {
      hints: ["A model's owner and the operator may; models of providers are the operator's."],
    });
  };
  const missing = (subject: ListingSubject): AssayError =>
    new AssayError("listing_not_found", `Nothing is charged for ${subject}: it has no listing.`);
  const tags = ["payments"];
  const found = (subject: ListingSubject, caller: Caller | undefined): Listing => {
    const listing = listings.get(subject);
    if (!listing || !mayRead(subject, caller)) throw missing(subject);
    return listing;
  };

  app.openapi(
    createRoute({
      method: "get",
      path: "/v1/prices",
      operationId: "prices.list",
      summary: "What has a price, and which",
      security: [{}, { token: [] }],
      tags,
      responses: json("By subject; what is not here is free.", z.object({ prices: z.array(listingShown) })),
    }),
    async (context) => {
      const caller = await callerOf(context);
      const all = listings.list().filter(({ subject }) => mayRead(subject, caller));
      return context.json({ prices: all.map(shown) }, 200);
    },
  );
  const one = { params: subjectParams };
  app.openapi(
    createRoute({
      method: "get",
      path: "/v1/prices/{subject}",
      operationId: "prices.show",
      summary: "The price of a model or a service",
      security: [{}, { token: [] }],
      tags,
      request: one,
      responses: json("Its listing.", listingShown),
    }),
    async (context) => context.json(shown(found(subjectOf(context), await callerOf(context))), 200),
  );
  app.openapi(
    createRoute({
      method: "put",
      path: "/v1/prices/{subject}",
      operationId: "prices.put",
      summary: "Set the price of a model or a service",
      security: [{ token: [] }],
      tags,
      request: { ...one, body: { content: { "application/json": { schema: listingBody } }, required: true } },
      responses: json("The listing from now on.", listingShown),
    }),
    async (context) => {
      const subject = subjectOf(context);
      const { owner } = await mayChange(context, subject);
      const { payees, ...body } = context.req.valid("json");
      const byToken = body.perMillionInputTokens !== undefined || body.perMillionOutputTokens !== undefined;
      const name = subject.startsWith("model:") ? subject.slice("model:".length) : undefined;
      if (byToken && name !== undefined && (await modules.countsTokens?.(name)) === false)
        throw new AssayError("listing_invalid", `${name} takes tensors: it has no tokens to be sold by.`, {
          hints: ["Price it by the call, or by the second."],
        });
      const put = {
        subject,
        ...body,
        ...(payees ? { payees: payees.map((payee) => ({ ...payee, address: payee.address as `0x${string}` })) } : {}),
        owner,
      };
      return context.json(shown(await listings.put(put as Parameters<Listings["put"]>[0])), 200);
    },
  );
  app.openapi(
    createRoute({
      method: "delete",
      path: "/v1/prices/{subject}",
      operationId: "prices.remove",
      summary: "Make a model or a service free",
      security: [{ token: [] }],
      tags,
      request: one,
      responses: { 204: { description: "It is free from now on." }, default: problem },
    }),
    async (context) => {
      const subject = subjectOf(context);
      await mayChange(context, subject);
      if (!(await listings.remove(subject))) throw missing(subject);
      return context.body(null, 204);
    },
  );
}
