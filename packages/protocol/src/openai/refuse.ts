import { AssayError } from "@assay/core";

/**
 * Refusals of parameters. The path stands in the sentence and is the first hint, so that an answer can name it as
 * OpenAI's `param`.
 */
export function parameterUnknown(path: string): AssayError<"parameter_unknown"> {
  return new AssayError("parameter_unknown", `The parameter ${shown(path)} is not one of this endpoint.`, {
    hints: [shown(path), "Nothing is passed over silently: leave it out, or correct its name."],
  });
}

/** A known parameter whose value cannot be taken; `why` continues the sentence, for example `must be above 0`. */
export function parameterInvalid(path: string, why: string): AssayError<"parameter_invalid"> {
  return new AssayError("parameter_invalid", `The parameter ${shown(path)} ${why}.`, { hints: [shown(path)] });
}

/** A parameter that OpenAI has and this server does not; `reason` is a sentence, `instead` another. */
export function parameterUnsupported(
  path: string,
  reason: string,
  instead?: string,
): AssayError<"parameter_unsupported"> {
  return new AssayError("parameter_unsupported", `The parameter ${shown(path)} is not supported: ${reason}.`, {
    hints: [shown(path), ...(instead === undefined ? [] : [instead])],
  });
}

const MAX_SHOWN_PATH = 200;

// A stranger's member name may be long or hold control characters, and this sentence is printed.
function shown(path: string): string {
  // oxlint-disable-next-line no-control-regex
  return path.slice(0, MAX_SHOWN_PATH).replaceAll(/[\u0000-\u001f\u007f-\u009f\p{Surrogate}]/gu, "?");
}

/** What zod says of one value, as far as refusals need it. */
type Issue = {
  readonly code?: string | undefined;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly keys?: readonly string[];
  readonly errors?: readonly (readonly Issue[])[];
  readonly note?: string | undefined;
};

/** The refusal for the first issue of a schema, at `where` within the body (empty for the body itself). */
export function refusalOf(issues: readonly unknown[], where: readonly PropertyKey[] = []): AssayError {
  const found = deepest(issues as readonly Issue[]);
  if (!found) return parameterInvalid(pathText(where) || "body", "is not acceptable");
  const path = [...where, ...found.path];
  if (found.code === "unrecognized_keys") return parameterUnknown(pathText([...path, found.keys?.[0] ?? ""]));
  return parameterInvalid(pathText(path) || "body", `is not acceptable: ${plain(found.message)}`);
}

// Of a union's branches, the one that got furthest names the fault that the caller can act on.
function deepest(issues: readonly Issue[]): Issue | undefined {
  const first = issues[0];
  if (!first) return undefined;
  if (first.code !== "invalid_union" || !first.errors) return first;
  let best: Issue | undefined;
  for (const branch of first.errors) {
    const inner = deepest(branch);
    if (inner && inner.path.length > (best?.path.length ?? 0)) best = inner;
  }
  return best ? { ...best, path: [...first.path, ...best.path] } : first;
}

function plain(message: string): string {
  return message.replace(/\.$/, "").slice(0, 300);
}

/** `messages[0].content` for a path of keys and positions. */
function pathText(path: readonly PropertyKey[]): string {
  let out = "";
  for (const part of path) {
    if (typeof part === "number") out += `[${part}]`;
    else out += out === "" ? String(part) : `.${String(part)}`;
  }
  return out;
}
