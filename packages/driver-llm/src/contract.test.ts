import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { EngineModel } from "@assay/protocol";
import { engineContract } from "@assay/testkit/engine-contract";
import { createLocalEngine } from "./engine.ts";
import { bundledChild, modelFolders, tinyEncoder } from "./testing/tiny-model.ts";

const MAX_RUNNING = 3;
const APPLIES = [
  "temperature",
  "top_p",
  "seed",
  "n",
  "stop",
  "max_tokens",
  "presence_penalty",
  "frequency_penalty",
  "logit_bias",
  "logprobs",
  "top_logprobs",
  "response_format",
] as const;

/** The chat model of this repository: the suite needs one that ends its answers and follows a schema. */
function chatModel(): EngineModel {
  const directory = join(dirname(fileURLToPath(import.meta.url)), "../../../models/chat");
  const paths = ["model.onnx", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
  const files = paths.map((path) => {
    const bytes = readFileSync(join(directory, path));
    return { path, sha256: createHash("sha256").update(bytes).digest("hex"), sizeBytes: bytes.length };
  });
  return { name: "assay/chat", files: { manifestDigest: "c".repeat(64), directory, entry: "model.onnx", files } };
}

engineContract("local", () => {
  const folders = modelFolders();
  const child = bundledChild();
  const chat = chatModel();
  const engine = createLocalEngine({ childEntry: child.childEntry, maxActive: MAX_RUNNING, maxQueued: 0 });
  return {
    engine,
    models: {
      chat,
      completion: chat,
      embedding: folders.model({ network: tinyEncoder(), template: null }),
      unknown: { name: "nobody" },
    },
    applies: [...APPLIES, "tools", "tool_choice", "parallel_tool_calls"],
    appliesToCompletions: [...APPLIES, "echo"],
    // The default tier is the only one there is; the others name something that only the receipt knows.
    receiptOnly: ["user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier"],
    maxRunning: MAX_RUNNING,
    // An answer that may not end goes on to the end of the context.
    longParameters: { logit_bias: { "2": -100 } },
    idle: async () => {
      while (engine.stats().running > 0) await turn();
    },
    close: async () => {
      await engine.close();
      folders.remove();
      child.remove();
    },
  };
});
