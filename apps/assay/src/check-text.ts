import type { CryptoSuite } from "@assay/core";
import type { LocalEngine, RecheckDisagreement, RecheckResult } from "@assay/driver-llm";
import { engineRequestOf, reopenText } from "@assay/protocol";
import type { EngineModel, OpenedText, ReopenedText } from "@assay/protocol";
import type { ExecutionClaims } from "@assay/receipts";
import { differingParameters, saidOf } from "./stated-text.ts";
import type { Said } from "./stated-text.ts";

/** What one pass of prompt and answer through the model found. */
export type TextCheck = {
  readonly agrees: boolean;
  /** One sentence; names the tokens that are not the model's. */
  readonly message: string;
  readonly facts: Readonly<Record<string, string>>;
  readonly largestDifference: string;
  readonly tolerance: string;
};

/** What stands in the way of a check: the receipt does not disclose or state what it takes. */
export type TextCheckProblem = { readonly problem: "no_tokens" | "no_generation" };

/** What is open of an execution, and what its claims state of it. */
export type StatedText = Omit<OpenedText, "parameters"> & {
  readonly claims: Pick<ExecutionClaims, "parameters" | "usage" | "finishReason">;
};

/**
 * Checks a language model's answer: every token has to be the one that the stated sampler chooses, within the logit
 * tolerance of the profile, the stated parameters have to follow from the request, and the tokens have to say what the
 * answer says, end as it ends, and be as many as the usage counts. Throws what `reopenText` and `LocalEngine.recheck` throw.
 */
export async function checkText(
  engine: Pick<LocalEngine, "recheck">,
  suite: Pick<CryptoSuite, "sha256">,
  { claims, ...opened }: StatedText,
  model: (reopened: ReopenedText) => Promise<EngineModel>,
  signal: AbortSignal,
): Promise<TextCheck | TextCheckProblem> {
  const { parameters = {} } = claims;
  const reopened = reopenText({ ...opened, parameters });
  const { tokens } = reopened;
  if (!tokens) return { problem: "no_tokens" };
  const request = engineRequestOf(reopened.parsed, await model(reopened));
  if ("inputs" in request) return { problem: "no_generation" };
  // What was left out of the request is stated by the node; no engine knows of it.
  const { omitted: _, ...applied } = parameters;
  const result = await engine.recheck(request, tokens, applied, { signal });
  const differing = differingParameters(suite, parameters, reopened, result.parameterMismatches);
  return judge(claims, reopened, result, differing);
}

function judge(
  claims: StatedText["claims"],
  reopened: ReopenedText,
  result: RecheckResult,
  differing: readonly string[],
): TextCheck {
  const [tolerance, largestDifference] = [String(result.tolerance), String(result.largestDifference)];
  const facts = {
    profile: "llm",
    equality: "every token within the logit tolerance, by one prefill pass",
    tokens: String(result.positions),
    tolerance,
    largestDifference,
  };
  const differs = (message: string, more: Readonly<Record<string, string>>): TextCheck => ({
    agrees: false,
    message,
    facts: { ...facts, ...more },
    largestDifference,
    tolerance,
  });
  const [first] = result.disagreements;
  if (first) {
    const named = result.disagreements.map(worded).join("; ");
    return differs(
      `Checked again, ${result.disagreementCount} of ${result.positions} tokens are not this model's: ${named}.`,
      { position: String(first.position), token: String(first.token), expected: String(first.expected) },
    );
  }
  if (differing.length > 0) {
    const parameters = differing.join(", ");
    return differs(`The receipt states other parameters than follow from the request: ${parameters}.`, { parameters });
  }
  const said = saidOf(reopened);
  const wrong = result.answers.findIndex((answer, choice) => !saysTheSame(said[choice], answer));
  if (wrong >= 0)
    return differs(`The tokens of choice ${wrong} say something else than the answer.`, { choice: String(wrong) });
  const end = differingEnd(claims, said, result);
  if (end) {
    const { choice, found, stated } = end;
    return differs(`The tokens of choice ${choice} end by ${found}, and the receipt states ${stated}.`, {
      choice: String(choice),
      finish: found,
    });
  }
  const counted = (reopened.tokens ?? []).reduce((sum, tokens) => sum + tokens.length, 0);
  const usage = claims.usage?.["completion_tokens"];
  if (usage !== counted) {
    const stated = typeof usage === "number" ? String(usage) : "none";
    return differs(`The answer has ${counted} tokens, and the receipt states ${stated}.`, { usage: stated });
  }
  return {
    agrees: true,
    message: `Checked again in one pass: all ${result.positions} tokens are this model's, within ${tolerance} of their logits.`,
    facts,
    largestDifference,
    tolerance,
  };
}

function worded({ position, token, tokenText, expected, expectedText }: RecheckDisagreement): string {
  const meant = expected < 0 ? "the end" : `${expected} ${quote(expectedText)}`;
  return `token ${position} is ${token} ${quote(tokenText)}, and the model's is ${meant}`;
}

function quote(text: string): string {
  return JSON.stringify(text);
}

function saysTheSame(choice: Said | undefined, { text, toolCalls }: RecheckResult["answers"][number]): boolean {
  return (
    choice?.text === text &&
    JSON.stringify(choice.calls) === JSON.stringify(toolCalls.map((call) => [call.name, call.arguments]))
  );
}

/** The first choice whose tokens end otherwise than the answer, or the claim about the first choice, says. */
function differingEnd(
  { finishReason }: StatedText["claims"],
  said: readonly Said[],
  { answers }: RecheckResult,
): { readonly choice: number; readonly found: string; readonly stated: string } | undefined {
  const ends = answers.map(({ finish }) => finish ?? "nothing");
  for (const [choice, found] of ends.entries()) {
    const { finish = "nothing" } = said[choice] ?? {};
    const stated = choice === 0 && finish === found ? (finishReason ?? "nothing") : finish;
    if (stated !== found) return { choice, found, stated };
  }
  return undefined;
}
