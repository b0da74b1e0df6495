import { base64UrlToBytes } from "@assay/core";
import { assemble } from "@assay/protocol";
import type { Frame, TextDialect } from "@assay/protocol";
import { decodeBundle, decodeClaims, jsonFields } from "@assay/receipts";
import type { FieldValue } from "@assay/receipts";
import { clientError, ReceiptError } from "../errors.ts";
import { openBundle } from "../open-bundle.ts";
import type { CallPayment } from "../pay/payer.ts";

/** What a client saw of an answer: a body, or the frames of a stream and whether its end was announced. */
export type SeenAnswer =
  | { readonly body: Uint8Array }
  | { readonly frames: readonly Frame[]; readonly complete: boolean };

/** What an answer's headers say of its receipt. */
export type ReceiptHeaders = {
  /** 32 hexadecimal digits. */
  readonly receiptId: string;
  /** Opens request and response; 32 bytes that nobody else has. */
  readonly masterSalt: Uint8Array;
  /** Lets its holder read this receipt later, 64 hexadecimal digits. */
  readonly grant: string;
  /** Digest of the execution statement, 64 hexadecimal digits; a stream's headers are too early to have it. */
  readonly executionDigest?: string;
};

/** One exchange with a language model, as its caller knows it. */
export type TextExchange = ReceiptHeaders & {
  readonly dialect: TextDialect;
  /** The request's body in the bytes that were sent. */
  readonly request: Uint8Array;
  /** The nonce that was sent, lower-case hexadecimal. */
  readonly clientNonce?: string;
  readonly answer: SeenAnswer;
  /** What was paid for it; the receipt has to name it. */
  readonly payment?: CallPayment;
};

/** Where each dialect is spoken, below the gateway's address. */
export const TEXT_PATHS: Record<TextDialect, string> = {
  chat: "/v1/chat/completions",
  completions: "/v1/completions",
  responses: "/v1/responses",
  embeddings: "/v1/embeddings",
};

/** The receipt that an answer's headers name. Throws `receipt_missing` when they name none, or half of one. */
export function readReceiptHeaders(headers: Headers): ReceiptHeaders {
  const header = (name: string, form: RegExp): string => {
    const value = headers.get(name) ?? "";
    if (form.test(value)) return value;
    throw new ReceiptError(
      "receipt_missing",
      `The answer came without a receipt: its header ${name} is missing or malformed.`,
      {
        hints: [
          "Is this an Assay gateway? Other servers of OpenAI's API give no receipt.",
          "A proxy in between must pass on the headers that begin with assay-.",
        ],
      },
    );
  };
  const receiptId = header("assay-receipt-id", /^[0-9a-f]{32}$/);
  const opening = header("assay-opening", /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/);
  const grant = header("assay-grant", /^[0-9a-f]{64}$/);
  const executionDigest = headers.has("assay-execution-digest")
    ? header("assay-execution-digest", /^[0-9a-f]{64}$/)
    : undefined;
  return {
    receiptId,
    masterSalt: base64UrlToBytes(opening),
    grant,
    ...(executionDigest === undefined ? {} : { executionDigest }),
  };
}

/**
 * The bundle of an exchange with both sides opened: the request's members as they were sent, the response's as they
 * came, or as the frames put together give them. The response of a stream that broke off stays closed unless every frame
 * that was signed was received. Throws what `openBundle` throws, `json_invalid` for a
 * request that is not JSON, and `response_malformed` for such an answer.
 */
export function openTextBundle(bytes: Uint8Array, exchange: TextExchange): Uint8Array {
  const { answer, dialect, masterSalt } = exchange;
  const request = jsonFields(exchange.request);
  if (!("frames" in answer)) {
    const { body } = answer;
    return openBundle(bytes, { masterSalt, request, response: readable(() => jsonFields(body)) });
  }
  const { frames } = answer;
  const whole = answer.complete || frames.length === signedFrames(bytes);
  return openBundle(bytes, {
    masterSalt,
    request,
    ...(whole ? { response: readable(() => jsonFields(JSON.stringify(assemble(dialect, frames)))) } : {}),
  });
}

function readable(fields: () => readonly FieldValue[]): readonly FieldValue[] {
  try {
    return fields();
  } catch (cause) {
    throw clientError("response_malformed", "The gateway's answer is not one that a receipt could be of.", { cause });
  }
}

function signedFrames(bytes: Uint8Array): number | undefined {
  const [execution] = decodeBundle(bytes).statements;
  return execution && decodeClaims("execution", execution.claims).transcript?.frames;
}
