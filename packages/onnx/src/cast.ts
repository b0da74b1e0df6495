import { AssayError } from "@assay/core";
import type { ReadLimits } from "./limits.ts";
import type { OnnxGraph, OnnxModel, OnnxValueInfo } from "./model.ts";
import { canonicalDomain } from "./model.ts";
import { readModel } from "./read.ts";
import { BFLOAT16, FLOAT } from "./types.ts";
import { DEFAULT_READ_LIMITS } from "./limits.ts";
import type { Field } from "./wire.ts";
import { readString } from "./wire.ts";
import type { Chunks } from "./write.ts";
import { joinChunks, messageField, rewriteGraph, rewriteMessage, stringField, varintField } from "./write.ts";

export type CastResult = {
  /** The model to give to the engine; the very input when nothing had to change. */
  readonly bytes: Uint8Array;
  /** One entry per value whose type at the boundary changed, in the graph's order, inputs first: `x: BF16->FP32`. */
  readonly casts: readonly string[];
  /** Names of the inputs and outputs that are FP32 now. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
};

/** First opset whose Cast knows bfloat16. */
const CAST_OPSET = 13;
const INT_ATTRIBUTE = 2;

/**
 * Gives a model whose BFLOAT16 graph inputs and outputs are FLOAT, with Cast nodes at the boundary, because the
 * engines' JavaScript interfaces cannot carry bfloat16. Names at the boundary stay; inside, the values are renamed.
 * The result is deterministic, and exact: every bfloat16 is a float32, and casting one back rounds nothing.
 * Fields that are not concerned keep their bytes; weights are never re-encoded.
 *
 * An optional input (one that an initialiser backs) stays as it is, since its default is stored as bfloat16.
 * Throws what {@link readModel} throws, and `onnx_cast_unsupported` for a model whose opset has no such Cast.
 */
export function castBoundary(bytes: Uint8Array, limits: Partial<ReadLimits> = {}): CastResult {
  const model = readModel(bytes, limits);
  const backed = new Set(model.graph.initializers.map((tensor) => tensor.name));
  const inputs = model.graph.inputs.filter((info) => isBfloat16(info) && !backed.has(info.name)).map((i) => i.name);
  const outputs = model.graph.outputs.filter(isBfloat16).map((info) => info.name);
  if (inputs.length === 0 && outputs.length === 0) return { bytes, casts: [], inputs, outputs };
  const opset = model.opsets.find((entry) => canonicalDomain(entry.domain) === "ai.onnx")?.version ?? 0;
  if (opset < CAST_OPSET) {
    throw new AssayError("onnx_cast_unsupported", `A model of opset ${opset} cannot cast BFLOAT16 at its boundary.`, {
      hints: [`Cast knows BFLOAT16 from opset ${CAST_OPSET} on.`],
    });
  }
  const fresh = freshNames(model);
  const renamed = new Map<string, string>();
  for (const name of [...inputs, ...outputs]) if (!renamed.has(name)) renamed.set(name, fresh.value(name));
  const first = inputs.flatMap((name) =>
    castNode(fresh.node(`assay_cast_in_${name}`), name, renamed.get(name) ?? name, BFLOAT16),
  );
  // A graph may hand an input straight out; then the name is defined at the boundary already and nothing produces it.
  const produced = outputs.filter((name) => !inputs.includes(name));
  const last = produced.flatMap((name) =>
    castNode(fresh.node(`assay_cast_out_${name}`), renamed.get(name) ?? name, name, FLOAT),
  );
  const rewriter = graphRewriter(bytes, limits);
  let started = false;
  const chunks = rewriteGraph(
    bytes,
    (field) => {
      if (field.number === 1) {
        const node = rewriter.node(field, renamed);
        if (started) return node;
        started = true;
        return [...first, ...node];
      }
      if (field.number === 11) return rewriter.boundary(field, new Set(inputs));
      if (field.number === 12) return rewriter.boundary(field, new Set(outputs));
      return rewriter.other(field, renamed);
    },
    last,
    limits,
  );
  const whole = started ? chunks : rewriteGraph(joinChunks(chunks), () => true, first, limits);
  return {
    bytes: joinChunks(whole),
    casts: [...inputs.map((name) => `${name}: BF16->FP32`), ...produced.map((name) => `${name}: BF16->FP32`)],
    inputs,
    outputs,
  };
}

function isBfloat16(info: OnnxValueInfo): boolean {
  return info.type.kind === "tensor" && info.type.elementType === BFLOAT16;
}

function castNode(name: string, from: string, to: string, elementType: number): Chunks {
  const attribute = [...stringField(1, "to"), ...varintField(3, elementType), ...varintField(20, INT_ATTRIBUTE)];
  return messageField(1, [
    ...stringField(1, from),
    ...stringField(2, to),
    ...stringField(3, name),
    ...stringField(4, "Cast"),
    ...messageField(5, attribute),
  ]);
}

/** Names that nothing in the model has yet: suffixes are counted up until they are free. */
function freshNames(model: OnnxModel): { value(base: string): string; node(base: string): string } {
  const values = new Set<string>();
  const nodes = new Set<string>();
  const walk = (graph: OnnxGraph): void => {
    for (const info of [...graph.inputs, ...graph.outputs, ...graph.valueInfos]) values.add(info.name);
    for (const tensor of graph.initializers) values.add(tensor.name);
    for (const sparse of graph.sparseInitializers) values.add(sparse.values?.name ?? "");
    for (const node of graph.nodes) {
      nodes.add(node.name);
      for (const name of node.inputs) values.add(name);
      for (const name of node.outputs) values.add(name);
      for (const attribute of node.attributes) attribute.graphs.forEach(walk);
    }
  };
  walk(model.graph);
  return { value: (base) => pick(values, `${base}__bf16`), node: (base) => pick(nodes, base) };
}

function pick(taken: Set<string>, base: string): string {
  let name = base;
  for (let i = 1; taken.has(name); i++) name = `${base}_${i}`;
  taken.add(name);
  return name;
}

type Names = ReadonlyMap<string, string>;

function graphRewriter(
  bytes: Uint8Array,
  limits: Partial<ReadLimits>,
): {
  node(field: Readonly<Field>, names: Names): Chunks;
  other(field: Readonly<Field>, names: Names): true | Chunks;
  boundary(field: Readonly<Field>, names: ReadonlySet<string>): true | Chunks;
} {
  const budget = { limits: { ...DEFAULT_READ_LIMITS, ...limits }, fields: 0, nodes: 0 };
  const rewrite = (field: Readonly<Field>, edit: (inner: Readonly<Field>) => boolean | Chunks): Chunks =>
    messageField(field.number, rewriteMessage(bytes, field.from, field.to, edit, [], limits));
  const rename = (field: Readonly<Field>, names: Names): true | Chunks => {
    const name = names.get(readString(bytes, field, budget));
    return name === undefined || stringField(field.number, name);
  };
  const nameOf = (field: Readonly<Field>, number: number): string => {
    let name = "";
    rewriteMessage(bytes, field.from, field.to, (inner) => {
      if (inner.number === number) name = readString(bytes, inner, budget);
      return true;
    });
    return name;
  };

  const node = (field: Readonly<Field>, names: Names): Chunks =>
    rewrite(field, (inner) => {
      if (inner.number === 1 || inner.number === 2) return rename(inner, names);
      if (inner.number !== 5) return true;
      return rewrite(inner, (part) => {
        if (part.number !== 6 && part.number !== 11) return true;
        const visible = unshadowed(part, names);
        return visible.size === 0 || rewrite(part, (deep) => subgraphField(deep, visible));
      });
    });
  const subgraphField = (field: Readonly<Field>, names: Names): true | Chunks =>
    field.number === 1 ? node(field, names) : other(field, names);
  // Names in an outer scope are visible inside a body unless the body defines them itself.
  const unshadowed = (graph: Readonly<Field>, names: Names): Names => {
    const visible = new Map(names);
    rewriteMessage(bytes, graph.from, graph.to, (field) => {
      if (field.number === 11) visible.delete(nameOf(field, 1));
      else if (field.number === 5) visible.delete(nameOf(field, 8));
      else if (field.number === 1) {
        rewriteMessage(bytes, field.from, field.to, (inner) => {
          if (inner.number === 2) visible.delete(readString(bytes, inner, budget));
          return true;
        });
      }
      return true;
    });
    return visible;
  };
  const other = (field: Readonly<Field>, names: Names): true | Chunks => {
    switch (field.number) {
      case 5:
        return renameIn(field, 8, names);
      case 12:
      case 13:
      case 14:
        return renameIn(field, 1, names);
      case 15:
        // The name of a sparse initialiser is the name of its values.
        return rewrite(field, (inner) => (inner.number === 1 ? renameIn(inner, 8, names) : true));
      default:
        return true;
    }
  };
  const renameIn = (field: Readonly<Field>, number: number, names: Names): true | Chunks =>
    !names.has(nameOf(field, number)) ||
    rewrite(field, (inner) => (inner.number === number ? rename(inner, names) : true));
  const boundary = (field: Readonly<Field>, names: ReadonlySet<string>): true | Chunks =>
    !names.has(nameOf(field, 1)) ||
    rewrite(
      field,
      (type) =>
        type.number !== 2 ||
        rewrite(
          type,
          (tensor) =>
            tensor.number !== 1 || rewrite(tensor, (elem) => (elem.number === 1 ? varintField(1, FLOAT) : true)),
        ),
    );
  return { node, other, boundary };
}
