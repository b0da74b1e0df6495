import { expect, it } from "vitest";
import type { Candidate } from "./candidate.ts";
import type { Considered } from "./decide.ts";
import { UNKNOWN_HEALTH } from "./health.ts";
import { LASTING_REFUSALS, PASSING_REFUSALS } from "./limits.ts";
import type { Refusal } from "./limits.ts";
import { noRoute } from "./no-route.ts";

const candidate: Candidate = {
  node: "urn:assay:node:a",
  engine: "local",
  model: "demo/chat",
  kinds: ["chat"],
  securityModes: ["vanilla"],
  auditable: true,
  warm: true,
  health: UNKNOWN_HEALTH,
  load: { inFlight: 0 },
};
const prediction = { firstByteMs: 1, totalMs: 1, waitMs: 0, depth: 0 };
const tokens = { inputAtLeast: 0, inputAtMost: 1, outputAtMost: 1, choices: 1 };

function sentence(first: readonly Refusal[], further: readonly Refusal[] = []): string {
  const found = first.map((refusal): Considered => ({
    name: "a",
    candidate,
    outcome: `refused:${refusal}`,
    prediction,
  }));
  const demanded = { assurance: "tee", reason: "It was asked for." } as const;
  return noRoute({ kind: "chat", limits: [], tokens }, found, further, demanded, 0).message;
}

// Of another kind alone is another refusal, which counts nobody: so each stands beside one that serves another model.
it.each([...LASTING_REFUSALS, ...PASSING_REFUSALS].filter((refusal) => refusal !== "model"))(
  "says %s of one candidate and of several, each with its grammar",
  (refusal) => {
    const one = sentence(["model", refusal]);
    expect(one).toMatch(/, 1 (is|has|does|holds|may|cannot|was|takes|failed|would)( [\w-]+)+\.$/);
    expect(one).not.toMatch(/\b(they|their|are|were|do|have|rest)\b/);
    const two = sentence(["model", refusal, refusal]);
    expect(two).toMatch(/, 2 (are|have|do|hold|may|cannot|were|take|failed|would)( [\w-]+)+\.$/);
    expect(two.split(", 2 ")[1]).not.toMatch(/\b(it|its|was|does|has|rests)\b/);
    expect(sentence(["model"], [refusal])).toContain(`; besides, ${one.split(", ")[1]}`);
  },
);

it("counts those of another model alike", () => {
  expect(sentence(["model"])).toBe("The only candidate may not answer: 1 serves another model.");
  expect(sentence(["model", "model"])).toBe("None of 2 candidates may answer: 2 serve another model.");
  expect(sentence([])).toBe("None of 0 candidates may answer: there are no candidates.");
});
