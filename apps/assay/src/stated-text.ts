import { bytesToHex, canonicalJson } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import { statedParameters } from "@assay/protocol";
import type { ReopenedText } from "@assay/protocol";

/** What one choice of an answer says, whichever API it was asked by, and how it says that it ended. */
export type Said = {
  readonly text: string;
  /** Name and arguments of each call. */
  readonly calls: readonly (readonly [string, string])[];
  readonly finish: string;
};
type Loose = { readonly [name: string]: unknown };

/** The choices of an answer in order. */
export function saidOf({ response, parsed: { dialect } }: ReopenedText): readonly Said[] {
  if (dialect === "responses") return [saidByResponse(response)];
  return list(response["choices"]).map((choice) => {
    const finish = text(choice["finish_reason"]);
    if (dialect === "completions") return { text: text(choice["text"]), calls: [], finish };
    const message = (choice["message"] ?? {}) as Loose;
    const calls = list(message["tool_calls"]).map((call) => {
      const of = (call["function"] ?? {}) as Loose;
      return [text(of["name"]), text(of["arguments"])] as const;
    });
    return { text: text(message["content"]), calls, finish };
  });
}

function saidByResponse(response: ReopenedText["response"]): Said {
  const output = list(response["output"]);
  const calls = output.flatMap((item) =>
    item["type"] === "function_call" ? [[text(item["name"]), text(item["arguments"])] as const] : [],
  );
  const reason = (response["incomplete_details"] as Loose | null | undefined)?.["reason"];
  const whole = calls.length > 0 ? "tool_calls" : "stop";
  return {
    text: output.flatMap((item) => list(item["content"]).map((part) => text(part["text"]))).join(""),
    calls,
    finish: response["status"] === "completed" ? whole : reason === "max_output_tokens" ? "length" : "nothing",
  };
}

/** What a node states by its digest: content of the caller, and what is long. */
const BY_DIGEST = ["tools", "response_format", "stop", "logit_bias", "tool_choice"] as const;

/**
 * Names of the parameters that a receipt states otherwise than they follow from its request. `mismatches` are those that
 * the engine would not have stated like this: what stands there as a digest, it cannot judge.
 */
export function differingParameters(
  suite: Pick<CryptoSuite, "sha256">,
  stated: Readonly<Record<string, unknown>>,
  { parsed, contradicted }: ReopenedText,
  mismatches: readonly string[],
): readonly string[] {
  const { tools, response_format: format } = parsed.parameters;
  const asStated: Record<string, unknown> = {
    ...statedParameters(parsed.parameters),
    ...(tools ? { tools } : {}),
    ...(format ? { response_format: format } : {}),
  };
  const holds = (name: string): boolean => {
    const claim = stated[name];
    const value = asStated[name];
    if (typeof claim !== "object" || claim === null || !("sha256" in claim) || value === undefined) return false;
    if (!BY_DIGEST.some((one) => one === name)) return false;
    return claim.sha256 === bytesToHex(suite.sha256(canonicalJson(value as JsonValue)));
  };
  const [omitted, found] = [stated["omitted"], parsed.omitted].map((names) => JSON.stringify(names ?? []));
  return [
    ...new Set([
      ...mismatches.filter((name) => !holds(name)),
      ...contradicted,
      ...(omitted === found ? [] : ["omitted"]),
    ]),
  ];
}

function list(value: unknown): readonly Loose[] {
  return Array.isArray(value) ? (value as readonly Loose[]) : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
