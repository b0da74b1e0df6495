import { expect, test } from "vitest";
import { LaneDeath } from "./lane.ts";
import { MAX_STRIKES, STRIKE_WINDOW_MS, createStrikes } from "./strikes.ts";

test("a model that keeps costing its child is refused for a while", () => {
  let now = 0;
  const strikes = createStrikes(() => now);
  for (let time = 1; time < MAX_STRIKES; time++) strikes.note("m", new LaneDeath("aborted", ""));
  strikes.refuse("m");
  const last = new LaneDeath("memory", "");
  strikes.note("m", last);
  strikes.note("m", last);
  expect(() => strikes.refuse("m")).toThrow(expect.objectContaining({ code: "model_aborted" }));
  strikes.refuse("other");
  now = STRIKE_WINDOW_MS + 1;
  strikes.refuse("m");
});

test("deaths from outside and those of one request's text are not the model's", () => {
  const strikes = createStrikes(() => 0);
  for (let time = 0; time < MAX_STRIKES * 2; time++) {
    strikes.note("m", new LaneDeath("external", ""));
    strikes.note("m", new LaneDeath("deadline", "", { id: 1, stage: "prepare" }));
  }
  strikes.refuse("m");
});
