import { createRoute, z } from "@hono/zod-openapi";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { bytesToHex } from "@assay/core";
import type { Auth, Caller } from "../auth.ts";
import { limitBody } from "../limit-body.ts";
import { requireOperator } from "../operator.ts";
import { problem } from "../schemas.ts";
import type { AssurancePolicyStore } from "./assurance-store.ts";
import { contractNotFound } from "./contracts.ts";
import type { ContractStore } from "./contracts.ts";
import { MAX_DOCUMENT_BYTES } from "./document.ts";
import { MAX_EXPLAIN_BYTES, parseExplain } from "./parse-explain.ts";
import type { Router } from "./router.ts";
import * as schema from "./schemas.ts";
import type { UpstreamStore } from "./upstreams.ts";
import { writable } from "../writable.ts";

export type RouteApiModules = {
  readonly auth: Auth;
  readonly upstreams: UpstreamStore;
  readonly contracts: ContractStore;
  readonly assurance: AssurancePolicyStore;
  readonly router: Pick<Router, "explain">;
};

const TAG = "routing";
const OPERATOR = [{ token: [] }];
const nameParams = z.object({ name: z.string().openapi({ param: { name: "name", in: "path" } }) });

/**
 * Adds what an operator sets up of routing, and the explanation that anybody may ask for, to the gateway's API. Its error
 * handler answers what is thrown here: `token_required`, `operator_required`, and the codes of the stores.
 */
export function mountRouteApi(app: OpenAPIHono, modules: RouteApiModules): void {
  const { auth, upstreams, contracts, assurance, router } = modules;
  for (const path of ["/v1/upstreams", "/v1/contracts/*", "/v1/assurance-policy"])
    app.use(path, limitBody(MAX_DOCUMENT_BYTES));
  app.use("/v1/route/explain", limitBody(MAX_EXPLAIN_BYTES));

  const callerOf = (context: Context): Promise<Caller | undefined> => auth.caller(context.req.header("authorization"));
  const operator = (context: Context): Promise<void> => requireOperator(auth, context.req.header("authorization"));
  const json = <Schema extends z.ZodType>(description: string, of: Schema) => ({
    200: { description, content: { "application/json": { schema: of } } },
    default: problem,
  });
  const gone = (description: string) => ({ 204: { description }, default: problem });
  const body = (of: z.ZodType) => ({ content: { "application/json": { schema: of } }, required: true });
  const route = (
    method: "get" | "post" | "put" | "delete",
    path: string,
    operationId: string,
    summary: string,
    parts: Partial<Parameters<typeof createRoute>[0]>,
  ): ReturnType<typeof createRoute> =>
    createRoute({
      method,
      path,
      operationId,
      summary,
      tags: [TAG],
      security: OPERATOR,
      responses: { default: problem },
      ...parts,
    });
  const sent = (context: Context): unknown =>
    (context.req as unknown as { valid: (what: "json") => unknown }).valid("json");
  const nameOf = (context: Context): string => context.req.param("name") ?? "";

  app.openapi(
    route("get", "/v1/upstreams", "upstreams.list", "Providers that work is sent to", {
      responses: json("Without their keys.", schema.upstreamList),
    }),
    async (context) => {
      await operator(context);
      return context.json({ upstreams: writable(upstreams.list()) });
    },
  );
  app.openapi(
    route("post", "/v1/upstreams", "upstreams.add", "Add a provider", {
      request: { body: body(schema.upstreamBody) },
      responses: json("It, without its key.", schema.upstreamShown),
    }),
    async (context) => {
      await operator(context);
      return context.json(writable(await upstreams.add(sent(context))));
    },
  );
  app.openapi(
    route("delete", "/v1/upstreams/{name}", "upstreams.remove", "Remove a provider and its key", {
      request: { params: nameParams },
      responses: gone("Removed."),
    }),
    async (context) => {
      await operator(context);
      await upstreams.remove(nameOf(context));
      return context.body(null, 204);
    },
  );

  app.openapi(
    route("get", "/v1/contracts", "contracts.list", "Names bound to models and requirements", {
      responses: json("All of them.", schema.contractList),
    }),
    async (context) => {
      await operator(context);
      return context.json({ contracts: writable(contracts.list()) });
    },
  );
  app.openapi(
    route("get", "/v1/contracts/{name}", "contracts.show", "One contract", {
      request: { params: nameParams },
      responses: json("It.", schema.contractShown),
    }),
    async (context) => {
      await operator(context);
      const found = contracts.get(nameOf(context));
      if (!found) throw contractNotFound(nameOf(context));
      return context.json(writable(found));
    },
  );
  app.openapi(
    route("put", "/v1/contracts/{name}", "contracts.put", "Make or replace a contract", {
      request: { params: nameParams, body: body(schema.contractBody) },
      responses: json("It, in force from the next request on.", schema.contractShown),
    }),
    async (context) => {
      await operator(context);
      return context.json(writable(await contracts.put(nameOf(context), sent(context))));
    },
  );
  app.openapi(
    route("delete", "/v1/contracts/{name}", "contracts.remove", "Remove a contract", {
      request: { params: nameParams },
      responses: gone("Removed."),
    }),
    async (context) => {
      await operator(context);
      await contracts.remove(nameOf(context));
      return context.body(null, 204);
    },
  );

  const policyShown = () => ({
    policy: assurance.get() as z.infer<typeof schema.assurancePolicyBody>,
    digest: bytesToHex(assurance.digest()),
    isDefault: assurance.isDefault(),
  });
  app.openapi(
    route("get", "/v1/assurance-policy", "assurance.show", "Which assurance which value at risk needs", {
      responses: json("The policy in force.", schema.assurancePolicyShown),
    }),
    async (context) => {
      await operator(context);
      return context.json(policyShown());
    },
  );
  app.openapi(
    route("put", "/v1/assurance-policy", "assurance.put", "Replace the policy", {
      request: { body: body(schema.assurancePolicyBody) },
      responses: json("The policy in force from the next request on.", schema.assurancePolicyShown),
    }),
    async (context) => {
      await operator(context);
      await assurance.put(sent(context));
      return context.json(policyShown());
    },
  );

  app.openAPIRegistry.registerPath(
    route("post", "/v1/route/explain", "route.explain", "Who would answer a request now, and why", {
      security: [{}, ...OPERATOR],
      request: { body: body(schema.explainBody) },
      responses: json("Every candidate with its outcome; nothing was executed.", schema.explained),
    }),
  );
  // The body is one of several APIs': it is parsed as that API parses it, and not by one schema here.
  app.post("/v1/route/explain", async (context) => {
    const caller = await callerOf(context);
    const parsed = parseExplain(new Uint8Array(await context.req.arrayBuffer()), context.req.header());
    return context.json(await router.explain(parsed, caller ? { owner: caller.owner } : {}));
  });
}
