import type { Dimension, OnnxType, OnnxValueInfo } from "./model.ts";
import type { Budget, Field } from "./wire.ts";
import {
  BYTES,
  eachField,
  expectWire,
  limitExceeded,
  malformed,
  onlyOnce,
  readInt32,
  readNumber,
  readString,
} from "./wire.ts";

const UNKNOWN: OnnxType = { kind: "unknown" };

/** Reads one ValueInfoProto: a name and its type. */
export function readValueInfo(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxValueInfo {
  expectWire(at, BYTES);
  let name = "";
  let type = UNKNOWN;
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1 && field.number !== 2) return;
    once(field);
    if (field.number === 1) name = readString(bytes, field, budget);
    else type = readType(bytes, field, budget, depth + 1);
  });
  return { name, type };
}

/** Reads one TypeProto. More than one of its alternatives is refused: parsers would keep different ones. */
export function readType(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxType {
  expectWire(at, BYTES);
  let type: OnnxType | undefined;
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1 && field.number !== 4 && field.number !== 5 && field.number !== 8 && field.number !== 9)
      return;
    if (type !== undefined) throw malformed("a type has more than one alternative");
    expectWire(field, BYTES);
    if (field.number === 1) type = readTensorType("tensor", bytes, field, budget, depth + 1);
    else if (field.number === 8) type = readTensorType("sparse_tensor", bytes, field, budget, depth + 1);
    else if (field.number === 5) type = readMap(bytes, field, budget, depth + 1);
    else type = readElement(field.number === 4 ? "sequence" : "optional", bytes, field, budget, depth + 1);
  });
  return type ?? UNKNOWN;
}

function readTensorType(
  kind: "tensor" | "sparse_tensor",
  bytes: Uint8Array,
  at: Field,
  budget: Budget,
  depth: number,
): OnnxType {
  let elementType = 0;
  let shape: Dimension[] | null = null;
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1 && field.number !== 2) return;
    once(field);
    if (field.number === 1) elementType = readInt32(bytes, field);
    else shape = readShape(bytes, field, budget, depth + 1);
  });
  return { kind, elementType, shape };
}

function readShape(bytes: Uint8Array, at: Field, budget: Budget, depth: number): Dimension[] {
  expectWire(at, BYTES);
  const shape: Dimension[] = [];
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1) return;
    if (shape.length === budget.limits.maxRank) throw limitExceeded("maxRank", budget.limits.maxRank);
    shape.push(readDimension(bytes, field, budget, depth + 1));
  });
  return shape;
}

function readDimension(bytes: Uint8Array, at: Field, budget: Budget, depth: number): Dimension {
  expectWire(at, BYTES);
  let dimension: Dimension = null;
  let seen = false;
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1 && field.number !== 2) return;
    if (seen) throw malformed("a dimension has more than one alternative");
    seen = true;
    if (field.number === 1) dimension = readNumber(bytes, field);
    else {
      const name = readString(bytes, field, budget);
      // Exporters write an empty name for an axis they know nothing about.
      dimension = name === "" ? null : name;
    }
  });
  return dimension;
}

function readMap(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxType {
  let keyType = 0;
  let value: OnnxType | undefined;
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1 && field.number !== 2) return;
    once(field);
    if (field.number === 1) keyType = readInt32(bytes, field);
    else value = readType(bytes, field, budget, depth + 1);
  });
  return { kind: "map", keyType, value };
}

function readElement(
  kind: "sequence" | "optional",
  bytes: Uint8Array,
  at: Field,
  budget: Budget,
  depth: number,
): OnnxType {
  let element: OnnxType | undefined;
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1) return;
    once(field);
    element = readType(bytes, field, budget, depth + 1);
  });
  return { kind, element };
}
