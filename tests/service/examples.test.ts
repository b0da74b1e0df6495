import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sourceChild } from "../../packages/driver-ort/src/testing/models.ts";
import { openHome } from "./running-server.ts";
import type { ServerHome } from "./running-server.ts";

// What a how-to page shows is a file of docs/examples, and what it says that the file prints is what it prints.

const root = fileURLToPath(new URL("../..", import.meta.url));
const examples = readdirSync(join(root, "docs/examples")).filter((name) => name.endsWith(".ts"));
/** An example runs a model for a few tokens; most of the time is for starting Node. */
const EXAMPLE_TIMEOUT_MS = 60_000;

type Shown = { readonly page: string; readonly name: string; readonly code: string; readonly output: string };

/** Examples that the pages show: the file's name in a comment, its text, and what it prints. */
function shown(): readonly Shown[] {
  const form = /<!-- docs\/examples\/(\S+) -->\n\n```ts\n([^]*?)```\n(?:\n```\n([^]*?)\n```\n)?/g;
  return readdirSync(join(root, "docs/how-to")).flatMap((page) =>
    [...readFileSync(join(root, "docs/how-to", page), "utf8").matchAll(form)].map(
      ([, name = "", code = "", output = ""]) => ({ page, name, code, output }),
    ),
  );
}

describe("examples of the how-to pages", () => {
  let home: ServerHome;
  let folder: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "assay-examples-"));
    const languageChild = sourceChild("../../../driver-llm/src/child/main.ts");
    home = await openHome({ ...sourceChild(), languageChild, seed: true });
  });
  afterAll(async () => {
    await home?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("each file stands in one page, and each page shows files alone", () => {
    const all = shown();
    expect(all.map(({ name }) => name).toSorted()).toEqual(examples.toSorted());
    for (const { name, code, output, page } of all) {
      expect(code, `${page}: ${name}`).toBe(readFileSync(join(root, "docs/examples", name), "utf8"));
      expect(output, `${page} says what ${name} prints`).not.toBe("");
    }
  });

  test.each(examples)("%s prints what its page says", async (name) => {
    const output = await run(join(root, "docs/examples", name), { cwd: folder, url: home.server.url });
    const expected = shown().find((example) => example.name === name)?.output ?? "";
    expect(output.trimEnd()).toMatch(patternOf(expected));
  });
});

/** What is printed, with … for what differs from run to run. */
function patternOf(output: string): RegExp {
  const escaped = output.split("…").map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
  return new RegExp(`^${escaped.join(String.raw`[^\n]*`)}$`);
}

/** Runs one example as a program of its own. Resolves with what it printed; rejects with all it said when it fails. */
function run(path: string, { cwd, url }: { readonly cwd: string; readonly url: string }): Promise<string> {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
  const args = ["--conditions=assay-source", "--import", loader, path];
  const env = { ...process.env, ASSAY_URL: url };
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { cwd, env, timeout: EXAMPLE_TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${path} failed.\n${stdout}\n${stderr}`, { cause: error }));
      else resolve(stdout);
    });
  });
}
