import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { PNG } from "pngjs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AssayError } from "@assay/core";
import { MAX_ELEMENTS, MAX_FILE_BYTES, MAX_INPUTS, MAX_SPEC_CHARS } from "./limits.ts";
import { loadInputs } from "./load-inputs.ts";
import type { LoadInputsOptions } from "./load-inputs.ts";
import { writeNpy } from "./npy.ts";
import { encodePreprocessing, parsePreprocessing } from "./preprocessing.ts";
import { readFileBytes, readStreamBytes } from "./read-bytes.ts";

const code = (value: string) => expect.objectContaining({ code: value });
const preprocessing = parsePreprocessing(
  encodePreprocessing({
    format: "assay-preprocessing/1",
    inputs: [
      { input: "image", kind: "image", alpha: "white", steps: [{ op: "gray" }], layout: "chw", mean: [0], std: [1] },
      { input: "audio", kind: "audio", sampleRateHz: 16_000 },
    ],
    outputs: [],
  }),
);
const x = { name: "x", datatype: "FP32", shape: [-1, 2] } as const;
const image = { name: "image", datatype: "FP32", shape: [-1, 1, 2, 2] } as const;
const audio = { name: "audio", datatype: "FP32", shape: [-1] } as const;
const text = { name: "text", datatype: "BYTES", shape: [-1] } as const;

const png = new Uint8Array(PNG.sync.write(new PNG({ width: 2, height: 2, fill: true })));
const wav = new Uint8Array(
  Buffer.from(
    "524946462800000057415645666d7420100000000100010080bb00000077010002001000646174610400000000400040",
    "hex",
  ),
);
const floats = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const npy = writeNpy({ datatype: "FP32", shape: [2, 2], data: floats(1, 2, 3, 4) });

/** Options with files and standard input held in memory. */
function options(
  signature: LoadInputsOptions["signature"],
  files: Readonly<Record<string, Uint8Array>> = {},
  stdin: Uint8Array = new Uint8Array(),
): LoadInputsOptions {
  return {
    signature,
    preprocessing,
    readFile: async (path) => {
      const bytes = files[path];
      if (bytes === undefined) throw Object.assign(new Error("none"), { code: "ENOENT" });
      return bytes;
    },
    stdin: async () => stdin,
  };
}

describe("values of the command line", () => {
  test.each<[string, Uint8Array]>([
    ["x=[[1,2],[3,4]]", new Uint8Array()],
    ["x=@a.npy", npy],
    ["x=@a.NPY", npy],
    ["x=@a.json", Buffer.from("[[1,2],[3,4]]")],
    ["x=@a.json", Buffer.from('{"shape":[2,2],"data":[1,2,3,4]}')],
    ["x=@a.bin", floats(1, 2, 3, 4)],
    ["x=@dir.png/a.raw", floats(1, 2, 3, 4)],
    ["x=@array", npy],
    ["x=@-", npy],
    ["x=@-", Buffer.from(" [[1,2],\n[3,4]]\n")],
  ])("%s", async (spec, bytes) => {
    const path = spec.slice(3);
    const { tensors, preprocessing: used } = await loadInputs([spec], options([x], { [path]: bytes }, bytes));
    expect(tensors).toEqual([{ name: "x", datatype: "FP32", shape: [2, 2], data: floats(1, 2, 3, 4) }]);
    expect(used).toBeUndefined();
  });

  test("a picture and a recording go through the model's document, which is then named", async () => {
    const loaded = await loadInputs(
      ["audio=@b.wav", "x=[1,2]", "image=@a.png"],
      options([x, image, audio], { "a.png": png, "b.wav": wav }),
    );
    expect(loaded.tensors.map(({ name, shape }) => [name, shape])).toEqual([
      ["x", [1, 2]],
      ["image", [1, 1, 2, 2]],
      ["audio", [1]],
    ]);
    expect(loaded.preprocessing).toEqual({ ...preprocessing, inputs: ["image", "audio"] });
  });

  test("pictures and recordings come from standard input as well", async () => {
    for (const [signature, bytes, shape] of [
      [image, png, [1, 1, 2, 2]],
      [audio, wav, [1]],
    ] as const) {
      const { tensors } = await loadInputs([`${signature.name}=@-`], options([signature], {}, bytes));
      expect(tensors[0]?.shape).toEqual(shape);
    }
  });

  test.each([
    ["text=hello", ["hello"]],
    ["text=a=b", ["a=b"]],
    ["text=3", ["3"]],
    ['text=["a","@b"]', ["a", "@b"]],
    ['text="@b"', ["@b"]],
  ])("%s is text for a BYTES input", async (spec, expected) => {
    const { tensors } = await loadInputs([spec], options([text]));
    const parts = expected.flatMap((each) => [each.length, 0, 0, 0, ...Buffer.from(each)]);
    expect(tensors[0]).toMatchObject({ shape: [expected.length], data: Uint8Array.from(parts) });
  });

  test("a name that holds an equals sign is understood", async () => {
    const odd = { name: "a=b", datatype: "INT32", shape: [] } as const;
    expect((await loadInputs(["a=b=7"], options([odd]))).tensors[0]?.data).toEqual(Uint8Array.of(7, 0, 0, 0));
  });
});

