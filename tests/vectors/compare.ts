import { bytesElements, typedData } from "@assay/protocol";
import type { Tensor } from "@assay/protocol";
import { bfloat16ToFloat32, float16ToFloat32 } from "@assay/onnx";
import { equalBytes } from "@assay/core";

/** Tolerances of the ONNX backend suite. */
const RELATIVE = 1e-3;
const ABSOLUTE = 1e-7;

/** What keeps `actual` from being `expected`, or undefined. Floats may differ a little, everything else not at all. */
export function differenceOf(actual: Tensor, expected: Tensor): string | undefined {
  if (actual.datatype !== expected.datatype) return `${actual.datatype} where ${expected.datatype} is expected`;
  if (actual.shape.join() !== expected.shape.join())
    return `shape [${actual.shape.join()}] where [${expected.shape.join()}] is expected`;
  if (expected.datatype === "BYTES") {
    const got = bytesElements(actual);
    const wrong = bytesElements(expected).findIndex((element, i) => !equalBytes(element, got[i] ?? new Uint8Array()));
    return wrong < 0 ? undefined : `string ${wrong} differs`;
  }
  const numbers = floats(expected);
  if (!numbers) return equalBytes(actual.data, expected.data) ? undefined : "elements differ";
  const got = floats(actual) ?? [];
  for (const [i, want] of numbers.entries()) {
    const value = got[i] ?? 0;
    if (Object.is(value, want) || value === want || (Number.isNaN(value) && Number.isNaN(want))) continue;
    // An infinity would make the tolerance infinite too.
    const near = Number.isFinite(want) && Math.abs(value - want) <= ABSOLUTE + RELATIVE * Math.abs(want);
    if (!near) return `element ${i} is ${value}, not ${want}`;
  }
  return undefined;
}

function floats(tensor: Tensor): readonly number[] | undefined {
  const data = typedData(tensor);
  switch (tensor.datatype) {
    case "FP32":
    case "FP64":
      return Array.from(data as Float32Array | Float64Array);
    case "FP16":
      return Array.from(float16ToFloat32(data as Uint16Array));
    case "BF16":
      return Array.from(bfloat16ToFloat32(data as Uint16Array));
    default:
      return undefined;
  }
}
