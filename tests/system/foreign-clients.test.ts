import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assayJson, makeHome, needed, root, runProgram, startGateway } from "./harness.ts";
import type { Gateway, Home } from "./harness.ts";

type Plain = { readonly shape: readonly number[]; readonly data: readonly number[] };
type TritonFacts = {
  readonly live: boolean;
  readonly ready: boolean;
  readonly modelReady: boolean;
  readonly absentReady: boolean;
  readonly server: { readonly name: string; readonly extensions: readonly string[] };
  readonly model: { readonly name: string; readonly inputs: readonly unknown[] };
  readonly id: string;
  readonly outputs: Readonly<Record<string, Plain>>;
  readonly refusal: { readonly status: string; readonly message: string } | null;
};
type Ours = { readonly outputs: readonly (Plain & { readonly name: string })[] };
type Told = {
  readonly binary: TritonFacts;
  readonly json: TritonFacts;
  readonly openapi: { readonly model: TritonFacts["model"]; readonly outputs: Readonly<Record<string, Plain>> };
};

// Two pictures that are none: any numbers will do to compare clients, and float32 holds these exactly.
const rows = [0, 3].map((shift) => [
  Array.from({ length: 8 }, (_, y) => Array.from({ length: 8 }, (_, x) => ((8 * y + x + shift) % 17) / 16)),
]);

describe("clients of the Open Inference Protocol that others wrote", () => {
  let home: Home;
  let gateway: Gateway;
  let told: Told;
  let ours: Ours;

  beforeAll(async () => {
    const python = needed("ASSAY_SYSTEM_PYTHON");
    home = makeHome();
    gateway = await startGateway(home);
    const script = join(root, "tests/system/foreign_clients.py");
    const ran = runProgram(python, [
      script,
      gateway.url,
      "demo/digits",
      "image",
      ...rows.map((row) => JSON.stringify(row)),
    ]);
    if (ran.code !== 0) throw new Error(ran.stderr);
    told = JSON.parse(ran.stdout) as Told;
    const folder = mkdtempSync(join(tmpdir(), "assay-rows-"));
    try {
      const path = join(folder, "rows.json");
      writeFileSync(path, JSON.stringify(rows));
      ours = assayJson(home, "run", "demo/digits", "--input", `image=@${path}`) as Ours;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
  afterAll(async () => {
    await gateway.stop();
    home.remove();
  });

  it("learn what the server and the model are", () => {
    expect(told.binary).toMatchObject({
      live: true,
      ready: true,
      modelReady: true,
      absentReady: false,
      server: { name: "assay", extensions: ["binary_tensor_data"] },
      model: {
        name: "demo/digits",
        versions: ["1"],
        inputs: [{ name: "image", datatype: "FP32", shape: [-1, 1, 8, 8] }],
        outputs: [
          { name: "logits", datatype: "FP32", shape: [-1, 10] },
          { name: "probabilities", datatype: "FP32", shape: [-1, 10] },
          { name: "label", datatype: "INT64", shape: [-1] },
        ],
      },
    });
    expect(told.openapi.model).toEqual(told.binary.model);
  });

  it("get with binary tensors the very numbers that our own client gets", () => {
    const expected = Object.fromEntries(ours.outputs.map(({ name, shape, data }) => [name, { shape, data }]));
    const got = Object.fromEntries(
      Object.entries(told.binary.outputs).map(([name, { shape, data }]) => [name, { shape, data }]),
    );
    expect(got).toEqual(expected);
    expect(got["logits"]?.shape).toEqual([2, 10]);
  });

  it("get the same numbers as JSON", () => {
    expect(told.json.outputs).toEqual(told.binary.outputs);
    for (const [name, { shape, data }] of Object.entries(told.openapi.outputs)) {
      expect(shape).toEqual(told.binary.outputs[name]?.shape);
      expect(data.map(Math.fround)).toEqual(told.binary.outputs[name]?.data);
    }
  });

  it("get their request's id back, and an error they can read", () => {
    expect(told.binary.id).toBe("a-foreign-request");
    expect(told.json.id).toBe("a-foreign-request");
    expect(told.binary.refusal).toMatchObject({ status: "400" });
    expect(told.binary.refusal?.message).toContain("image");
  });
});
