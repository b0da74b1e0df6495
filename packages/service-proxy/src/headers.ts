import type { IncomingHttpHeaders } from "node:http";
import type { RoutingOptions } from "@assay/protocol";

/** Headers of a request that mean something to a gateway, beside those that begin with `assay-`. */
const ASKED = ["content-type", "idempotency-key", "x-settlement-type", "payment-signature", "x-payment"];
/** Headers of an answer that mean something to its client, beside those that begin with `assay-`. */
const ANSWERED = [
  "content-type",
  "cache-control",
  "x-request-id",
  "retry-after",
  "x-should-retry",
  "payment-required",
  "payment-response",
  "x-payment-response",
  "x-settlement-tx-hash",
  "x-settlement-walrus-blob-id",
];

/**
 * What is passed on to the gateway. A bearer that is no token of a gateway stays here: clients send the key of some
 * provider, because they have to send one.
 */
export function headersOnward(
  headers: IncomingHttpHeaders,
  defaults: { readonly token?: string; readonly routing?: RoutingOptions },
): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(routingHeaders(defaults.routing ?? {}))) out[name] = value;
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value === "string" && (ASKED.includes(name) || name.startsWith("assay-"))) out[name] = value;
  }
  const bearer = headers.authorization;
  if (bearer !== undefined && /^bearer assay_/i.test(bearer)) out["authorization"] = bearer;
  else if (defaults.token !== undefined) out["authorization"] = `Bearer ${defaults.token}`;
  return out;
}

/** What is passed back to the client. */
export function headersBack(headers: Headers): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of headers) if (ANSWERED.includes(name) || name.startsWith("assay-")) out[name] = value;
  return out;
}

/** Routing options as headers: a request's own options, in its body or its headers, win over them. */
function routingHeaders(routing: RoutingOptions): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(routing)) {
    const header = `assay-${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    if (value !== undefined) out[header] = Array.isArray(value) ? value.join(",") : String(value);
  }
  return out;
}
