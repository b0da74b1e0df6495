/** What an {@link AssayError} carries besides its sentence. */
export type AssayErrorOptions = {
  /** What would have been right, one sentence each. */
  readonly hints?: readonly string[];
  readonly cause?: unknown;
};

const MARKER = Symbol.for("assay.error");

/**
 * The one error base. `code` is stable and documented under `docs/errors/<code>.md`; `message` is one
 * sentence that names what was wrong and which thing it concerns; `hints` say what would be right.
 *
 * Two installed copies of this package still recognise each other's errors through {@link isAssayError}.
 */
export class AssayError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly hints: readonly string[];

  constructor(code: Code, message: string, options: AssayErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AssayError";
    this.code = code;
    this.hints = options.hints ?? [];
    Object.defineProperty(this, MARKER, { value: true });
  }

  /** Path of the page that explains `code`, relative to the documentation root. */
  get docsPath(): string {
    return `/errors/${this.code}.md`;
  }
}

/** Whether `value` is an {@link AssayError}, from whichever copy of the package. */
export function isAssayError(value: unknown): value is AssayError {
  return typeof value === "object" && value !== null && MARKER in value;
}
