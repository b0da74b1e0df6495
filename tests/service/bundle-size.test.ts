import { gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { expect, test } from "vitest";

/** What a page that verifies may cost before it shows anything, gzipped. */
const MAX_INITIAL_BYTES = 45_000;
const root = fileURLToPath(new URL("../..", import.meta.url));

const PARTS = `
  export { createVerifier, createWebSuite } from "@assay/verifier";
  export { parseTrust } from "@assay/receipts";`;
const EAGER = `${PARTS}
  export { nobleSuite } from "@assay/core/noble";`;
const LAZY = `${PARTS}
  import { lazySuite } from "@assay/verifier";
  import { concatBytes } from "@assay/core";
  import { sha256 } from "@noble/hashes/sha2.js";
  export const fallback = lazySuite(
    (...parts) => sha256(concatBytes(...parts)),
    async () => (await import("@assay/core/noble")).nobleSuite,
  );`;

type Sizes = { readonly initial: number; readonly whole: number; readonly inputs: readonly string[] };

/** Bundles for a browser; `initial` are the gzipped bytes of the entry and of what it imports statically. */
async function sizes(entry: string, external: readonly string[] = []): Promise<Sizes> {
  const result = await build({
    stdin: { contents: entry, resolveDir: root, loader: "ts" },
    bundle: true,
    minify: true,
    splitting: true,
    format: "esm",
    platform: "browser",
    conditions: ["assay-source"],
    external: [...external],
    outdir: "out",
    absWorkingDir: root,
    write: false,
    metafile: true,
  });
  const gzipped = new Map(
    result.outputFiles.map(({ path, contents }) => [path, gzipSync(contents, { level: 9 }).length]),
  );
  const sizeOf = (name: string): number => {
    const found = [...gzipped].find(([path]) => path.endsWith(name));
    if (!found) throw new Error(`esbuild wrote no ${name}.`);
    return found[1];
  };
  const outputs = result.metafile.outputs;
  const [first] = Object.entries(outputs).find(([, { entryPoint }]) => entryPoint === "<stdin>") ?? [];
  if (first === undefined) throw new Error("esbuild named no entry.");
  const reached = new Set([first]);
  for (const name of reached) {
    for (const { path, kind } of outputs[name]?.imports ?? []) if (kind === "import-statement") reached.add(path);
  }
  const inputs = [...reached].flatMap((name) => Object.keys(outputs[name]?.inputs ?? {}));
  return {
    initial: [...reached].reduce((sum, name) => sum + (outputs[name] ? sizeOf(name) : 0), 0),
    whole: [...gzipped.values()].reduce((sum, size) => sum + size, 0),
    inputs,
  };
}

test("a page that verifies receipts loads at most 45 kB of script before it can begin", async () => {
  const eager = await sizes(EAGER);
  const withoutMlDsa = await sizes(EAGER, ["@noble/post-quantum/*"]);
  const lazy = await sizes(LAZY);
  console.log(
    `gzipped: ${lazy.initial} B at once (curves and ML-DSA on demand, ${lazy.whole} B in all); ` +
      `all at once ${eager.initial} B, without ML-DSA ${withoutMlDsa.initial} B`,
  );
  expect(lazy.initial).toBeLessThanOrEqual(MAX_INITIAL_BYTES);
  // The figure means something only if the verifier is in it and the curves are not.
  for (const part of ["receipts/src/verify.ts", "verifier/src/web-suite.ts", "hashes/sha2.js"])
    expect(
      lazy.inputs.some((path) => path.endsWith(part)),
      part,
    ).toBe(true);
  expect(lazy.inputs.some((path) => /curves|post-quantum/.test(path))).toBe(false);
  expect(lazy.inputs.some((path) => path.startsWith("node:"))).toBe(false);
  expect(eager.inputs.some((path) => path.includes("post-quantum"))).toBe(true);
});