describe("refusals", () => {
  const files: Record<string, Uint8Array> = {
    "a.png": png,
    "fake.png": wav,
    "fake.npy": png,
    "b.wav": wav,
    "odd.bin": floats(1, 2, 3),
    "cut.bin": new Uint8Array(7),
    "f64.npy": writeNpy({ datatype: "FP64", shape: [1, 2], data: new Uint8Array(16) }),
    "wide.npy": writeNpy({ datatype: "FP32", shape: [3], data: floats(1, 2, 3) }),
    "what.xyz": Uint8Array.of(0xca, 0xfe),
    "bool.bin": Uint8Array.of(0, 2),
    "a.jpg": png,
    "a.npz": npy,
    "huge.bin": { length: MAX_FILE_BYTES + 1 } as Uint8Array,
  };
  const free = { name: "free", datatype: "FP32", shape: [-1, -1] } as const;
  const bool = { name: "bool", datatype: "BOOL", shape: [2] } as const;
  const fixed = { name: "fixed", datatype: "FP32", shape: [2] } as const;
  const giant = { name: "giant", datatype: "UINT8", shape: [-1] } as const;

  test.each<[string, LoadInputsOptions["signature"], string[], string]>([
    ["no equals sign", [x], ["x"], "input_spec_invalid"],
    ["no name", [x], ["=3"], "input_spec_invalid"],
    ["no value", [x], ["x="], "input_spec_invalid"],
    ["no file name", [x], ["x=@"], "input_spec_invalid"],
    ["standard input twice", [x, image], ["x=@-", "image=@-"], "input_spec_invalid"],
    ["an unknown name", [x], ["y=3"], "input_unexpected"],
    ["a name in other case", [x], ["X=[1,2]"], "input_unexpected"],
    ["a name twice", [x], ["x=[1,2]", "x=[1,2]"], "input_duplicate"],
    ["nothing at all", [x], [], "input_missing"],
    ["one of two", [x, image], ["x=[1,2]"], "input_missing"],
    ["a missing file", [x], ["x=@none.npy"], "input_file_missing"],
    ["empty standard input", [x], ["x=@-"], "input_file_invalid"],
    ["a JPEG", [image], ["image=@a.jpg"], "input_format_unsupported"],
    ["an archive of arrays", [x], ["x=@a.npz"], "input_format_unsupported"],
    ["a pickle", [x], ["x=@a.pkl"], "input_format_unsupported"],
    ["an unknown kind", [x], ["x=@what.xyz"], "input_format_unsupported"],
    ["a recording named as a picture", [image], ["image=@fake.png"], "input_file_invalid"],
    ["a picture named as an array", [x], ["x=@fake.npy"], "input_file_invalid"],
    ["a recording for a picture", [image], ["image=@b.wav"], "input_format_unsupported"],
    ["a picture for a recording", [audio], ["audio=@a.png"], "input_format_unsupported"],
    ["a picture where none is described", [x], ["x=@a.png"], "preprocessing_missing"],
    ["raw bytes of half a row", [x], ["x=@odd.bin"], "input_shape"],
    ["raw bytes of half a value", [x], ["x=@cut.bin"], "input_shape"],
    ["raw bytes for two free axes", [free], ["free=@odd.bin"], "input_shape"],
    ["raw bytes for a fixed shape", [fixed], ["fixed=@odd.bin"], "input_shape"],
    ["raw bytes for texts", [text], ["text=@odd.bin"], "input_format_unsupported"],
    ["a raw BOOL of 2", [bool], ["bool=@bool.bin"], "input_value"],
    ["another type", [x], ["x=@f64.npy"], "input_datatype"],
    ["another shape", [x], ["x=@wide.npy"], "input_shape"],
    ["a path without its @", [image], ["image=three.png"], "input_file_invalid"],
    ["a file beyond the limit", [giant], ["giant=@huge.bin"], "input_too_large"],
    ["too long a value", [x], [`x=${"1".repeat(MAX_SPEC_CHARS)}`], "input_too_large"],
    ["too many inputs", [x], Array.from({ length: MAX_INPUTS + 1 }, () => "x=1"), "input_too_large"],
  ])("%s", async (_, signature, specs, expected) => {
    await expect(loadInputs(specs, options(signature, files))).rejects.toThrow(code(expected));
  });

  test("more raw elements than a request carries", async () => {
    const bytes = new Uint8Array(MAX_ELEMENTS + 1);
    await expect(loadInputs(["giant=@a.bin"], options([giant], { "a.bin": bytes }))).rejects.toThrow(
      code("input_too_large"),
    );
  });

  test("a picture for a model that ships no document", async () => {
    const { preprocessing: _, ...without } = options([image], files);
    await expect(loadInputs(["image=@a.png"], without)).rejects.toThrow(code("preprocessing_missing"));
  });

  test("sentences name the input and what would be right", async () => {
    await expect(loadInputs(["x=@f64.npy"], options([x], files))).rejects.toThrow(
      'Input "x" has another type: the model wants FP32 [-1,2]; given was FP64 [1,2].',
    );
    const hints = await loadInputs(["y=1"], options([x, image])).catch((error: AssayError) => error.hints);
    expect(hints).toEqual(["The model's inputs: x (FP32 [-1,2]), image (FP32 [-1,1,2,2])."]);
  });

  test("errors of the reader that are already explained pass through", async () => {
    const given = { ...options([x]), readFile: async () => Promise.reject(new AssayError("own_code", "Own.")) };
    await expect(loadInputs(["x=@a.npy"], given)).rejects.toThrow(code("own_code"));
  });
});

