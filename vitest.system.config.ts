import { defineConfig } from "vitest/config";

// What needs Debian's programs or Python packages beside npm's: run it with `npm run test:system`, which brings them.
export default defineConfig({
  resolve: { conditions: ["assay-source"] },
  ssr: { resolve: { conditions: ["assay-source"] } },
  test: {
    name: "system",
    include: ["tests/system/**/*.test.ts"],
    pool: "forks",
    // Each file starts gateways with databases of their own; two at a time is what two cores carry.
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 180_000,
  },
});
