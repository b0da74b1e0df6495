import type { KnipConfig } from "knip";

/** A package's public entry follows from its `exports`, and vitest's configuration names its tests. */
const src = { project: ["src/**/*.ts"] };

const config: KnipConfig = {
  workspaces: {
    ".": {
      entry: [
        "scripts/*.mjs",
        "tests/system/go/make-log.ts",
        "tests/crash/{server,fleet}-child.ts",
        "tests/system/*.mjs",
        "tests/service/remote/*-process.ts",
        "vitest.*.config.ts",
      ],
      project: ["scripts/**/*.mjs", "tests/**/*.ts", "*.ts"],
      // Tests over the whole program take the version that driver-postgres pins, a client of x402's first version is
      // installed apart, and what contracts are compiled and tested with is found by its path.
      ignoreDependencies: ["pg", "@hono/node-server", "@hono/zod-openapi", "x402-fetch", "@openzeppelin/contracts"],
    },
    "packages/*": src,
    // Programs of their own: children, and parents that tests start.
    "packages/driver-ort": { ...src, entry: ["src/**/main.ts"] },
    "packages/driver-llm": { ...src, entry: ["src/**/main.ts"] },
    "packages/driver-gguf": { ...src, entry: ["src/**/main.ts"] },
    "packages/testkit": { ...src, entry: ["src/**/main.ts"] },
    "apps/assay": {
      ...src,
      entry: ["src/main.ts"],
      // The voice model's file is read by its path, and tests compare with the engines of driver-ort.
      ignoreDependencies: ["@ricky0123/vad-web", "onnxruntime-node", "onnxruntime-web"],
    },
    bench: {
      entry: ["*.{ts,mjs}", "{infer,chat,money}/*.ts"],
      project: ["**/*.{ts,mjs}"],
      ignoreBinaries: ["taskset"],
      // The floor that a benchmark measures is the engine that driver-ort pins.
      ignoreDependencies: ["onnxruntime-node", "onnxruntime-web", "undici"],
    },
  },
};

export default config;
