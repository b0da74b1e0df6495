import { readFileSync } from "node:fs";
import { createOrtRuntime } from "../../index.ts";
import { int64, loops, modelFolder, sourceChild } from "../models.ts";

// A parent whose child is inside a native call that does not end. It prints the child's process id once the child
// has spent processor time in it, then waits to be killed.
const folder = modelFolder();
process.stdout.write(`${folder.path}\n`);
const runtime = createOrtRuntime(sourceChild());
const model = folder.model("loops.onnx", loops(), "native");
await runtime.prepare(model);
const pid = runtime.pids()[0] ?? 0;
const ticks = (): number => Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(" ")[13]);
const before = ticks();
const endless = runtime.run({ model, inputs: [int64("count", [], [1e15])] });
const timer = setInterval(() => {
  if (ticks() < before + 20) return;
  clearInterval(timer);
  process.stdout.write(`${pid}\n`);
}, 20);
await endless;
