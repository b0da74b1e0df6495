import { AssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { z } from "zod";
import { TEXT_LIMITS } from "../text/messages.ts";
import { TEXT_VALUE_LIMITS } from "./limits.ts";
import { parameterInvalid, parameterUnknown, parameterUnsupported, refusalOf } from "./refuse.ts";

export type JsonObject = { readonly [key: string]: JsonValue };

/** Why a parameter that OpenAI has is refused, and what to do instead. `unless` names values that ask for nothing. */
type Unsupported = {
  readonly reason: string;
  readonly instead?: string;
  readonly unless?: (value: JsonValue) => boolean;
};

/** What one endpoint takes: a schema of what is applied, and what is refused with a reason. */
export type Endpoint<Shape extends z.ZodRawShape> = {
  readonly schema: z.ZodObject<Shape>;
  readonly unsupported: Readonly<Record<string, Unsupported>>;
};

// ignoreBOM keeps a byte order mark as the character it is, which is no JSON.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The object of a request's body. Throws `request_too_large` above 32 MiB and `json_invalid` for what is no JSON
 * object within 64 levels.
 */
export function readBody(body: Uint8Array): JsonObject {
  if (body.length > TEXT_LIMITS.maxBodyBytes) {
    throw new AssayError(
      "request_too_large",
      `The body has ${body.length} bytes, more than ${TEXT_LIMITS.maxBodyBytes}.`,
    );
  }
  let text: string;
  try {
    text = decoder.decode(body);
  } catch (cause) {
    throw new AssayError("json_invalid", "The text is not acceptable JSON: it is not UTF-8.", { cause });
  }
  const value = parseJson(text, { maxBytes: TEXT_LIMITS.maxBodyBytes, maxDepth: TEXT_VALUE_LIMITS.maxDepth });
  if (!isObject(value)) {
    throw new AssayError("json_invalid", "The body is not a JSON object.", {
      hints: ['A request looks like {"model": …, "messages": […]}.'],
    });
  }
  return value;
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Members of the body that are ours and taken out before the endpoint's schema sees it. */
const OURS = new Set(["assay"]);

/**
 * Checks a body against an endpoint: an optional member that is null is absent, an unknown one is refused, and one that
 * OpenAI has and we have not is refused with its reason. Returns the typed request and nothing else.
 */
export function readRequest<Shape extends z.ZodRawShape>(
  endpoint: Endpoint<Shape>,
  body: JsonObject,
): z.infer<z.ZodObject<Shape>> {
  const { schema, unsupported } = endpoint;
  const asked: { [key: string]: JsonValue } = {};
  for (const key of Object.keys(body)) {
    const value = body[key];
    if (OURS.has(key) || value === undefined) continue;
    if (Object.hasOwn(unsupported, key)) {
      const refusal = unsupported[key];
      if (value === null || !refusal) continue;
      if (!refusal.unless?.(value)) throw parameterUnsupported(key, refusal.reason, refusal.instead);
      if (!Object.hasOwn(schema.shape, key)) continue;
    } else if (!Object.hasOwn(schema.shape, key)) throw parameterUnknown(key);
    if (value !== null) asked[key] = value;
  }
  const result = schema.safeParse(asked);
  if (result.success) return result.data;
  const missing = Object.keys(schema.shape).find((key) => asked[key] === undefined && isFor(result.error.issues, key));
  throw missing === undefined ? refusalOf(result.error.issues) : parameterInvalid(missing, "is missing");
}

function isFor(issues: readonly { readonly path: readonly PropertyKey[] }[], key: string): boolean {
  return issues[0]?.path.length === 1 && issues[0].path[0] === key;
}
