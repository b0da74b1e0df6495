import type { OnnxEntry, OnnxSparseTensor, OnnxStorage, OnnxTensor, TypedField } from "./model.ts";
import type { Budget, Field } from "./wire.ts";
import {
  BYTES,
  countFixed,
  countVarints,
  eachField,
  eachInt64,
  expectWire,
  limitExceeded,
  onlyOnce,
  readInt32,
  readString,
} from "./wire.ts";

const TYPED: ReadonlyMap<number, TypedField> = new Map<number, TypedField>([
  [4, "float_data"],
  [5, "int32_data"],
  [6, "string_data"],
  [7, "int64_data"],
  [10, "double_data"],
  [11, "uint64_data"],
]);

/** Reads one TensorProto without touching its elements: only how many there are and where. */
export function readTensor(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxTensor {
  expectWire(at, BYTES);
  let name = "";
  let elementType = 0;
  let location = 0;
  const dims: number[] = [];
  const entries: OnnxEntry[] = [];
  let raw: { readonly offset: number; readonly length: number } | undefined;
  let typed: TypedField | undefined;
  let count = 0;
  let mixed = false;
  const once = onlyOnce();
  const add = (field: Field, elements: number): void => {
    const name = TYPED.get(field.number);
    if (typed !== undefined && typed !== name) mixed = true;
    typed = name;
    count += elements;
  };
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    switch (field.number) {
      case 1:
        eachInt64(bytes, field, budget, (value) => dims.push(value));
        if (dims.length > budget.limits.maxRank) throw limitExceeded("maxRank", budget.limits.maxRank);
        break;
      case 2:
        once(field);
        elementType = readInt32(bytes, field);
        break;
      case 4:
        add(field, countFixed(field, 4));
        break;
      case 5:
      case 7:
      case 11:
        add(field, countVarints(bytes, field));
        break;
      case 6:
        expectWire(field, BYTES);
        add(field, 1);
        break;
      case 8:
        once(field);
        name = readString(bytes, field, budget);
        break;
      case 9:
        once(field);
        expectWire(field, BYTES);
        raw = { offset: field.from, length: field.to - field.from };
        break;
      case 10:
        add(field, countFixed(field, 8));
        break;
      case 13:
        entries.push(readEntry(bytes, field, budget, depth + 1));
        break;
      case 14:
        once(field);
        location = readInt32(bytes, field);
        break;
      default:
        break;
    }
  });
  const inTyped = typed !== undefined && count > 0;
  const external = location === 1;
  let storage: OnnxStorage;
  if (mixed || (raw !== undefined && inTyped) || (external && (raw !== undefined || inTyped)))
    storage = { kind: "ambiguous" };
  else if (location !== 0 && !external) storage = { kind: "ambiguous" };
  else if (!external && entries.length > 0) storage = { kind: "ambiguous" };
  else if (external) storage = { kind: "external", entries };
  else if (raw !== undefined) storage = { kind: "raw", ...raw };
  else if (typed !== undefined && count > 0) storage = { kind: "typed", field: typed, count };
  else storage = { kind: "none" };
  return { name, elementType, dims, storage };
}

export function readSparseTensor(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxSparseTensor {
  expectWire(at, BYTES);
  let values: OnnxTensor | undefined;
  let indices: OnnxTensor | undefined;
  const dims: number[] = [];
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number === 1) {
      once(field);
      values = readTensor(bytes, field, budget, depth + 1);
    } else if (field.number === 2) {
      once(field);
      indices = readTensor(bytes, field, budget, depth + 1);
    } else if (field.number === 3) {
      eachInt64(bytes, field, budget, (value) => dims.push(value));
      if (dims.length > budget.limits.maxRank) throw limitExceeded("maxRank", budget.limits.maxRank);
    }
  });
  return { values, indices, dims };
}

/** Reads one StringStringEntryProto. */
export function readEntry(bytes: Uint8Array, at: Field, budget: Budget, depth: number): OnnxEntry {
  expectWire(at, BYTES);
  let key = "";
  let value = "";
  const once = onlyOnce();
  eachField(bytes, at.from, at.to, budget, depth, (field) => {
    if (field.number !== 1 && field.number !== 2) return;
    once(field);
    if (field.number === 1) key = readString(bytes, field, budget);
    else value = readString(bytes, field, budget, "maxTextBytes");
  });
  return { key, value };
}
