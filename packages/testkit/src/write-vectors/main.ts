import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { vectorsView } from "../vectors.ts";

// npx tsx --conditions=assay-source packages/testkit/src/write-vectors/main.ts
const directory = fileURLToPath(new URL("../../../../vectors/", import.meta.url));
mkdirSync(directory, { recursive: true });
writeFileSync(`${directory}receipts.json`, `${JSON.stringify(await vectorsView(), null, 1)}\n`);
