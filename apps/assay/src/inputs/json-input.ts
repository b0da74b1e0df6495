import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Tensor } from "@assay/protocol";
import { encodeElements } from "./elements.ts";
import { inputError } from "./input-error.ts";
import type { TensorSignature } from "./input-error.ts";
import { MAX_JSON_BYTES, MAX_RANK } from "./limits.ts";
import { checkSize, elementCount, fitShape } from "./shapes.ts";

/**
 * A tensor from JSON text: a number, nested arrays (`[[1,2],[3,4]]`), or `{"shape":[2,2],"data":[1,2,3,4]}` as the
 * Open Inference Protocol writes it. Types come from the model. Throws `input_file_invalid` for text that is not
 * JSON, `input_shape` for ragged arrays or another shape, and what {@link encodeElements} throws.
 */
export function jsonTensor(text: string | Uint8Array, wanted: TensorSignature): Tensor {
  let value: JsonValue;
  try {
    // One level beyond the deepest tensor for the protocol's object around it.
    value = parseJson(text, { maxBytes: MAX_JSON_BYTES, maxDepth: MAX_RANK + 1 });
  } catch (cause) {
    throw inputError(
      "input_file_invalid",
      `Input "${wanted.name}" is not readable as JSON.`,
      ["Write a number or nested arrays, for example [[1,2],[3,4]]; name a file with @file."],
      cause,
    );
  }
  const object = value !== null && typeof value === "object" && !Array.isArray(value);
  const { shape, values } = object ? fromObject(value as { [key: string]: JsonValue }, wanted) : nested(value, wanted);
  const fitted = fitShape({ datatype: wanted.datatype, shape }, wanted);
  return {
    name: wanted.name,
    datatype: wanted.datatype,
    shape: fitted,
    data: encodeElements(values, wanted.datatype, wanted.name),
  };
}

type Flat = { readonly shape: readonly number[]; readonly values: readonly JsonValue[] };

function nested(value: JsonValue, wanted: TensorSignature): Flat {
  const shape: number[] = [];
  for (let level = value; Array.isArray(level); level = level[0] as JsonValue) {
    shape.push(level.length);
    if (level.length === 0) break;
  }
  checkSize(shape, wanted.name);
  const values: JsonValue[] = [];
  flatten(value, shape, 0, values, wanted);
  return { shape, values };
}

function flatten(
  value: JsonValue,
  shape: readonly number[],
  axis: number,
  into: JsonValue[],
  wanted: TensorSignature,
): void {
  if (axis === shape.length && !Array.isArray(value)) {
    into.push(value);
    return;
  }
  if (!Array.isArray(value) || value.length !== shape[axis])
    throw inputError("input_shape", `Input "${wanted.name}" is ragged: rows at depth ${axis} differ in length.`);
  for (const each of value) flatten(each as JsonValue, shape, axis + 1, into, wanted);
}

function fromObject(value: { readonly [key: string]: JsonValue }, wanted: TensorSignature): Flat {
  const { shape, data, datatype = wanted.datatype } = value;
  const sizes = Array.isArray(shape) ? (shape as JsonValue[]) : undefined;
  if (sizes === undefined || !Array.isArray(data) || !sizes.every(isSize))
    throw inputError("input_file_invalid", `Input "${wanted.name}": a JSON object needs "shape" and "data".`);
  if (datatype !== wanted.datatype)
    throw inputError(
      "input_datatype",
      `Input "${wanted.name}": the model wants ${wanted.datatype}; the object says ${JSON.stringify(datatype)}.`,
    );
  checkSize(sizes, wanted.name);
  const flat = Array.isArray(data[0]) ? nested(data as JsonValue, wanted).values : (data as JsonValue[]);
  if (flat.length !== elementCount(sizes))
    throw inputError(
      "input_shape",
      `Input "${wanted.name}": shape [${sizes.join(",")}] does not hold ${flat.length} values.`,
    );
  return { shape: sizes, values: flat };
}

function isSize(value: JsonValue): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
