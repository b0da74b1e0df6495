// Prints `passed failed` over vitest's JSON reports. What is missing counts as failed: a report that was not written, one
// without tests, a suite that could not be loaded, an error outside any test, and a test that was skipped in its own run.
// --may-skip=FILE allows skipped tests in files whose path ends so: what a name filter left out, or what needs another
// user than the present one. They are named all the same.
import { existsSync, readFileSync } from "node:fs";

const allowed = process.argv.flatMap((argument) => /^--may-skip=(.+)$/.exec(argument)?.[1] ?? []);
let passed = 0;
let failed = 0;
for (const path of process.argv.slice(2).filter((argument) => !argument.startsWith("--"))) {
  if (!existsSync(path)) {
    console.error(`${path} was not written`);
    failed++;
    continue;
  }
  const report = JSON.parse(readFileSync(path, "utf8"));
  const skipped = report.testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status !== "passed" && status !== "failed")
      .map(({ fullName }) => ({ fullName, fine: allowed.some((end) => name.endsWith(end)) })),
  );
  const missing = skipped.filter(({ fine }) => !fine);
  if (missing.length > 0) console.error(`skipped, so failed: ${missing.map(({ fullName }) => fullName).join("; ")}`);
  if (missing.length < skipped.length) console.error(`skipped with leave: ${skipped.length - missing.length} tests`);
  const broken = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === "failed" && assertionResults.every(({ status: one }) => one !== "failed"),
  ).length;
  let bad = report.numFailedTests + missing.length + broken;
  if (bad === 0 && (!report.success || report.numPassedTests === 0)) bad = 1;
  passed += report.numPassedTests;
  failed += bad;
}
console.log(`${passed} ${failed}`);
