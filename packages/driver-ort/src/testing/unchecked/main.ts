import { describePort } from "../../child/engine.ts";
import { serveChild } from "../../child/serve.ts";
import { parseSettings } from "../../child/settings.ts";

// A child that lets every model through to the engine, to see what the engine itself does with it.
await serveChild(parseSettings(process.argv[2] ?? ""), {
  inspect: (bytes) => ({ bytes, casts: [], bf16: { inputs: [], outputs: [] } }),
  describe: (metadata) =>
    metadata.isTensor && ["int4", "uint4"].includes(metadata.type)
      ? { name: metadata.name, datatype: "UINT8", shape: [-1], symbols: [""] }
      : describePort(metadata),
});
