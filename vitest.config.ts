import { defineConfig } from "vitest/config";

const resolve = { conditions: ["assay-source"] };
const ssr = { resolve: { conditions: ["assay-source"] } };
const pure = ["core", "tlog", "onnx", "x402", "receipts", "verifier", "protocol", "sdk", "routing"].map(
  (name) => `packages/${name}/src/**/*.test.ts`,
);

export default defineConfig({
  test: {
    projects: [
      {
        resolve,
        ssr,
        // Pure packages keep no module state, so their tests share workers: an order of magnitude faster.
        test: { name: "unit", include: pure, pool: "threads", isolate: false, testTimeout: 60_000 },
      },
      {
        resolve,
        ssr,
        test: {
          name: "service",
          include: [
            "packages/{driver,service}-*/src/**/*.test.ts",
            "contracts/src/**/*.test.ts",
            "apps/*/src/**/*.test.ts",
            "tests/service/**/*.test.ts",
          ],
          pool: "forks",
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        resolve,
        ssr,
        test: {
          name: "crash",
          include: ["tests/crash/**/*.test.ts"],
          pool: "forks",
          fileParallelism: false,
          testTimeout: 1_200_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
