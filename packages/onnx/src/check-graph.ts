import type { CheckLimits } from "./check.ts";
import type { Findings } from "./findings.ts";
import { quote } from "./findings.ts";
import type { OnnxGraph, OnnxType, OnnxValueInfo } from "./model.ts";
import { describeType } from "./signature.ts";
import { elementTypeName, isKnownElementType, isLowBit } from "./types.ts";

/**
 * Checks names, declared types and nesting of a graph and its subgraphs. Gives the depth of nesting: 0 for a graph
 * without subgraphs.
 */
export function checkGraph(graph: OnnxGraph, findings: Findings, limits: CheckLimits, level = 0): number {
  if (level > limits.maxSubgraphDepth) {
    findings.refuse("subgraph_too_deep", `Subgraphs nest deeper than ${limits.maxSubgraphDepth}.`);
    return level;
  }
  checkNames(graph, findings);
  for (const info of graph.inputs) checkInfo(info, findings);
  for (const info of graph.outputs) checkInfo(info, findings);
  for (const info of graph.valueInfos) checkInfo(info, findings);
  let deepest = level;
  for (const node of graph.nodes) {
    for (const attribute of node.attributes) {
      for (const type of attribute.types) checkType(type, `attribute of node ${quote(node.name)}`, findings);
      for (const body of attribute.graphs) deepest = Math.max(deepest, checkGraph(body, findings, limits, level + 1));
    }
  }
  return deepest;
}

/** Every value has one definition in its scope (single static assignment, ONNX IR "Graphs"). */
function checkNames(graph: OnnxGraph, findings: Findings): void {
  const where = quote(graph.name);
  const inputs = new Set<string>();
  for (const { name } of graph.inputs) define(inputs, name, "input");
  const initializers = new Set<string>();
  for (const { name } of graph.initializers) define(initializers, name, "initialiser");
  for (const { values } of graph.sparseInitializers) define(initializers, values?.name ?? "", "initialiser");
  // An initialiser may back an input of its name; a node's output may be neither.
  const defined = new Set([...inputs, ...initializers]);
  const nodeNames = new Set<string>();
  for (const node of graph.nodes) {
    for (const name of node.outputs) if (name !== "") define(defined, name, "node output");
    if (node.name === "") continue;
    if (nodeNames.has(node.name))
      findings.warn("node_name_duplicate", `In graph ${where}, two nodes are named ${quote(node.name)}.`);
    nodeNames.add(node.name);
  }
  const outputs = new Set<string>();
  for (const { name } of graph.outputs) define(outputs, name, "output");

  function define(scope: Set<string>, name: string, what: string): void {
    if (name === "") findings.refuse("duplicate_name", `In graph ${where}, an ${what} has no name.`);
    else if (scope.has(name))
      findings.refuse("duplicate_name", `In graph ${where}, ${what} ${quote(name)} is defined more than once.`);
    scope.add(name);
  }
}

function checkInfo(info: OnnxValueInfo, findings: Findings): void {
  const what = `value ${quote(info.name)}`;
  checkType(info.type, what, findings);
}

function checkType(type: OnnxType, what: string, findings: Findings): void {
  switch (type.kind) {
    case "tensor":
    case "sparse_tensor":
      if (isLowBit(type.elementType))
        findings.refuse("low_bit_type", `The ${what} has type ${describeType(type)}, on which the engines abort.`);
      // Zero means the exporter left the type to inference.
      else if (type.elementType !== 0 && !isKnownElementType(type.elementType))
        findings.refuse("tensor_type_unknown", `The ${what} has type ${elementTypeName(type.elementType)}.`);
      for (const dimension of type.shape ?? []) {
        if (typeof dimension === "number" && (dimension < 0 || !Number.isSafeInteger(dimension)))
          findings.refuse("shape_invalid", `The ${what} declares an axis of size ${dimension}.`);
      }
      break;
    case "sequence":
    case "optional":
      if (type.element !== undefined) checkType(type.element, what, findings);
      break;
    case "map":
      if (type.value !== undefined) checkType(type.value, what, findings);
      break;
    case "unknown":
      break;
  }
}
