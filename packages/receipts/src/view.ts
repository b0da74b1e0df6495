import { bytesToHex, equalBytes, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { decodeBundle } from "./bundle.ts";
import type { Bundle } from "./bundle.ts";
import { decodeClaims } from "./claims.ts";
import type { ExecutionClaims, KeysetDocument, ServiceClaims, SupplementClaims } from "./claims.ts";
import { keysetDigest } from "./keyset.ts";
import { parseStatement } from "./statement.ts";
import type { Statement } from "./statement.ts";

/** A keyset of a bundle, decoded. */
export type KeysetView = {
  readonly statement: Statement;
  readonly document: KeysetDocument;
  readonly documentBytes: Uint8Array;
  /** K, 32 bytes. */
  readonly digest: Uint8Array;
};

/** A statement together with its decoded claims. */
export type Decoded<Claims> = { readonly statement: Statement; readonly claims: Claims };

/** A bundle taken apart: every part decoded, nothing checked yet. */
export type ReceiptView = {
  readonly bundle: Bundle;
  readonly execution: Decoded<ExecutionClaims>;
  readonly service?: Decoded<ServiceClaims>;
  readonly supplements: readonly Decoded<SupplementClaims>[];
  readonly keysets: readonly KeysetView[];
  /** Every statement but the keysets', in the bundle's order. */
  readonly statements: readonly Statement[];
};

/** A fault found while taking a bundle apart, with the check whose row reports it. */
export type ViewFault = {
  readonly check: "format" | "signature" | "keyset";
  readonly code: string;
  readonly message: string;
  readonly facts: Readonly<Record<string, string>>;
};

/** `urn:assay:receipt:` and the receipt id in hexadecimal: the subject of every statement about one receipt. */
export function receiptSubject(receiptId: Uint8Array): string {
  return `urn:assay:receipt:${bytesToHex(receiptId)}`;
}

/** Takes a bundle apart. Returns the first fault instead of throwing on anything a stranger may send. */
export function viewReceipt(
  suite: Pick<CryptoSuite, "sha256">,
  bytes: Uint8Array,
): { readonly view: ReceiptView } | { readonly fault: ViewFault } {
  try {
    return { view: takeApart(suite, bytes) };
  } catch (error) {
    if (error instanceof Fault) return { fault: error.fault };
    if (isAssayError(error)) return { fault: { check: "format", code: error.code, message: error.message, facts: {} } };
    return {
      fault: { check: "format", code: "bundle_unreadable", message: "The bundle could not be read.", facts: {} },
    };
  }
}

class Fault extends Error {
  readonly fault: ViewFault;
  constructor(fault: ViewFault) {
    super(fault.message);
    this.fault = fault;
  }
}

function refuse(
  check: ViewFault["check"],
  code: string,
  message: string,
  facts: Readonly<Record<string, string>> = {},
): never {
  throw new Fault({ check, code, message, facts });
}

function takeApart(suite: Pick<CryptoSuite, "sha256">, bytes: Uint8Array): ReceiptView {
  const bundle = decodeBundle(bytes);
  const keysets = bundle.keysets.map(({ envelope, document }) => {
    const statement = parseStatement(suite, envelope);
    if (statement.header.kind !== "keyset") refuse("keyset", "keyset_kind", "A keyset's statement is of another kind.");
    requirePreimage(suite, statement, document, "keyset");
    const decoded = decodeClaims("keyset", document);
    return { statement, document: decoded, documentBytes: document, digest: keysetDigest(suite, document) };
  });
  requireOnce(bundle, keysets);
  let execution: Decoded<ExecutionClaims> | undefined;
  let service: Decoded<ServiceClaims> | undefined;
  const supplements: Decoded<SupplementClaims>[] = [];
  const statements: Statement[] = [];
  for (const [position, part] of bundle.statements.entries()) {
    const statement = parseStatement(suite, part.envelope);
    requirePreimage(suite, statement, part.claims, "signature");
    if (statements.some((other) => equalBytes(other.digest, statement.digest))) {
      refuse("format", "statement_duplicate", "The bundle holds one statement twice.");
    }
    statements.push(statement);
    switch (statement.header.kind) {
      case "execution":
        if (position !== 0)
          refuse("format", "bundle_order", "The execution must be the bundle's first statement, and the only one.");
        execution = { statement, claims: decodeClaims("execution", part.claims) };
        break;
      case "service":
        if (service) refuse("format", "bundle_order", "The bundle holds two service statements.");
        service = { statement, claims: decodeClaims("service", part.claims) };
        break;
      case "supplement":
        supplements.push({ statement, claims: decodeClaims("supplement", part.claims) });
        break;
      case "release":
      case "keyset":
        refuse(
          "format",
          "bundle_kind",
          `A statement of kind ${statement.header.kind} does not belong among a receipt's statements.`,
        );
    }
  }
  if (!execution) refuse("format", "execution_missing", "The bundle holds no execution statement.");
  return { bundle, execution, ...(service ? { service } : {}), supplements, keysets, statements };
}

/** A part that stands twice says nothing more, and would let one receipt have many files. */
function requireOnce(bundle: Bundle, keysets: readonly KeysetView[]): void {
  const parts: readonly (readonly [string, readonly string[]])[] = [
    ["keyset", keysets.map(({ digest }) => bytesToHex(digest))],
    ["opened field", (bundle.fields ?? []).map(({ side, name }) => `${side} ${name}`)],
  ];
  for (const [what, names] of parts) {
    if (names.length > 1 && new Set(names).size !== names.length) {
      refuse("format", "part_duplicate", `The bundle holds one ${what} twice.`);
    }
  }
}

function requirePreimage(
  suite: Pick<CryptoSuite, "sha256">,
  statement: Statement,
  claims: Uint8Array,
  check: "signature" | "keyset",
): void {
  const actual = suite.sha256(claims);
  if (!equalBytes(actual, statement.payload)) {
    refuse(
      check,
      "claims_mismatch",
      `The claims of the ${statement.header.kind} statement are not the ones that were signed.`,
      {
        signed: bytesToHex(statement.payload),
        found: bytesToHex(actual),
      },
    );
  }
}
