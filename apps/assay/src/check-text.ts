import { bytesToHex, canonicalJson } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import type { LocalEngine, RecheckDisagreement, RecheckResult } from "@assay/driver-llm";
import { engineRequestOf, reopenText } from "@assay/protocol";
import type { EngineModel, OpenedText, ReopenedText } from "@assay/protocol";

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

/**
 * Checks a language model's answer: every token has to be the one that the stated sampler chooses, within the logit
 * tolerance of the profile, the stated parameters have to follow from the request, and the tokens have to say what the
 * answer says. Throws what `reopenText` and `LocalEngine.recheck` throw.
 */
export async function checkText(
  engine: Pick<LocalEngine, "recheck">,
  suite: Pick<CryptoSuite, "sha256">,
  opened: OpenedText,
  model: (reopened: ReopenedText) => Promise<EngineModel>,
  signal: AbortSignal,
): Promise<TextCheck | TextCheckProblem> {
  const reopened = reopenText(opened);
  const { tokens } = reopened;
  if (!tokens) return { problem: "no_tokens" };
  const request = engineRequestOf(reopened.parsed, await model(reopened));
  if ("inputs" in request) return { problem: "no_generation" };
  const parameters = opened.parameters ?? {};
  const result = await engine.recheck(request, tokens, parameters, { signal });
  return judge(reopened, result, digestsHold(suite, reopened, parameters));
}

function judge(reopened: ReopenedText, result: RecheckResult, digestsAgree: ReadonlySet<string>): TextCheck {
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
  const mismatches = [
    ...result.parameterMismatches.filter((name) => !digestsAgree.has(name)),
    ...reopened.contradicted,
  ];
  if (mismatches.length > 0) {
    const parameters = mismatches.join(", ");
    return differs(`The receipt states other parameters than follow from the request: ${parameters}.`, { parameters });
  }
  const wrong = differingChoice(reopened, result);
  if (wrong !== undefined)
    return differs(`The tokens of choice ${wrong} say something else than the answer.`, { choice: String(wrong) });
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

/** The first choice whose tokens do not say what the answer says. */
function differingChoice({ response, parsed }: ReopenedText, { answers }: RecheckResult): number | undefined {
  const said = saidOf(response, parsed.dialect);
  const index = answers.findIndex(({ text, toolCalls }, i) => {
    const choice = said[i];
    return (
      choice === undefined ||
      choice.text !== text ||
      JSON.stringify(choice.calls) !== JSON.stringify(toolCalls.map((call) => [call.name, call.arguments]))
    );
  });
  return index < 0 ? undefined : index;
}

type Said = { readonly text: string; readonly calls: readonly (readonly [string, string])[] };
type Loose = { readonly [name: string]: unknown };

/** Text and tool calls of each choice as the answer has them, whichever API it was asked by. */
function saidOf(response: ReopenedText["response"], dialect: string): readonly Said[] {
  const list = (value: unknown): readonly Loose[] => (Array.isArray(value) ? (value as readonly Loose[]) : []);
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  if (dialect === "responses") {
    const output = list(response["output"]);
    return [
      {
        text: output.flatMap((item) => list(item["content"]).map((part) => text(part["text"]))).join(""),
        calls: output.flatMap((item) =>
          item["type"] === "function_call" ? [[text(item["name"]), text(item["arguments"])] as const] : [],
        ),
      },
    ];
  }
  return list(response["choices"]).map((choice) => {
    if (dialect === "completions") return { text: text(choice["text"]), calls: [] };
    const message = (choice["message"] ?? {}) as Loose;
    return {
      text: text(message["content"]),
      calls: list(message["tool_calls"]).map((call) => {
        const of = (call["function"] ?? {}) as Loose;
        return [text(of["name"]), text(of["arguments"])] as const;
      }),
    };
  });
}

/** Parameters that the receipt states by digest and that are the request's own. */
function digestsHold(
  suite: Pick<CryptoSuite, "sha256">,
  { parsed }: ReopenedText,
  stated: Readonly<Record<string, unknown>>,
): ReadonlySet<string> {
  const hold = new Set<string>();
  for (const name of ["tools", "response_format"] as const) {
    const claim = stated[name] as { readonly sha256?: unknown } | undefined;
    const asked = parsed.parameters[name];
    if (asked === undefined || claim === undefined) continue;
    const digest = bytesToHex(suite.sha256(canonicalJson(asked as unknown as JsonValue)));
    if (claim.sha256 === digest) hold.add(name);
  }
  return hold;
}
