import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { AssayError } from "@assay/core";
import { problemOf } from "@assay/service-gateway";
import { beforeAll, describe, expect, it } from "vitest";
import { exitOfError } from "../../apps/assay/src/cli/exit-codes.ts";
import { envExample } from "../../apps/assay/src/config.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), "utf8");

/** Codes of one word, which the shape of a literal does not give away. */
const ONE_WORD = ["canonical", "included", "unexpected", "verified"];

/**
 * Literals in the sources that look like codes and are names of other things. Whoever adds one says here what it is;
 * whoever adds a code writes its page instead.
 */
const OTHER_NAMES: Readonly<Record<string, readonly string[]>> = {
  "claims of AIR v1": [
    "attestation_doc_hash",
    "eat_nonce",
    "enclave_measurements",
    "execution_time_ms",
    "measurement_type",
    "memory_peak_mb",
    "model_hash",
    "model_hash_scheme",
    "model_id",
    "model_version",
    "policy_version",
    "request_hash",
    "response_hash",
    "security_mode",
    "sequence_number",
  ],
  "columns of the database": [
    "execution_digest",
    "expires_at_ms",
    "grant_sha256",
    "issued_at_ms",
    "log_index",
    "manifest_digest",
    "receipt_id",
    "refers_to",
    "released_at_ms",
    "service_digest",
    "size_bytes",
  ],
  "fields and attributes of ONNX": [
    "double_data",
    "else_branch",
    "float_data",
    "hidden_size",
    "int32_data",
    "int64_data",
    "kernel_shape",
    "num_scan_inputs",
    "output_dtype",
    "silero_step",
    "silero_vad",
    "softmax_precision",
    "sparse_tensor",
    "stash_type",
    "string_data",
    "then_branch",
    "uint64_data",
  ],
  "fields of the Open Inference Protocol": [
    "binary_data",
    "binary_data_size",
    "binary_tensor_data",
    "model_name",
    "onnx_onnxv1",
  ],
  "fields of other formats and APIs": ["content_filter", "fortran_order", "given_up", "tool_calls"],
  "steps of preprocessing documents": [
    "crop_to_content",
    "invert_if_light_background",
    "normalize_peak",
    "pad_to_aspect",
    "speech_probability",
  ],
};

function sources(): readonly { readonly path: string; readonly text: string }[] {
  const found: { path: string; text: string }[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) {
        if (!["node_modules", "dist", "testing"].includes(entry.name)) walk(path);
      } else if (entry.name.endsWith(".ts") && !entry.name.endsWith(".test.ts")) found.push({ path, text: read(path) });
    }
  };
  for (const name of readdirSync(join(root, "packages"))) if (name !== "testkit") walk(`packages/${name}/src`);
  walk("apps/assay/src");
  return found;
}

type Page = { name: string; title: string; where: string; body: string; todo: string };
const docs = (await import(join(root, "scripts/docs.mjs"))) as {
  errorPages: () => readonly Page[];
  errorIndex: () => string;
  variableRows: (text: string) => readonly string[];
};

