import { defineConfig } from "vitest/config";
import type { Reporter } from "vitest/reporters";

/** Prints, as the last lines of the run, what its tests have to say in figures. */
const summary: Reporter = {
  onTestRunEnd(modules, errors, reason) {
    const lines = modules.flatMap((module) =>
      [...module.children.allTests()].flatMap((test) => (test.meta() as { summary?: readonly string[] }).summary ?? []),
    );
    const verdict = reason === "passed" && errors.length === 0 ? "as expected" : "NOT as expected: see above";
    process.stdout.write([...lines, `Conformance run ${verdict}.`, ""].join("\n"));
  },
};

// Suites over test data that this project did not write. ASSAY_VECTORS names the folder; without it the run fails,
// because a conformance run that tried nothing must not look like one that passed.
export default defineConfig({
  resolve: { conditions: ["assay-source"] },
  ssr: { resolve: { conditions: ["assay-source"] } },
  test: {
    name: "vectors",
    include: ["tests/vectors/**/*.test.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 900_000,
    hookTimeout: 120_000,
    reporters: ["default", summary],
  },
});
