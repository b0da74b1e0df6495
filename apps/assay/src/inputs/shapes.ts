import type { Datatype } from "@assay/protocol";
import { describeType, inputError } from "./input-error.ts";
import type { TensorSignature } from "./input-error.ts";
import { MAX_ELEMENTS, MAX_RANK } from "./limits.ts";

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, axis) => product * axis, 1);
}

/** Throws `input_too_large` for a shape of more elements or axes than any request may carry. */
export function checkSize(shape: readonly number[], input: string): void {
  const count = elementCount(shape);
  if (shape.length > MAX_RANK)
    throw inputError("input_too_large", `Input "${input}" has ${shape.length} axes, more than ${MAX_RANK}.`);
  if (count > MAX_ELEMENTS)
    throw inputError("input_too_large", `Input "${input}" has ${count} elements, more than ${MAX_ELEMENTS}.`);
}

/**
 * `given` as the model's shape: axes of size 1 are put in front where the model has more axes than was given, so
 * that one row may be written without its batch. Throws `input_datatype` or `input_shape` with both sides.
 */
export function fitShape(
  given: { readonly datatype: Datatype; readonly shape: readonly number[] },
  wanted: TensorSignature,
): readonly number[] {
  checkSize(given.shape, wanted.name);
  const both = `the model wants ${describeType(wanted)}; given was ${describeType(given)}`;
  if (given.datatype !== wanted.datatype)
    throw inputError("input_datatype", `Input "${wanted.name}" has another type: ${both}.`, [
      `In numpy, convert with .astype before saving.`,
    ]);
  const missing = wanted.shape.length - given.shape.length;
  const shape = missing > 0 ? [...Array.from({ length: missing }, () => 1), ...given.shape] : given.shape;
  const fits =
    shape.length === wanted.shape.length &&
    shape.every((axis, i) => wanted.shape[i] === -1 || wanted.shape[i] === axis);
  if (!fits) throw inputError("input_shape", `Input "${wanted.name}" has another shape: ${both}.`);
  return shape;
}
