import type {
  OnnxAttribute,
  OnnxEntry,
  OnnxFunction,
  OnnxGraph,
  OnnxModel,
  OnnxNode,
  OnnxOpset,
  OnnxSparseTensor,
} from "./model.ts";
import type { OnnxTensor, OnnxType, OnnxValueInfo } from "./model.ts";
import { AssayError } from "@assay/core";
import type { ReadLimits } from "./limits.ts";
import { DEFAULT_READ_LIMITS } from "./limits.ts";
import { readEntry, readSparseTensor, readTensor } from "./read-tensor.ts";
import { readType, readValueInfo } from "./read-type.ts";
import type { Budget, Field } from "./wire.ts";
import {
  BYTES,
  eachField,
  eachInt64,
  expectWire,
  limitExceeded,
  malformed,
  onlyOnce,
  readFloat32,
  readInt32,
  readInt64,
  readNumber,
  readString,
} from "./wire.ts";

/**
 * Reads the structure of an ONNX file (onnx.proto, IR version 13). Weights stay where they are: the result refers
 * into `bytes`, which must not change while it is in use. Never recurses or allocates beyond `limits`.
 *
 * Throws `onnx_malformed` for bytes that are not protobuf, break the schema's wire types, repeat a singular field
 * or hold text that is not UTF-8; `onnx_limit_exceeded` past a limit; `onnx_graph_missing` without a graph.
 * Unknown fields are skipped, as protobuf prescribes.
 */
export function readModel(bytes: Uint8Array, limits: Partial<ReadLimits> = {}): OnnxModel {
  const budget: Budget = { limits: { ...DEFAULT_READ_LIMITS, ...limits }, fields: 0, nodes: 0 };
  if (bytes.length > budget.limits.maxBytes) throw limitExceeded("maxBytes", budget.limits.maxBytes);
  const opsets: OnnxOpset[] = [];
  const functions: OnnxFunction[] = [];
  const metadata: OnnxEntry[] = [];
  let irVersion = 0;
  let producerName = "";
  let producerVersion = "";
  let domain = "";
  let modelVersion = 0n;
  let graph: OnnxGraph | undefined;
  let trainingInfoCount = 0;
  const once = onlyOnce();
  eachField(bytes, 0, bytes.length, budget, 1, (field) => {
    switch (field.number) {
      case 1:
        once(field);
        irVersion = readNumber(bytes, field);
        break;
      case 2:
        once(field);
        producerName = readString(bytes, field, budget);
        break;
      case 3:
        once(field);
        producerVersion = readString(bytes, field, budget);
        break;
      case 4:
        once(field);
        domain = readString(bytes, field, budget);
        break;
      case 5:
        once(field);
        modelVersion = readInt64(bytes, field);
        break;
      case 7:
        once(field);
        graph = readGraph(bytes, field, budget, 2);
        break;
      case 8:
        opsets.push(readOpset(bytes, field, budget, 2));
        break;
      case 14:
        metadata.push(readEntry(bytes, field, budget, 2));
        break;
      case 20:
        expectWire(field, BYTES);
        trainingInfoCount++;
        break;
      case 25:
        functions.push(readFunction(bytes, field, budget, 2));
        break;
      default:
        break;
    }
  });
  if (graph === undefined) throw new AssayError("onnx_graph_missing", "The model file holds no graph.");
  return {
    bytes,
    irVersion,
    producerName,
    producerVersion,
    domain,
    modelVersion,
    opsets,
    graph,
    functions,
    metadata,
    trainingInfoCount,
    nodeCount: budget.nodes,
  };
}

function readOpset(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxOpset {
  expectWire(at, BYTES);
  let domain = "";
  let version = 0;
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1 && field.number !== 2) return;
    once(field);
    if (field.number === 1) domain = readString(bytes, field, budget);
    else version = readNumber(bytes, field);
  });
  return { domain, version };
}

function readGraph(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxGraph {
  expectWire(at, BYTES);
  let name = "";
  const nodes: OnnxNode[] = [];
  const initializers: OnnxTensor[] = [];
  const sparseInitializers: OnnxSparseTensor[] = [];
  const inputs: OnnxValueInfo[] = [];
  const outputs: OnnxValueInfo[] = [];
  const valueInfos: OnnxValueInfo[] = [];
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    switch (field.number) {
      case 1:
        nodes.push(readNode(bytes, field, budget, depth + 1));
        break;
      case 2:
        once(field);
        name = readString(bytes, field, budget);
        break;
      case 5:
        initializers.push(readTensor(bytes, field, budget, depth + 1));
        break;
      case 11:
        inputs.push(readValueInfo(bytes, field, budget, depth + 1));
        break;
      case 12:
        outputs.push(readValueInfo(bytes, field, budget, depth + 1));
        break;
      case 13:
        valueInfos.push(readValueInfo(bytes, field, budget, depth + 1));
        break;
      case 15:
        sparseInitializers.push(readSparseTensor(bytes, field, budget, depth + 1));
        break;
      default:
        break;
    }
  });
  return { name, nodes, initializers, sparseInitializers, inputs, outputs, valueInfos };
}

