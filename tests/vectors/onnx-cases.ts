import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { TensorProtoSchema } from "onnx-buf";
import type { TensorProto } from "onnx-buf";
import { canonicalDomain, describeType, readModel } from "@assay/onnx";
import type { OnnxModel, OnnxType } from "@assay/onnx";
import { elementSize, packBytesElements } from "@assay/protocol";
import type { Datatype, Tensor } from "@assay/protocol";

/** One case of the ONNX backend suite: a model, and sets of inputs with the outputs they must give. */
export type OnnxCase = {
  readonly name: string;
  readonly model: Uint8Array;
  /** Why the case cannot be put as tensors of the protocol, or undefined when it can. */
  readonly inexpressible: string | undefined;
  /** Whether the case is of opset 7 to 26 of the standard domains, none of them preview or training. */
  readonly counted: boolean;
  readonly sets: () => readonly { readonly inputs: readonly Tensor[]; readonly outputs: readonly Tensor[] }[];
};

const ARCHIVE = "onnx/node-tests-public.tar.xz";
/** Opsets whose operators the engines implement: 7 is the oldest they promise, 26 the newest they load. */
const OPSETS = { oldest: 7, newest: 26 } as const;

/** Datatypes by number of `TensorProto.DataType`. */
const DATATYPES: ReadonlyMap<number, Datatype> = new Map<number, Datatype>([
  [1, "FP32"],
  [2, "UINT8"],
  [3, "INT8"],
  [4, "UINT16"],
  [5, "INT16"],
  [6, "INT32"],
  [7, "INT64"],
  [8, "BYTES"],
  [9, "BOOL"],
  [10, "FP16"],
  [11, "FP64"],
  [12, "UINT32"],
  [13, "UINT64"],
  [16, "BF16"],
]);

/** Unpacks the archive under `vectors` into a temporary folder, which the caller removes. */
export function unpackCases(vectors: string | undefined): string {
  if (vectors === undefined || vectors === "") {
    throw new Error(`ASSAY_VECTORS is not set: it names the folder that holds ${ARCHIVE}.`);
  }
  const archive = join(vectors, ARCHIVE);
  if (!existsSync(archive)) throw new Error(`ASSAY_VECTORS is set, but there is no ${archive}.`);
  const folder = mkdtempSync(join(tmpdir(), "assay-onnx-cases-"));
  execFileSync("tar", ["-xJf", archive, "-C", folder], { stdio: ["ignore", "ignore", "inherit"] });
  return folder;
}

/** The cases of an unpacked archive, by name. */
export function readCases(folder: string): readonly OnnxCase[] {
  const root = join(folder, "node");
  return readdirSync(root)
    .toSorted()
    .map((name) => readCase(join(root, name), name));
}

function readCase(folder: string, name: string): OnnxCase {
  const bytes = new Uint8Array(readFileSync(join(folder, "model.onnx")));
  const model = readModel(bytes);
  const { inputs, outputs } = model.graph;
  const strange = [...inputs, ...outputs].map(({ type }) => reasonOf(type)).find((reason) => reason !== undefined);
  const read = (set: string, prefix: string, ports: readonly { readonly name: string }[]): Tensor[] =>
    ports.flatMap((port, i) => {
      const path = join(folder, set, `${prefix}_${i}.pb`);
      return existsSync(path) ? [tensorOf(fromBinary(TensorProtoSchema, readFileSync(path)), port.name)] : [];
    });
  return {
    name,
    model: bytes,
    inexpressible: strange,
    counted: isCounted(model),
    sets: () =>
      readdirSync(folder)
        .filter((entry) => entry.startsWith("test_data_set_"))
        .toSorted()
        .map((set) => ({ inputs: read(set, "input", inputs), outputs: read(set, "output", outputs) })),
  };
}

function reasonOf(type: OnnxType): string | undefined {
  if (type.kind === "tensor" && DATATYPES.has(type.elementType)) return undefined;
  return describeType(type);
}

function isCounted(model: OnnxModel): boolean {
  return model.opsets.every(({ domain, version }) => {
    const canonical = canonicalDomain(domain);
    if (canonical === "ai.onnx") return version >= OPSETS.oldest && version <= OPSETS.newest;
    return !/preview|training/.test(canonical);
  });
}

/** The protocol's tensor of a stored one. Low-bit and other types never come here: their cases are sorted out before. */
function tensorOf(proto: TensorProto, name: string): Tensor {
  const datatype = DATATYPES.get(proto.dataType ?? 0);
  if (datatype === undefined) throw new Error(`${name} has a type that tensors here cannot carry.`);
  const shape = proto.dims.map(Number);
  const data =
    datatype === "BYTES"
      ? packBytesElements(proto.stringData)
      : proto.rawData.length > 0
        ? new Uint8Array(proto.rawData)
        : typedBytes(proto, datatype);
  return { name, datatype, shape, data };
}

/** Little-endian bytes of the typed fields, which widen small types (onnx.proto, `TensorProto`). */
function typedBytes(proto: TensorProto, datatype: Datatype): Uint8Array {
  const size = elementSize(datatype);
  const bytesOf = (array: ArrayBufferView): Uint8Array =>
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  switch (datatype) {
    case "FP32":
      return bytesOf(Float32Array.from(proto.floatData));
    case "FP64":
      return bytesOf(Float64Array.from(proto.doubleData));
    case "INT64":
      return bytesOf(BigInt64Array.from(proto.int64Data));
    case "UINT64":
      return bytesOf(BigUint64Array.from(proto.uint64Data));
    case "UINT32":
      return bytesOf(Uint32Array.from(proto.uint64Data, Number));
    default: {
      const out = new Uint8Array(proto.int32Data.length * size);
      const view = new DataView(out.buffer);
      for (const [i, value] of proto.int32Data.entries()) {
        if (size === 1) view.setUint8(i, value & 0xff);
        else if (size === 2) view.setUint16(2 * i, value & 0xffff, true);
        else view.setInt32(4 * i, value, true);
      }
      return out;
    }
  }
}
