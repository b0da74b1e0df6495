import { describe, expect, it } from "vitest";
import { createItemMemory } from "./items.ts";

const fields = (output: unknown) => [
  { name: "id", value: new TextEncoder().encode('"resp_1"') },
  { name: "output", value: new TextEncoder().encode(JSON.stringify(output)) },
];
const message = (id: string, text = "hello") => ({
  id,
  type: "message",
  role: "assistant",
  status: "completed",
  content: [{ type: "output_text", text, annotations: [], logprobs: [] }],
});

describe("items of recent answers", () => {
  it("are found by their ids for an hour", () => {
    let nowMs = 1000;
    const memory = createItemMemory(() => nowMs);
    memory.remember(fields([message("msg_a"), { id: "fc_b", type: "function_call" }]));
    expect(memory.item("msg_a")).toEqual(message("msg_a"));
    expect(memory.item("fc_b")).toEqual({ id: "fc_b", type: "function_call" });
    expect(memory.item("msg_other")).toBeUndefined();
    nowMs += 60 * 60 * 1000;
    expect(memory.item("msg_a")).toBeUndefined();
  });

  it("are forgotten oldest first when there are too many bytes", () => {
    const memory = createItemMemory(() => 0);
    const long = "x".repeat(1_000_000);
    for (let i = 0; i < 80; i++) memory.remember(fields([message(`msg_${i}`, long)]));
    expect(memory.item("msg_0")).toBeUndefined();
    expect(memory.item("msg_79")).toBeDefined();
    const kept = Array.from({ length: 80 }, (_, i) => memory.item(`msg_${i}`)).filter((item) => item !== undefined);
    expect(kept.length).toBeLessThanOrEqual(68);
  });

  it.each([
    ["not an array", { id: "x" }],
    ["no ids", [{ type: "message" }, 7, null]],
    ["nothing", []],
  ])("are none in an answer with %s", (_, output) => {
    const memory = createItemMemory(() => 0);
    memory.remember(fields(output));
    memory.remember([]);
    memory.remember([{ name: "output", value: new TextEncoder().encode("{") }]);
    expect(memory.item("x")).toBeUndefined();
  });

  it("keep what was there first under an id", () => {
    const memory = createItemMemory(() => 0);
    memory.remember(fields([message("msg_a", "first")]));
    memory.remember(fields([message("msg_a", "second")]));
    expect(memory.item("msg_a")).toEqual(message("msg_a", "first"));
  });

  it("of an answer above the limit are not kept", () => {
    const memory = createItemMemory(() => 0);
    memory.remember(fields([message("msg_a", "x".repeat(1024 * 1024))]));
    expect(memory.item("msg_a")).toBeUndefined();
  });
});
