import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import { fingerprintOf } from "./fingerprint.ts";
import type { PayableRequest } from "./payments.ts";

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
