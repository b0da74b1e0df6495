/** Datatypes of the Open Inference Protocol v2 (section "Tensor Data Types"), with Triton's BF16. */
export type Datatype =
  | "BOOL"
  | "UINT8"
  | "UINT16"
  | "UINT32"
  | "UINT64"
  | "INT8"
  | "INT16"
  | "INT32"
  | "INT64"
  | "FP16"
  | "BF16"
  | "FP32"
  | "FP64"
  | "BYTES";

/**
 * A tensor as bytes. `data` is row-major and little-endian, one byte for BOOL; for BYTES each element is a
 * 4-byte little-endian length and its bytes (the binary tensor extension's form). These exact bytes are what
 * receipts commit to and what runtimes are fed.
 */
export type Tensor = {
  readonly name: string;
  readonly datatype: Datatype;
  /** Sizes per axis; `[]` is a scalar, a zero makes it empty. */
  readonly shape: readonly number[];
  readonly data: Uint8Array;
};
