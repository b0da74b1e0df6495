import { bytesToHex, isAssayError, utf8ToBytes } from "@assay/core";
import { TEXT_LIMITS } from "@assay/protocol";
import type { RoutingOptions, TextDialect } from "@assay/protocol";
import type { Connection } from "../connection.ts";
import { clientError, GatewayError } from "../errors.ts";
import { DEFAULT_TEXT_TIMEOUT_MS, NONCE_BYTES } from "../limits.ts";
import { readReceiptHeaders, TEXT_PATHS } from "./exchange.ts";
import type { ReceiptHeaders } from "./exchange.ts";
import type { CallPayment } from "../pay/payer.ts";
import type { TextCallOptions } from "./requests.ts";

/** What calls of one client have in common. */
export type SendDefaults = {
  /** Routing options of every call; a call's own win. */
  readonly routing?: RoutingOptions;
  /** Most that one call may cost, decimal text in the listing's asset. */
  readonly maxSpend?: string;
  /** Whether calls say by default who asks. */
  readonly identified: boolean;
  /** Milliseconds until the first byte, and between any two. */
  readonly timeoutMs?: number;
  /** Cryptographic randomness. */
  readonly randomBytes: (length: number) => Uint8Array;
};

/** A request that was sent, and the beginning of its answer. */
export type Sent = {
  readonly request: Uint8Array;
  readonly clientNonce: string;
  readonly response: Response;
  readonly headers: ReceiptHeaders;
  /** What was paid for it; undefined when it was free. */
  readonly payment: CallPayment | undefined;
};

/**
 * Sends a request to a language model, and again only when nothing was begun: the gateway said so (429, 503), or no
 * connection came about. Throws `request_too_large`, `spend_exceeded`, `receipt_missing` and the gateway's own codes.
 */
export async function sendText(
  connection: Connection,
  dialect: TextDialect,
  asked: { readonly assay?: RoutingOptions },
  extra: object,
  options: TextCallOptions,
  defaults: SendDefaults,
): Promise<Sent> {
  const assay = routingOf(asked.assay, {
    ...defaults,
    ...(options.maxSpend === undefined ? {} : { maxSpend: options.maxSpend }),
  });
  const body = { ...asked, ...extra, ...(Object.keys(assay).length === 0 ? {} : { assay }) };
  const request = utf8ToBytes(JSON.stringify(body));
  if (request.length > TEXT_LIMITS.maxBodyBytes) {
    throw clientError("request_too_large", `The request has ${request.length} bytes.`, {
      hints: [`At most ${TEXT_LIMITS.maxBodyBytes} bytes are taken: send shorter messages or smaller files.`],
    });
  }
  const clientNonce = bytesToHex(options.nonce ?? defaults.randomBytes(NONCE_BYTES));
  const { signal } = options;
  const identify = options.identify ?? defaults.identified;
  const response = await connection.transport.send({
    method: "POST",
    path: TEXT_PATHS[dialect],
    headers: {
      "content-type": "application/json",
      "assay-client-nonce": clientNonce,
      ...(options.retention ? { "assay-retention": options.retention } : {}),
      ...(identify ? await connection.bearer(signal) : {}),
    },
    body: request,
    signal,
    again: wasNotBegun,
    limits: { maxSpend: options.maxSpend ?? defaults.maxSpend },
    streamed: true,
    timeoutMs: defaults.timeoutMs ?? DEFAULT_TEXT_TIMEOUT_MS,
  });
  try {
    const payment = connection.payer?.paymentOf(response);
    // An answer that is given again for its payment carries the nonce of the request that was paid first.
    const nonce = payment?.clientNonce ?? clientNonce;
    return { request, clientNonce: nonce, response, headers: readReceiptHeaders(response.headers), payment };
  } catch (error) {
    response.body?.cancel().catch(() => undefined);
    throw error;
  }
}

/** What Node says when no connection came about; browsers do not say, so nothing is sent again there. */
const NO_CONNECTION: ReadonlySet<unknown> = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH"]);

function wasNotBegun(error: unknown): boolean {
  if (error instanceof GatewayError) return error.status === 429 || error.status === 503;
  if (!isAssayError(error) || error.code !== "gateway_unreachable") return false;
  for (let cause: unknown = error.cause, depth = 0; cause instanceof Error && depth < 4; depth++) {
    if ("code" in cause && NO_CONNECTION.has(cause.code)) return true;
    ({ cause } = cause);
  }
  return false;
}

function routingOf(asked: RoutingOptions | undefined, { routing, maxSpend }: SendDefaults): RoutingOptions {
  const wanted = { ...routing, ...asked };
  if (maxSpend === undefined) return wanted;
  if (wanted.maxPrice === undefined) return { ...wanted, maxPrice: maxSpend };
  if (compareDecimals(wanted.maxPrice, maxSpend) <= 0) return wanted;
  throw clientError(
    "spend_exceeded",
    `The call may cost ${wanted.maxPrice}, and the client spends at most ${maxSpend}.`,
    {
      hints: ["Ask for a lower maxPrice, or make the client with a higher maxSpend."],
    },
  );
}

/** The decimal text if it is one, such as `0.25`. Throws `parameter_invalid`. */
export function checkDecimal(text: string, what: string): string {
  if (DECIMAL.test(text)) return text;
  throw clientError("parameter_invalid", `${what} is not a decimal text such as "0.25".`, { hints: [what] });
}

const DECIMAL = /^(?:0|[1-9]\d{0,29})(?:\.\d{1,18})?$/;

/** Exact, because amounts are compared that no floating-point number holds. Negative when `a` is less than `b`. */
function compareDecimals(a: string, b: string): number {
  const scaled = (text: string): bigint => {
    const [whole = "0", fraction = ""] = checkDecimal(text, "assay.maxPrice").split(".");
    return BigInt(whole + fraction.padEnd(18, "0"));
  };
  const [left, right] = [scaled(a), scaled(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}
