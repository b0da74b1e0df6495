import { bytesToHex, canonicalJson, isAssayError } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { createLocalEngine } from "@assay/driver-llm";
import type { RecheckDisagreement, RecheckResult } from "@assay/driver-llm";
import { engineRequestOf, reopenText } from "@assay/protocol";
import type { LanguageModelFiles, ReopenedText } from "@assay/protocol";
import type { ReceiptView } from "@assay/receipts";
import { cliError } from "./render-error.ts";
import { printable } from "./style.ts";
import type { ExtraRow } from "./verdict-text.ts";
import type { World } from "./world.ts";

/**
 * Checks a language model's answer by one pass of prompt and answer through the model: every token has to be the one
 * that the stated sampler chooses, within the logit tolerance of the profile, and the tokens have to say what the answer
 * says. Costs a few percent of making the answer. Throws `reexecution_impossible` and `opening_missing`.
 */
export async function reexecuteText(
  world: World,
  view: ReceiptView,
  model: () => Promise<LanguageModelFiles>,
): Promise<ExtraRow> {
  const { claims } = view.execution;
  if (claims.kind !== "chat" && claims.kind !== "completion")
    throw cliError("reexecution_impossible", `The receipt is of kind ${claims.kind}.`);
  const fields = (side: "request" | "response") =>
    (view.bundle.openings ?? []).flatMap((opening) => (opening.side === side ? opening.fields : []));
  const { kind, parameters = {} } = claims;
  const reopened = reopen({
    kind,
    requestFields: fields("request"),
    responseFields: fields("response"),
    parameters,
  });
  const { tokens } = reopened;
  if (!tokens) {
    throw cliError("opening_missing", "The receipt does not disclose the answer's tokens.", {
      hints: ["The receipt that `assay chat` saved has them; whoever asked can give it to you."],
    });
  }
  const request = engineRequestOf(reopened.parsed, { name: claims.modelName ?? "", files: await model() });
  if ("inputs" in request) throw cliError("reexecution_impossible", "Vectors are not chosen token by token.");
  const engine = createLocalEngine({ ...world.languageChild, children: 1 });
  try {
    const result = await engine.recheck(request, tokens, parameters, { signal: world.interrupt });
    return judge(reopened, result, digestsHold(reopened, parameters));
  } catch (cause) {
    if (!isAssayError(cause) || world.interrupt.aborted) throw cause;
    throw cliError("reexecution_impossible", `The model did not run here: ${cause.message}`, { cause });
  } finally {
    await engine.close();
  }
}

function reopen(opened: Parameters<typeof reopenText>[0]): ReopenedText {
  try {
    return reopenText(opened);
  } catch (cause) {
    if (!isAssayError(cause) || cause.code === "opening_missing") throw cause;
    throw cliError("reexecution_impossible", "What the receipt discloses is no request of a language model.", {
      cause,
      hints: [cause.message],
    });
  }
}

function judge(reopened: ReopenedText, result: RecheckResult, digestsAgree: ReadonlySet<string>): ExtraRow {
  const about = {
    profile: "llm",
    equality: "every token within the logit tolerance, by one prefill pass",
    tokens: String(result.positions),
    tolerance: String(result.tolerance),
    largestDifference: String(result.largestDifference),
  };
  const [first] = result.disagreements;
  if (first) {
    const named = result.disagreements.map(worded).join("; ");
    return {
      check: "re-execution",
      status: "fail",
      code: "reexecution_differs",
      message: `Checked again, ${result.disagreementCount} of ${result.positions} tokens are not this model's: ${named}.`,
      facts: {
        ...about,
        position: String(first.position),
        token: String(first.token),
        expected: String(first.expected),
      },
    };
  }
  const mismatches = [
    ...result.parameterMismatches.filter((name) => !digestsAgree.has(name)),
    ...reopened.contradicted,
  ];
  if (mismatches.length > 0) {
    return {
      check: "re-execution",
      status: "fail",
      code: "reexecution_differs",
      message: `The receipt states other parameters than follow from the request: ${mismatches.join(", ")}.`,
      facts: { ...about, parameters: mismatches.join(", ") },
    };
  }
  const wrong = differingChoice(reopened, result);
  if (wrong !== undefined) {
    return {
      check: "re-execution",
      status: "fail",
      code: "reexecution_differs",
      message: `The tokens of choice ${wrong} say something else than the answer.`,
      facts: { ...about, choice: String(wrong) },
    };
  }
  return {
    check: "re-execution",
    status: "pass",
    code: "reexecution_agrees",
    message: `Checked again here in one pass: all ${result.positions} tokens are this model's, within ${result.tolerance} of their logits.`,
    facts: about,
  };
}

function worded({ position, token, tokenText, expected, expectedText }: RecheckDisagreement): string {
  const meant = expected < 0 ? "the end" : `${expected} ${quote(expectedText)}`;
  return `token ${position} is ${token} ${quote(tokenText)}, and the model's is ${meant}`;
}

function quote(text: string): string {
  return JSON.stringify(printable(text));
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
function digestsHold({ parsed }: ReopenedText, stated: Readonly<Record<string, unknown>>): ReadonlySet<string> {
  const hold = new Set<string>();
  for (const name of ["tools", "response_format"] as const) {
    const claim = stated[name] as { readonly sha256?: unknown } | undefined;
    const asked = parsed.parameters[name];
    if (asked === undefined || claim === undefined) continue;
    const digest = bytesToHex(nodeSuite.sha256(canonicalJson(asked as unknown as JsonValue)));
    if (claim.sha256 === digest) hold.add(name);
  }
  return hold;
}
