// Prints `passed failed` over vitest's JSON reports. What is missing counts as failed: a report that was not written, one
// without tests, a suite that could not be loaded, an error outside any test, and a test that was skipped in its own run.
// Tests left out by a name filter are marked pending as well, so --filtered says that pending ones are not failures.
import { existsSync, readFileSync } from "node:fs";

const filtered = process.argv.includes("--filtered");
let passed = 0;
let failed = 0;
for (const path of process.argv.slice(2).filter((argument) => !argument.startsWith("--"))) {
  if (!existsSync(path)) {
    console.error(`${path} was not written`);
    failed++;
    continue;
  }
  const report = JSON.parse(readFileSync(path, "utf8"));
  const skipped = filtered ? 0 : report.numPendingTests + report.numTodoTests;
  const broken = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === "failed" && assertionResults.every(({ status: one }) => one !== "failed"),
  ).length;
  let bad = report.numFailedTests + skipped + broken;
  if (bad === 0 && (!report.success || report.numPassedTests === 0)) bad = 1;
  passed += report.numPassedTests;
  failed += bad;
}
console.log(`${passed} ${failed}`);
