/** A refusal that the parent passes on under its code. */
export class Fault extends Error {
  readonly code: string;
  readonly hints: readonly string[];

  constructor(code: string, message: string, hints: readonly string[] = []) {
    super(message);
    this.name = "Fault";
    this.code = code;
    this.hints = hints;
  }
}
