import { equalBytes } from "@assay/core";
import type { Tensor } from "@assay/protocol";
import { decodeElements } from "../inputs/elements.ts";

/**
 * How far two classes of processor may drift apart: different vector widths change the order of float32 additions, and
 * a thousand of them lose about three of seven decimal digits.
 */
export const RELATIVE_TOLERANCE = 1e-3;
/** Below this, values count as zero: cancellation leaves no relative precision there. */
export const ABSOLUTE_TOLERANCE = 1e-5;

/** How one output compares. */
export type Comparison = {
  readonly name: string;
  readonly equal: boolean;
  /** The largest difference of two elements, as text; `0` when none differs. */
  readonly largest: string;
  /** Why they are not comparable element by element. */
  readonly reason?: string;
};

/**
 * Compares a re-executed output with the signed one: byte for byte, or within {@link RELATIVE_TOLERANCE} for floating
 * point. Integers, booleans and texts are always compared exactly. NaN equals NaN.
 */
export function compareTensors(signed: Tensor, found: Tensor | undefined, equality: "bytes" | "tolerance"): Comparison {
  const { name } = signed;
  const unlike = (reason: string): Comparison => ({ name, equal: false, largest: "not comparable", reason });
  if (!found) return unlike("the model gave no such output");
  if (signed.datatype !== found.datatype) return unlike(`it is ${found.datatype} and was ${signed.datatype}`);
  if (signed.shape.join() !== found.shape.join()) {
    return unlike(`it has the shape [${found.shape.join(", ")}] and had [${signed.shape.join(", ")}]`);
  }
  if (equalBytes(signed.data, found.data)) return { name, equal: true, largest: "0" };
  if (signed.datatype === "BYTES") return unlike("its texts are others");
  const [a, b] = [signed, found].map(({ data, datatype }) => decodeElements(data, datatype));
  const floating = /^(?:FP|BF)/.test(signed.datatype);
  let largest = 0;
  let within = floating;
  for (const [i, element] of (a ?? []).entries()) {
    const other = b?.[i];
    if (Object.is(element, other) || element === other) continue;
    const [x, y] = [Number(element), Number(other)];
    // Two integers that one number stands for are still two integers.
    const difference = typeof element === "bigint" ? Math.max(1, Math.abs(x - y)) : Math.abs(x - y);
    largest = Math.max(largest, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
    const allowed = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * Math.max(Math.abs(x), Math.abs(y));
    // An infinity allows an infinite difference, and is none the less another value.
    if (!Number.isFinite(difference) || difference > allowed) within = false;
  }
  return { name, equal: equality === "tolerance" && within, largest: String(Number(largest.toPrecision(6))) };
}