describe("pages of error codes", () => {
  let pages: readonly Page[];
  let index: string;
  let written: Set<string>;
  let coded: Map<string, string>;

  beforeAll(() => {
    pages = docs.errorPages();
    index = docs.errorIndex();
    written = new Set(pages.map(({ name }) => name.replace(/\.md$/, "")));
    coded = new Map();
    for (const { path, text } of sources()) {
      for (const [, literal = ""] of text.matchAll(/"([a-z][a-z0-9]*(?:_[a-z0-9]+)+)"/g)) coded.set(literal, path);
      for (const word of ONE_WORD) if (text.includes(`"${word}"`)) coded.set(word, path);
    }
    // Metrics have names of the same shape and a prefix of their own.
    for (const literal of coded.keys()) if (literal.startsWith("assay_")) coded.delete(literal);
  });

  it("exist for every code in the sources, and for nothing else", () => {
    const others = new Set(Object.values(OTHER_NAMES).flat());
    const codes = [...coded].filter(([literal]) => !others.has(literal));
    expect(codes.length).toBeGreaterThan(250);
    expect(
      codes.filter(([code]) => !written.has(code)).map(([code, path]) => `${path}: ${code}`),
      "codes without a page in docs/errors",
    ).toEqual([]);
    expect(
      [...written].filter((code) => !coded.has(code)),
      "pages without a code",
    ).toEqual([]);
  });

  it("are not pages of names that were listed as something else", () => {
    const others = Object.values(OTHER_NAMES).flat();
    expect(new Set(others).size).toBe(others.length);
    expect(others.filter((name) => written.has(name))).toEqual([]);
    expect(
      others.filter((name) => !coded.has(name)),
      "names that no source has any more",
    ).toEqual([]);
  });

  it("say where, what happened and what to do", () => {
    for (const { name, title, where, body, todo } of pages) {
      expect(title, name).toBe(`# ${name.replace(/\.md$/, "")}`);
      expect(where.length, name).toBeGreaterThan(5);
      expect(body.length, name).toBeGreaterThan(30);
      expect(todo, name).toMatch(/^\*\*What to do\.\*\* .+\.$/s);
    }
  });

  it("give the HTTP status that the gateway gives", () => {
    for (const { name, where } of pages) {
      if (where.startsWith("Witness")) continue;
      const code = name.replace(/\.md$/, "");
      const { status } = problemOf(code === "internal_error" ? new Error("anything") : new AssayError(code, "-"));
      const stated = /HTTP (\d{3})/.exec(where)?.[1];
      if (stated !== undefined || status !== 400) expect(stated, code).toBe(String(status));
    }
  });

  it("give the exit code that the command line gives", () => {
    for (const { name, where } of pages) {
      const stated = /^Command line: exit code (\d+)|command line: exit code (\d+)/.exec(where);
      if (!stated) continue;
      const code = name.replace(/\.md$/, "");
      expect(Number(stated[1] ?? stated[2]), code).toBe(exitOfError(new AssayError(code, "-"), false));
    }
  });

  it("are all in the index, which `node scripts/docs.mjs` writes", () => {
    expect(read("docs/errors/README.md")).toBe(index);
  });
});

describe("other documents", () => {
  it("give a reason for every dependency, and for nothing that is none", () => {
    const manifests = [
      "package.json",
      ...["packages", "apps"].flatMap((folder) =>
        readdirSync(join(root, folder)).map((name) => `${folder}/${name}/package.json`),
      ),
      "bench/package.json",
    ].map((path) => JSON.parse(read(path)) as Record<string, Record<string, string> | undefined>);
    const kinds = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
    const npm = manifests
      .flatMap((manifest) => kinds.flatMap((kind) => Object.keys(manifest[kind] ?? {})))
      .filter((name) => !name.startsWith("@assay/"));
    const python = ["sdk-python/requirements.txt", "tests/system/requirements.txt", "models/digits/requirements.txt"]
      .flatMap((path) => read(path).split("\n"))
      .flatMap((line) => /^([A-Za-z0-9._-]+)/.exec(line)?.[1] ?? []);
    const page = read("docs/decisions/dependencies.md");
    const explained = [...page.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name);
    expect(new Set(explained).size).toBe(explained.length);
    expect(explained.toSorted()).toEqual([...new Set([...npm, ...python])].toSorted());
  });

  it("list every environment variable as the program reads it, which `node scripts/docs.mjs` writes", () => {
    const rows = docs.variableRows(envExample());
    expect(rows.length).toBeGreaterThan(4);
    const page = read("docs/how-to/operate.md");
    expect([...page.matchAll(/^\| `[A-Z_]+` \|.*$/gm)].map(([row]) => row)).toEqual(rows);
  });

  it("point to files that are there", () => {
    const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "*.md"], {
      cwd: root,
      encoding: "utf8",
    });
    const broken: string[] = [];
    for (const path of files.trim().split("\n")) {
      if (!existsSync(join(root, path))) continue;
      for (const [, target = ""] of read(path).matchAll(/\]\(([^)\s]+)\)|src(?:set)?="([^"]+)"/g)) {
        if (target === "" || /^[a-z]+:/.test(target) || target.startsWith("#")) continue;
        const file = join(root, dirname(path), target.replace(/#.*$/, ""));
        if (!existsSync(file)) broken.push(`${path}: ${target}`);
      }
    }
    expect(broken).toEqual([]);
  });
});
