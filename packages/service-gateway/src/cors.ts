import type { IncomingMessage, ServerResponse } from "node:http";
import { EXPOSED_HEADERS } from "./payments/problem.ts";

/** Origins whose scripts may call the gateway; `*` is every one. */
export type CorsOptions = { readonly origins: readonly string[] | "*" };

/** What scripts may send. Cookies are not among it: nothing here goes by them. */
const METHODS = "GET, POST, PUT, DELETE";
/** Names of headers as a preflight lists them; what it asks for is allowed, because no header is trusted by its origin. */
const HEADER_LIST = /^[\w-]{1,64}(?:\s*,\s*[\w-]{1,64}){0,63}$/;
/** How long a browser may remember a preflight, seconds: more than browsers honour gains nothing. */
const MAX_AGE_S = 600;

/**
 * Says who may read the answer, for requests of an allowed origin. True when the request was a preflight and is answered
 * with that (Fetch standard, CORS protocol). A refused origin gets no header, which its browser reads as no.
 */
export function answerCors({ origins }: CorsOptions, request: IncomingMessage, response: ServerResponse): boolean {
  const { origin } = request.headers;
  if (origin === undefined) return false;
  if (origins !== "*") response.setHeader("vary", "origin");
  const isAllowed = origins === "*" || origins.includes(origin);
  if (isAllowed) {
    response.setHeader("access-control-allow-origin", origins === "*" ? "*" : origin);
    response.setHeader("access-control-expose-headers", EXPOSED_HEADERS);
  }
  if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) return false;
  if (isAllowed) {
    const wanted = request.headers["access-control-request-headers"];
    response.setHeader("access-control-allow-methods", METHODS);
    if (wanted !== undefined && HEADER_LIST.test(wanted)) response.setHeader("access-control-allow-headers", wanted);
    response.setHeader("access-control-max-age", MAX_AGE_S);
  }
  response.writeHead(204);
  response.end();
  return true;
}
