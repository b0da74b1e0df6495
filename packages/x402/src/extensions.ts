import type { JsonValue } from "@assay/core";
import { checksumAddress, toHex } from "./hex.ts";
import { MAX_SIGNATURE_BYTES, MAX_TEXT_CHARS } from "./limits.ts";
import type { Eip2612Permit, EvmSuite } from "./types.ts";
import { malformed, readAddress, readBytes, readObject, readText, readUint } from "./values.ts";
import type { JsonObject } from "./values.ts";

/** Extension by which a payer names its payment, so that a repeated one has one answer. */
export const PAYMENT_IDENTIFIER = "payment-identifier";
/** Extension by which a payer has Permit2 approved by a signed EIP-2612 permit. */
export const EIP2612_GAS_SPONSORING = "eip2612GasSponsoring";

const IDENTIFIER = /^[a-zA-Z0-9_-]{16,128}$/;

/** Whether a text may be a payment's identifier: 16 to 128 letters, digits, hyphens and underscores. */
export function isPaymentIdentifier(text: string): boolean {
  return IDENTIFIER.test(text);
}

/**
 * Extensions for a 402's document. Their JSON schemas are empty: clients look for the key and copy `info`, and each full
 * schema would lengthen the header by a kilobyte.
 */
export function offeredExtensions(offered: {
  /** Tokens of the quote have EIP-2612, and the facilitator submits permits. */
  readonly eip2612: boolean;
  readonly identifier: "optional" | "required" | "none";
}): Readonly<Record<string, unknown>> {
  return {
    ...(offered.eip2612
      ? {
          [EIP2612_GAS_SPONSORING]: {
            info: {
              description: "A signed EIP-2612 permit of exactly the amount replaces the approval of Permit2.",
              version: "1",
            },
            schema: {},
          },
        }
      : {}),
    ...(offered.identifier === "none"
      ? {}
      : { [PAYMENT_IDENTIFIER]: { info: { required: offered.identifier === "required" }, schema: {} } }),
  };
}

function info(extensions: JsonValue | undefined, key: string): JsonObject | undefined {
  if (extensions === undefined || extensions === null) return undefined;
  const extension = readObject(extensions, "extensions")[key];
  if (extension === undefined || extension === null) return undefined;
  const value = readObject(extension, `extensions.${key}`)["info"];
  return value === undefined || value === null ? undefined : readObject(value, `extensions.${key}.info`);
}

/** The identifier in a payment's extensions. Throws `payment_malformed` when there is one of another form. */
export function readIdentifier(extensions: JsonValue | undefined): string | undefined {
  const id = info(extensions, PAYMENT_IDENTIFIER)?.["id"];
  if (id === undefined || id === null) return undefined;
  if (typeof id === "string" && isPaymentIdentifier(id)) return id;
  throw malformed(`extensions.${PAYMENT_IDENTIFIER}.info.id`, "16 to 128 letters, digits, hyphens and underscores");
}

/**
 * The EIP-2612 permit in a payment's extensions. A client that did not sign one echoes the offer, which has no signature:
 * then there is none. Throws `payment_malformed`.
 */
export function readSponsored(extensions: JsonValue | undefined): Eip2612Permit | undefined {
  const from = info(extensions, EIP2612_GAS_SPONSORING);
  if (from === undefined || from["signature"] === undefined || from["signature"] === null) return undefined;
  const path = `extensions.${EIP2612_GAS_SPONSORING}.info`;
  readText(from["version"] ?? "1", `${path}.version`, MAX_TEXT_CHARS);
  return {
    owner: readAddress(from["from"], `${path}.from`),
    spender: readAddress(from["spender"], `${path}.spender`),
    asset: readAddress(from["asset"], `${path}.asset`),
    amount: readUint(from["amount"], `${path}.amount`),
    nonce: readUint(from["nonce"], `${path}.nonce`),
    deadline: readUint(from["deadline"], `${path}.deadline`),
    signature: readBytes(from["signature"], `${path}.signature`, MAX_SIGNATURE_BYTES),
  };
}

/** A permit as `extensions.eip2612GasSponsoring.info`. */
export function sponsoredToJson(suite: EvmSuite, permit: Eip2612Permit): JsonObject {
  return {
    from: checksumAddress(suite, permit.owner),
    asset: checksumAddress(suite, permit.asset),
    spender: checksumAddress(suite, permit.spender),
    amount: permit.amount.toString(),
    nonce: permit.nonce.toString(),
    deadline: permit.deadline.toString(),
    signature: toHex(permit.signature),
    version: "1",
  };
}
