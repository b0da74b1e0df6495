import type { Tensor } from "@assay/protocol";
import { describe, expect, test } from "vitest";
import { batchKey, rowsOf, stack, unstack } from "./batch.ts";
import { encodeByteStrings } from "./byte-strings.ts";
import type { Port } from "./signature.ts";
import { mayBatch } from "./signature.ts";

const tensor = (shape: readonly number[], data: Uint8Array = new Uint8Array(), name = "x"): Tensor => ({
  name,
  datatype: "UINT8",
  shape,
  data,
});
const port = (name: string, shape: readonly number[], symbol: string, datatype: Port["datatype"] = "UINT8"): Port => ({
  name,
  datatype,
  shape,
  symbols: shape.map((size) => (size < 0 ? symbol : "")),
});

describe("what may run together", () => {
  test("is decided by outputs and every axis but the first", () => {
    const key = batchKey({ inputs: [tensor([2, 3])], outputs: [0] });
    expect(batchKey({ inputs: [tensor([5, 3])], outputs: [0] })).toBe(key);
    expect(batchKey({ inputs: [tensor([2, 4])], outputs: [0] })).not.toBe(key);
    expect(batchKey({ inputs: [tensor([2, 3])], outputs: [1] })).not.toBe(key);
    expect(batchKey({ inputs: [tensor([2, 3, 1])], outputs: [0] })).not.toBe(key);
    expect(batchKey({ inputs: [tensor([2, 3]), tensor([3, 3])], outputs: [0] })).toBeUndefined();
    expect(batchKey({ inputs: [tensor([])], outputs: [0] })).toBeUndefined();
    expect(batchKey({ inputs: [tensor([0, 3])], outputs: [0] })).toBeUndefined();
    expect(batchKey({ inputs: [], outputs: [0] })).toBeUndefined();
    expect(rowsOf([tensor([4, 1]), tensor([4])])).toBe(4);
  });

  test("needs a free first axis of one name on every input, and a free one on every output", () => {
    const y = port("y", [-1, 2], "n");
    expect(mayBatch({ inputs: [port("x", [-1, 2], "n")], outputs: [y] })).toBe(true);
    expect(mayBatch({ inputs: [port("x", [-1, 2], "")], outputs: [y] })).toBe(true);
    expect(mayBatch({ inputs: [port("x", [1, 2], "")], outputs: [y] })).toBe(false);
    expect(mayBatch({ inputs: [port("x", [-1], "n"), port("z", [-1], "m")], outputs: [y] })).toBe(false);
    expect(mayBatch({ inputs: [port("x", [-1], "n"), port("z", [], "")], outputs: [y] })).toBe(false);
    expect(mayBatch({ inputs: [port("x", [-1], "n")], outputs: [port("y", [1], "")] })).toBe(false);
    expect(mayBatch({ inputs: [port("x", [-1], "n")], outputs: [] })).toBe(false);
    expect(mayBatch({ inputs: [], outputs: [y] })).toBe(false);
  });
});

describe("stacking", () => {
  test("puts rows after one another and takes them apart again", () => {
    const requests = [
      { inputs: [tensor([1, 2], Uint8Array.of(1, 2))], outputs: [0] },
      { inputs: [tensor([2, 2], Uint8Array.of(3, 4, 5, 6))], outputs: [0] },
    ];
    const [stacked] = stack(requests);
    expect(stacked?.shape).toEqual([3, 2]);
    const data = Buffer.concat(stacked?.data ?? []);
    expect([...data]).toEqual([1, 2, 3, 4, 5, 6]);
    const cut = unstack([{ shape: [3, 2], data }], [port("y", [-1, 2], "n")], [1, 2]);
    expect(cut?.map((outputs) => outputs.map(({ name, shape, data }) => [name, shape, [...data]]))).toEqual([
      [["y", [1, 2], [1, 2]]],
      [["y", [2, 2], [3, 4, 5, 6]]],
    ]);
  });

  test("keeps the shape of a request that is alone, whatever it is", () => {
    expect(stack([{ inputs: [tensor([])], outputs: [0] }])[0]?.shape).toEqual([]);
  });

  test("cuts texts where their lengths say", () => {
    const texts = ["a", "", "long enough", "ü"];
    const cut = unstack(
      [{ shape: [2, 2], data: encodeByteStrings(texts) }],
      [port("y", [-1, 2], "n", "BYTES")],
      [1, 1],
    );
    expect(cut?.map(([output]) => Buffer.from(output?.data ?? []))).toEqual([
      encodeByteStrings(["a", ""]),
      encodeByteStrings(["long enough", "ü"]),
    ]);
  });

  test("notices an output that does not have one row per input row", () => {
    const ports = [port("y", [-1], "n")];
    expect(unstack([{ shape: [4], data: new Uint8Array(4) }], ports, [1, 2])).toBeUndefined();
    expect(unstack([{ shape: [], data: new Uint8Array(1) }], ports, [1])).toBeUndefined();
  });
});
