import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import { fingerprintOf } from "./fingerprint.ts";
import type { PayableRequest } from "./payments.ts";
import { EXPOSED_HEADERS } from "./problem.ts";

/** Headers of every answer that was paid for: it is its payer's alone, and scripts of other origins may read its facts. */
export const PAID_HEADERS = {
  "cache-control": "private, no-store",
  "access-control-expose-headers": EXPOSED_HEADERS,
} as const;

/** Says that the answer cannot be had again. */
export const NOT_KEPT = { "assay-answer-kept": "false" } as const;

/** What payments look at of a request on node:http. */
export function payable(request: IncomingMessage, body: Uint8Array, signal: AbortSignal): PayableRequest {
  const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
  return {
    headers: request.headers,
    path,
    fingerprint: () => fingerprintOf(request.method ?? "POST", path, body),
    signal,
    secure: request.socket instanceof TLSSocket,
  };
}
