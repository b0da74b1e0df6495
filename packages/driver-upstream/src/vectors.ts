import type { JsonValue } from "@assay/core";
import type { EmbedOutcome, EmbedRequest } from "@assay/protocol";
import { malformed } from "./errors.ts";
import { CHARACTERS_PER_TOKEN } from "./limits.ts";
import { factsOf } from "./report.ts";
import type { Report } from "./report.ts";
import { believe, estimate } from "./usage.ts";

/** Most numbers of one vector; models give a few thousand. */
const MAX_DIMENSIONS = 65_536;

/**
 * Vectors as an upstream gave them, held to what was asked: one for each input, all of one length, of finite numbers.
 * Throws `upstream_malformed` otherwise.
 */
export function embedOutcome(
  request: EmbedRequest,
  rows: readonly (readonly JsonValue[] | undefined)[],
  report: Report,
): Omit<EmbedOutcome, "engineMs"> {
  const wanted = request.dimensions ?? rows[0]?.length ?? 0;
  if (rows.length !== request.inputs.length)
    throw malformed(`it has ${rows.length} vectors for ${request.inputs.length} inputs`);
  const vectors: Float32Array[] = [];
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    if (row === undefined || row.length !== wanted || wanted === 0 || wanted > MAX_DIMENSIONS)
      throw malformed("its vectors are not of the length that was asked for, or not of one length");
    const vector = new Float32Array(wanted);
    for (let j = 0; j < wanted; j++) {
      const value = row[j];
      if (typeof value !== "number" || !Number.isFinite(value)) throw malformed("a vector holds what is no number");
      vector[j] = value;
    }
    vectors.push(vector);
  }
  const usage = report.usage === undefined ? undefined : believe(report.usage, 0);
  return {
    vectors,
    facts: factsOf(report),
    usage: usage ?? estimate(characters(request), 0),
    parameters: request.dimensions === undefined ? {} : { dimensions: request.dimensions },
  };
}

function characters(request: EmbedRequest): number {
  return request.inputs.reduce(
    (sum, input) => sum + (typeof input === "string" ? input.length : input.length * CHARACTERS_PER_TOKEN),
    0,
  );
}