function readNode(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxNode {
  expectWire(at, BYTES);
  if (++budget.nodes > budget.limits.maxNodes) throw limitExceeded("maxNodes", budget.limits.maxNodes);
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes: OnnxAttribute[] = [];
  let name = "";
  let opType = "";
  let domain = "";
  let overload = "";
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    switch (field.number) {
      case 1:
        inputs.push(readString(bytes, field, budget));
        break;
      case 2:
        outputs.push(readString(bytes, field, budget));
        break;
      case 3:
        once(field);
        name = readString(bytes, field, budget);
        break;
      case 4:
        once(field);
        opType = readString(bytes, field, budget);
        break;
      case 5:
        attributes.push(readAttribute(bytes, field, budget, depth + 1));
        break;
      case 7:
        once(field);
        domain = readString(bytes, field, budget);
        break;
      case 8:
        once(field);
        overload = readString(bytes, field, budget);
        break;
      default:
        break;
    }
  });
  if (opType === "") throw malformed("a node has no operator");
  return { opType, domain, overload, name, inputs, outputs, attributes };
}

function readAttribute(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxAttribute {
  expectWire(at, BYTES);
  let name = "";
  let type = 0;
  let refName: string | undefined;
  let float: number | undefined;
  let int: bigint | undefined;
  let text: Uint8Array | undefined;
  const ints: number[] = [];
  const graphs: OnnxGraph[] = [];
  const tensors: OnnxTensor[] = [];
  const sparseTensors: OnnxSparseTensor[] = [];
  const types: OnnxType[] = [];
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    switch (field.number) {
      case 1:
        once(field);
        name = readString(bytes, field, budget);
        break;
      case 2:
        once(field);
        float = readFloat32(bytes, field);
        break;
      case 3:
        once(field);
        int = readInt64(bytes, field);
        break;
      case 4:
        once(field);
        expectWire(field, BYTES);
        text = bytes.subarray(field.from, field.to);
        break;
      case 5:
        once(field);
        tensors.push(readTensor(bytes, field, budget, depth + 1));
        break;
      case 10:
        tensors.push(readTensor(bytes, field, budget, depth + 1));
        break;
      case 6:
        once(field);
        graphs.push(readGraph(bytes, field, budget, depth + 1));
        break;
      case 11:
        graphs.push(readGraph(bytes, field, budget, depth + 1));
        break;
      case 8:
        eachInt64(bytes, field, budget, (value) => ints.push(value));
        break;
      case 14:
        once(field);
        types.push(readType(bytes, field, budget, depth + 1));
        break;
      case 15:
        types.push(readType(bytes, field, budget, depth + 1));
        break;
      case 20:
        once(field);
        type = readInt32(bytes, field);
        break;
      case 21:
        once(field);
        refName = readString(bytes, field, budget);
        break;
      case 22:
        once(field);
        sparseTensors.push(readSparseTensor(bytes, field, budget, depth + 1));
        break;
      case 23:
        sparseTensors.push(readSparseTensor(bytes, field, budget, depth + 1));
        break;
      default:
        break;
    }
  });
  return { name, type, refName, float, int, bytes: text, ints, graphs, tensors, sparseTensors, types };
}

function readFunction(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxFunction {
  expectWire(at, BYTES);
  let name = "";
  let domain = "";
  let overload = "";
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributeNames: string[] = [];
  const attributeDefaults: OnnxAttribute[] = [];
  const nodes: OnnxNode[] = [];
  const opsets: OnnxOpset[] = [];
  const valueInfos: OnnxValueInfo[] = [];
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    switch (field.number) {
      case 1:
        once(field);
        name = readString(bytes, field, budget);
        break;
      case 4:
        inputs.push(readString(bytes, field, budget));
        break;
      case 5:
        outputs.push(readString(bytes, field, budget));
        break;
      case 6:
        attributeNames.push(readString(bytes, field, budget));
        break;
      case 7:
        nodes.push(readNode(bytes, field, budget, depth + 1));
        break;
      case 9:
        opsets.push(readOpset(bytes, field, budget, depth + 1));
        break;
      case 10:
        once(field);
        domain = readString(bytes, field, budget);
        break;
      case 11:
        attributeDefaults.push(readAttribute(bytes, field, budget, depth + 1));
        break;
      case 12:
        valueInfos.push(readValueInfo(bytes, field, budget, depth + 1));
        break;
      case 13:
        once(field);
        overload = readString(bytes, field, budget);
        break;
      default:
        break;
    }
  });
  return { name, domain, overload, inputs, outputs, attributeNames, attributeDefaults, nodes, opsets, valueInfos };
}
