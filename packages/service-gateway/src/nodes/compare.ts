import type { Tensor } from "@assay/protocol";

/** How two answers are compared: bit for bit, or within a tolerance where engines are known to differ. */
export type EqualityRule =
  | { readonly kind: "bytes" }
  /** |a - b| at most `absolute + relative * |a|`, for every element that is a fraction; all others are bit for bit. */
  | { readonly kind: "tolerance"; readonly relative: number; readonly absolute: number };

export type Comparison = {
  readonly equal: boolean;
  /** Largest |a - b| of elements that are fractions; infinity where one is not a number and the other is. */
  readonly largestDifference: number;
  /** Elements of fractions that were compared. */
  readonly compared: number;
};

/** Compares tensors by name, datatype, shape and content. */
export function compareTensors(asked: readonly Tensor[], again: readonly Tensor[], rule: EqualityRule): Comparison {
  let equal = asked.length === again.length;
  let largestDifference = 0;
  let compared = 0;
  for (const tensor of asked) {
    const other = again.find(({ name }) => name === tensor.name);
    if (!other || other.datatype !== tensor.datatype || !sameShape(tensor.shape, other.shape)) {
      equal = false;
      continue;
    }
    const same = Buffer.from(tensor.data).equals(Buffer.from(other.data));
    const [a, b] = [fractions(tensor), fractions(other)];
    if (!a || !b || a.length !== b.length) {
      equal &&= same;
      continue;
    }
    compared += a.length;
    if (same) continue;
    if (rule.kind === "bytes") equal = false;
    for (let i = 0; i < a.length; i++) {
      const [x, y] = [a[i] ?? 0, b[i] ?? 0];
      const difference = Object.is(x, y) || x === y || (Number.isNaN(x) && Number.isNaN(y)) ? 0 : Math.abs(x - y);
      const apart = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
      if (apart > largestDifference) largestDifference = apart;
      // An infinity's own tolerance is infinite, and would make everything near it.
      const within = rule.kind === "tolerance" ? rule.absolute + rule.relative * Math.abs(x) : 0;
      if (apart > within || apart === Number.POSITIVE_INFINITY) equal = false;
    }
  }
  return { equal, largestDifference, compared };
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** Elements as numbers, for datatypes of fractions; undefined for the others. */
function fractions({ datatype, data }: Tensor): ArrayLike<number> | undefined {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const each = (bytes: number, read: (at: number) => number): Float64Array =>
    Float64Array.from({ length: Math.floor(data.length / bytes) }, (_, i) => read(i * bytes));
  switch (datatype) {
    case "FP64":
      return each(8, (at) => view.getFloat64(at, true));
    case "FP32":
      return each(4, (at) => view.getFloat32(at, true));
    case "FP16":
      return each(2, (at) => half(view.getUint16(at, true)));
    case "BF16":
      return each(2, (at) => bfloat(view.getUint16(at, true)));
    case "BOOL":
    case "BYTES":
    case "INT8":
    case "INT16":
    case "INT32":
    case "INT64":
    case "UINT8":
    case "UINT16":
    case "UINT32":
    case "UINT64":
      return undefined;
  }
}

/** IEEE 754 binary16. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function bfloat(bits: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bits << 16);
  return view.getFloat32(0);
}