describe("reading real files", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "assay-inputs-"));
    writeFileSync(join(folder, "a.npy"), npy);
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test("a file is read whole, and not one byte beyond the limit", async () => {
    expect(await readFileBytes(join(folder, "a.npy"), npy.length)).toEqual(npy);
    await expect(readFileBytes(join(folder, "a.npy"), npy.length - 1)).rejects.toThrow(code("input_too_large"));
  });

  test("folders and missing files are told apart", async () => {
    const real = { ...options([x]), readFile: readFileBytes };
    await expect(loadInputs([`x=@${folder}`], real)).rejects.toThrow(code("input_file_unreadable"));
    await expect(loadInputs([`x=@${join(folder, "b.npy")}`], real)).rejects.toThrow(code("input_file_missing"));
    await expect(loadInputs([`x=@${join(folder, "a.npy", "b.npy")}`], real)).rejects.toThrow(
      code("input_file_missing"),
    );
  });

  test("a stream that never ends is left at the limit", async () => {
    let parts = 0;
    const endless = Readable.from(
      (function* () {
        for (;;) {
          parts++;
          yield Buffer.alloc(1_000);
        }
      })(),
    );
    await expect(readStreamBytes(endless, 10_000)).rejects.toThrow(code("input_too_large"));
    expect(parts).toBeLessThan(100);
    expect(await readStreamBytes(Readable.from(["é", Buffer.from("b")]), 3)).toEqual(Uint8Array.of(0xc3, 0xa9, 98));
  });
});
