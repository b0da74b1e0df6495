import type { ChoiceDelta, EngineModel, EngineOutcome, GenerateParameters, GenerateRequest } from "@assay/protocol";
import type { LocalEngine } from "../engine.ts";

export function chatRequest(model: EngineModel, content: string, parameters: GenerateParameters = {}): GenerateRequest {
  return { kind: "chat", model, messages: [{ role: "user", content }], parameters, stream: true };
}

export function completionRequest(
  model: EngineModel,
  prompt: string | readonly number[],
  parameters: GenerateParameters = {},
): GenerateRequest {
  return { kind: "completion", model, messages: [], prompt, parameters, stream: true };
}

export type CollectedAnswer = {
  text: string;
  readonly calls: { id: string; name: string; arguments: string }[];
  finish: string | undefined;
  logprobs: number[];
};

/** Everything that a generation gave, by choice. */
export type Collected = {
  readonly answers: readonly CollectedAnswer[];
  readonly events: readonly ChoiceDelta[];
  readonly outcome: EngineOutcome;
};

export async function collect(
  engine: LocalEngine,
  request: GenerateRequest,
  signal: AbortSignal = new AbortController().signal,
): Promise<Collected> {
  const generation = engine.generate(request, { signal });
  const answers: CollectedAnswer[] = [];
  const events: ChoiceDelta[] = [];
  for await (const event of generation.events) {
    events.push(event);
    while (answers.length <= event.index) answers.push({ text: "", calls: [], finish: undefined, logprobs: [] });
    const answer = answers[event.index];
    if (answer === undefined) continue;
    answer.text += event.delta.content ?? "";
    answer.logprobs.push(...(event.logprobs?.content ?? []).map((entry) => entry.logprob));
    if (event.finish_reason !== null) answer.finish = event.finish_reason;
    for (const call of event.delta.tool_calls ?? []) {
      if (call.id !== undefined)
        answer.calls[call.index] = { id: call.id, name: call.function?.name ?? "", arguments: "" };
      const known = answer.calls[call.index];
      if (known !== undefined) known.arguments += call.function?.arguments ?? "";
    }
  }
  return { answers, events, outcome: generation.outcome() };
}

/** The first answer of a request with one. */
export function only(collected: Collected): CollectedAnswer {
  const answer = collected.answers[0];
  if (answer === undefined) throw new Error("there is no answer");
  return answer;
}
