#!/usr/bin/env node
// The compiler of npm's `solc` behind the two options that forge asks a native one for, so that forge needs no download;
// and the settings that all contracts are compiled with.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

/**
 * Via IR: a payment in a batch costs 3,000 gas less. 10,000 runs: code is deployed once and settles for years. Cancun has transient storage and is on every chain that
 * payments are made on. No metadata hash: the bytecode follows from the sources' meaning alone, not from comments.
 */
export const settings = {
  viaIR: true,
  optimizer: { enabled: true, runs: 10_000 },
  evmVersion: "cancun",
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const solc = createRequire(import.meta.url)("solc");
  const option = process.argv.find((argument) => argument === "--version" || argument === "--standard-json");
  if (option === "--version") {
    const version = solc.version().replace(/\.Emscripten.*$/, ".Linux.g++");
    process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${version}\n`);
  } else if (option === "--standard-json") {
    process.stdout.write(solc.compile(readFileSync(0, "utf8")));
  } else {
    process.stderr.write("Only --version and --standard-json are answered.\n");
    process.exitCode = 2;
  }
}
