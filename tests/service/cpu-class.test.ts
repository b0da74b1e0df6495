import { expect, test } from "vitest";
import { probeCpuClass as classOfLanguageModels } from "../../packages/driver-llm/src/child/class-probe.ts";
import { loadOrt } from "../../packages/driver-llm/src/child/ort.ts";
import { probeCpuClass as classOfTensors } from "../../packages/driver-ort/src/child/class-probe.ts";
import { describePort, loadEngine } from "../../packages/driver-ort/src/child/engine.ts";

test("one machine has one class, whichever driver asks and with however many threads", async () => {
  const native = await classOfTensors(await loadEngine("native", describePort));
  expect(await classOfLanguageModels(await loadOrt(1))).toBe(native);
  expect(await classOfLanguageModels(await loadOrt(2))).toBe(native);
  expect(await classOfTensors(await loadEngine("portable", describePort))).not.toBe(native);
});
