import type { ElementType } from "./types.ts";

/** One axis: a fixed size, a symbolic name, or unknown. */
export type Dimension = number | string | null;

/** The type of a value. `tensor` carries its shape; `null` shape means even the rank is unknown. */
export type OnnxType =
  | {
      readonly kind: "tensor" | "sparse_tensor";
      readonly elementType: ElementType;
      readonly shape: readonly Dimension[] | null;
    }
  | { readonly kind: "sequence" | "optional"; readonly element: OnnxType | undefined }
  | { readonly kind: "map"; readonly keyType: ElementType; readonly value: OnnxType | undefined }
  | { readonly kind: "unknown" };

export type OnnxValueInfo = { readonly name: string; readonly type: OnnxType };

/** Where a tensor's elements are. Offsets are into the model's bytes; nothing is copied. */
export type OnnxStorage =
  | { readonly kind: "none" }
  | { readonly kind: "raw"; readonly offset: number; readonly length: number }
  /** `count` entries in the typed field named `field`, for example `int32_data`. */
  | { readonly kind: "typed"; readonly field: TypedField; readonly count: number }
  | { readonly kind: "external"; readonly entries: readonly OnnxEntry[] }
  /** More than one of the above: no two parsers need agree on the value. */
  | { readonly kind: "ambiguous" };

export type TypedField = "float_data" | "int32_data" | "string_data" | "int64_data" | "double_data" | "uint64_data";

export type OnnxTensor = {
  readonly name: string;
  readonly elementType: ElementType;
  /** Sizes per axis as written: may be negative or beyond 2^53 in a hostile file. */
  readonly dims: readonly number[];
  readonly storage: OnnxStorage;
};

export type OnnxSparseTensor = {
  readonly values: OnnxTensor | undefined;
  readonly indices: OnnxTensor | undefined;
  readonly dims: readonly number[];
};

export type OnnxEntry = { readonly key: string; readonly value: string };

export type OnnxAttribute = {
  readonly name: string;
  /** Number of `AttributeProto.AttributeType`; 0 when absent. */
  readonly type: number;
  /** Name of the function's attribute this one refers to, inside a function body. */
  readonly refName: string | undefined;
  readonly float: number | undefined;
  readonly int: bigint | undefined;
  /** A view on the model's bytes. */
  readonly bytes: Uint8Array | undefined;
  readonly ints: readonly number[];
  readonly graphs: readonly OnnxGraph[];
  readonly tensors: readonly OnnxTensor[];
  readonly sparseTensors: readonly OnnxSparseTensor[];
  readonly types: readonly OnnxType[];
};

export type OnnxNode = {
  readonly opType: string;
  /** As written; the empty string and `ai.onnx` are the same domain. */
  readonly domain: string;
  readonly overload: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: readonly OnnxAttribute[];
};

export type OnnxGraph = {
  readonly name: string;
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxTensor[];
  readonly sparseInitializers: readonly OnnxSparseTensor[];
  readonly inputs: readonly OnnxValueInfo[];
  readonly outputs: readonly OnnxValueInfo[];
  readonly valueInfos: readonly OnnxValueInfo[];
};

export type OnnxOpset = { readonly domain: string; readonly version: number };

export type OnnxFunction = {
  readonly name: string;
  readonly domain: string;
  readonly overload: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Attributes without a default, by name. */
  readonly attributeNames: readonly string[];
  /** Attributes with their default. */
  readonly attributeDefaults: readonly OnnxAttribute[];
  readonly nodes: readonly OnnxNode[];
  readonly opsets: readonly OnnxOpset[];
  readonly valueInfos: readonly OnnxValueInfo[];
};

/** The structure of a model file. It keeps `bytes` and refers into it: weights are never copied. */
export type OnnxModel = {
  readonly bytes: Uint8Array;
  readonly irVersion: number;
  readonly producerName: string;
  readonly producerVersion: string;
  readonly domain: string;
  readonly modelVersion: bigint;
  readonly opsets: readonly OnnxOpset[];
  readonly graph: OnnxGraph;
  readonly functions: readonly OnnxFunction[];
  readonly metadata: readonly OnnxEntry[];
  /** Training sections present; inference ignores them. */
  readonly trainingInfoCount: number;
  /** Nodes over the graph, its subgraphs and its functions. */
  readonly nodeCount: number;
};

/** The name under which a domain is known everywhere here: the empty domain is `ai.onnx`. */
export function canonicalDomain(domain: string): string {
  return domain === "" ? "ai.onnx" : domain;
}
