// What our CBOR codec costs beside cborg, which the tests hold it to: time to decode the bundles of vectors/receipts.json
// strictly, and bytes that a web page loads. Run: npx tsx --conditions=assay-source scripts/measure-cbor.mjs
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { decodeCbor } from "@assay/core";
import { decode, encode, rfc8949EncodeOptions } from "cborg";
import { build } from "esbuild";

const { vectors } = JSON.parse(readFileSync(new URL("../vectors/receipts.json", import.meta.url), "utf8"));
const bundles = vectors
  .filter(({ expect }) => expect.status === "verified")
  .map(({ receipt }) => new Uint8Array(Buffer.from(receipt, "base64")));
if (bundles.length === 0) throw new Error("the vectors hold no verified bundle");
const bytes = bundles.reduce((sum, bundle) => sum + bundle.length, 0);

/** Microseconds of processor time per bundle, the least of five rounds. */
function measure(step) {
  let best = Infinity;
  for (let round = 0; round < 5; round++) {
    const start = process.cpuUsage();
    let count = 0;
    const until = performance.now() + 400;
    while (performance.now() < until) {
      for (const bundle of bundles) step(bundle);
      count += bundles.length;
    }
    const { user, system } = process.cpuUsage(start);
    best = Math.min(best, (user + system) / count);
  }
  return best;
}

async function size(contents) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: process.cwd() },
    bundle: true,
    minify: true,
    format: "esm",
    write: false,
    conditions: ["assay-source"],
  });
  return gzipSync(outputFiles[0].contents).length;
}

const equal = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const rows = [
  ["decode, ours (refuses what is not deterministic)", measure((bundle) => decodeCbor(bundle))],
  [
    "decode, cborg strict",
    measure((bundle) => decode(bundle, { useMaps: true, strict: true, rejectDuplicateMapKeys: true })),
  ],
  [
    "decode, cborg, and encode again to compare",
    measure((bundle) => equal(encode(decode(bundle, { useMaps: true }), rfc8949EncodeOptions), bundle)),
  ],
];
console.log(`${bundles.length} bundles, ${Math.round(bytes / bundles.length)} bytes each on average`);
for (const [name, microseconds] of rows) console.log(`${name}: ${microseconds.toFixed(1)} µs of processor time`);
console.log(`ours in a page: ${await size('export { decodeCbor, encodeCbor } from "@assay/core"')} bytes gzipped`);
console.log(`cborg in a page: ${await size('export { decode, encode } from "cborg"')} bytes gzipped`);
