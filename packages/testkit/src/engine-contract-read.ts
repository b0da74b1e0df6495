import { isAssayError } from "@assay/core";
import type { AssayError } from "@assay/core";
import type { ChoiceDelta, EngineOutcome, Generation, TextFinishReason } from "@assay/protocol";

export type Collected = {
  readonly deltas: readonly ChoiceDelta[];
  /** The finish reason of each choice. */
  readonly finish: ReadonlyMap<number, TextFinishReason>;
  readonly outcome: EngineOutcome;
};

/** Reads a generation to its end. */
export async function collect(generation: Generation): Promise<Collected> {
  const deltas: ChoiceDelta[] = [];
  const finish = new Map<number, TextFinishReason>();
  for await (const delta of generation.events) {
    deltas.push(delta);
    if (delta.finish_reason !== null) finish.set(delta.index, delta.finish_reason);
  }
  return { deltas, finish, outcome: generation.outcome() };
}

/** The text of one choice. */
export function joined(deltas: readonly ChoiceDelta[], index = 0): string {
  return deltas
    .filter((delta) => delta.index === index)
    .map((delta) => delta.delta.content ?? "")
    .join("");
}

/** The error that `attempt` ends with; throws when it ends well or with another kind of error. */
export async function refusal(attempt: Promise<unknown>): Promise<AssayError> {
  try {
    await attempt;
  } catch (error) {
    if (isAssayError(error)) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

/** Begins an answer and leaves it running after its first piece; aborting its signal ends it. */
export async function startEndless(generation: Generation): Promise<Generation> {
  const iterator = generation.events[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) throw new Error("the long answer ended at once");
  void drain(iterator);
  return generation;
}

async function drain(iterator: AsyncIterator<ChoiceDelta>): Promise<void> {
  try {
    while ((await iterator.next()).done !== true);
  } catch {
    // It was aborted: that is how it ends.
  }
}
