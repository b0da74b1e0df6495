import { createHash, timingSafeEqual } from "node:crypto";
import { AssayError, hexToBytes } from "@assay/core";
import type { Address } from "@assay/x402";
import type { FacilitatorCaller } from "./types.ts";

/** A caller by configuration: its token is kept as a hash only. */
export type CallerEntry = {
  readonly id: string;
  /** SHA-256 of the token's UTF-8, 64 lower-case hexadecimal digits. */
  readonly tokenSha256: string;
  /** Who may be paid; anybody when absent. */
  readonly payTo?: readonly Address[];
};

export type Callers = {
  /** The caller behind an `Authorization` header; undefined without one. Throws `token_invalid`. */
  readonly caller: (authorization: string | undefined) => FacilitatorCaller | undefined;
};

/** A token is long enough not to be guessed, and short enough to be hashed for nothing. */
const BEARER = /^Bearer ([\x21-\x7e]{16,256})$/i;

/** Callers with fixed bearer tokens. Throws `facilitator_config_invalid` for a digest that is none, or one given twice. */
export function createCallers(entries: readonly CallerEntry[]): Callers {
  const known = entries.map(({ id, tokenSha256, payTo }) => {
    if (!/^[0-9a-f]{64}$/.test(tokenSha256))
      throw new AssayError("facilitator_config_invalid", `The token of caller "${id}" is not given by its SHA-256.`, {
        hints: ["Give 64 lower-case hexadecimal digits; the token itself stays with the caller."],
      });
    const caller: FacilitatorCaller = {
      id,
      payTo: payTo === undefined ? "any" : payTo.map((address) => address.toLowerCase() as Address),
    };
    return { digest: hexToBytes(tokenSha256), caller };
  });
  if (new Set(entries.map(({ tokenSha256 }) => tokenSha256)).size !== entries.length)
    throw new AssayError("facilitator_config_invalid", "Two callers have the same token.");
  if (new Set(entries.map(({ id }) => id)).size !== entries.length)
    throw new AssayError("facilitator_config_invalid", "Two callers have the same id.");
  return {
    caller: (authorization) => {
      if (authorization === undefined) return undefined;
      const token = BEARER.exec(authorization)?.[1];
      const digest = token === undefined ? undefined : createHash("sha256").update(token).digest();
      // Every entry is compared, so that the time says nothing of which one came close.
      let found: FacilitatorCaller | undefined;
      if (digest) for (const entry of known) if (timingSafeEqual(entry.digest, digest)) found = entry.caller;
      if (found) return found;
      throw new AssayError("token_invalid", "The token is not known here.", {
        hints: ["Send the facilitator's token as `authorization: Bearer …`."],
      });
    },
  };
}
