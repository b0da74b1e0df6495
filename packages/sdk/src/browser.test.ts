import { builtinModules } from "node:module";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { expect, test } from "vitest";

test("the package is built for browsers without anything of Node", async () => {
  const entry = fileURLToPath(new URL("index.ts", import.meta.url));
  const { outputFiles, metafile } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    metafile: true,
    minify: true,
    format: "esm",
    platform: "browser",
    conditions: ["assay-source"],
    logLevel: "silent",
  });
  const [file] = outputFiles;
  const inputs = Object.keys(metafile.inputs);
  expect(inputs.some((path) => path.endsWith("sdk/src/assay.ts"))).toBe(true);
  const imported = Object.values(metafile.outputs).flatMap(({ imports }) => imports.map(({ path }) => path));
  expect(imported).toEqual([]);
  expect(inputs.filter((path) => builtinModules.includes(path.replace(/^node:/, "")))).toEqual([]);
  // Which part it would be: the whole text is of no use in a report.
  const found = /.{0,40}(?:\bprocess\.(?:env|versions)|\bBuffer\.from|(?<![.\w])require\().{0,40}/.exec(
    file?.text ?? "",
  );
  expect(found?.[0]).toBeUndefined();
});
