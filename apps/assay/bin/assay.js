#!/usr/bin/env node
// In a checkout the bundle is made on first use and whenever a source changed; an installed package only has it.
import { existsSync } from "node:fs";

const script = new URL("../../../scripts/build.mjs", import.meta.url);
if (existsSync(script)) {
  const { buildIfStale } = await import(script.href);
  await buildIfStale();
}
await import("../dist/assay.js");
