import { createOrtRuntime } from "../index.ts";
import * as m from "./models.ts";
const f = m.modelFolder();
const rt = createOrtRuntime({ ...m.sourceChild(), runTimeoutMs: 1500, maxRssBytes: 700e6 });
for (const profile of ["native", "portable"] as const) {
  let t = performance.now();
  const tick = (l: string) => { const n = performance.now(); console.log(profile, l, (n - t).toFixed(1)); t = n; };
  const model = f.model("mlp.onnx", m.mlp(), profile);
  console.log(await rt.prepare(model)); tick("prepare");
  const x = m.fp32("x", [1, 16], Array.from({ length: 16 }, (_, i) => i / 16));
  console.log(m.numbers((await rt.run({ model, inputs: [x] })).outputs[0])); tick("run");
  for (let i = 0; i < 500; i++) await rt.run({ model, inputs: [x] }); tick("500 runs");
  const r = await Promise.all(Array.from({ length: 500 }, async () => await rt.run({ model, inputs: [x] })));
  tick("500 at once"); console.log(r.map((q) => q.batchedRequests).join().slice(0, 60));
  for (const [name, g, inp] of [
    ["loops", m.loops(), m.int64("count", [], [1e12])],
    ["eats", m.eats(), m.int64("size", [1], [1e9])],
    ["aborts", m.aborts(), m.fp32("x", [2], [1, 2])],
  ] as const) {
    const ref = f.model(name + ".onnx", g, profile);
    try { const q = await rt.run({ model: ref, inputs: [inp] }); console.log(name, "ok", q.outputs); }
    catch (e) { console.log(name, (e as { code: string }).code, (e as Error).message, (e as { hints: string[] }).hints, ((e as Error).cause as Error)?.message); }
    tick(name);
  }
  await rt.run({ model, inputs: [x] }); tick("after");
  console.log(rt.stats());
}
await rt.close(); f.remove();
