import type { CheckLimits } from "./check.ts";
import type { Findings } from "./findings.ts";
import { quote } from "./findings.ts";
import type { OnnxAttribute, OnnxFunction, OnnxModel, OnnxNode } from "./model.ts";
import { canonicalDomain } from "./model.ts";
import { elementTypeName, isLowBit } from "./types.ts";

/** Attributes whose integer is an element type: Cast's `to`, the random operators' `dtype`, QuantizeLinear's. */
const TYPE_ATTRIBUTES: ReadonlySet<string> = new Set([
  "to",
  "dtype",
  "output_dtype",
  "stash_type",
  "softmax_precision",
]);

type Call = Pick<OnnxNode, "domain" | "opType" | "overload">;
const callKey = (node: Call): string => `${canonicalDomain(node.domain)}:${node.opType}:${node.overload}`;
const functionKey = (fn: OnnxFunction): string => `${canonicalDomain(fn.domain)}:${fn.name}:${fn.overload}`;

/**
 * Checks the model's own functions (no duplicates, no recursion, no explosion when they are expanded, none that
 * replaces a standard operator) and every attribute that names a type the engines abort on, also where the type
 * reaches a Cast through a function's attribute.
 */
export function checkFunctions(model: OnnxModel, findings: Findings, limits: CheckLimits): void {
  const functions = new Map<string, OnnxFunction>();
  for (const fn of model.functions) {
    const key = functionKey(fn);
    if (functions.has(key)) findings.refuse("duplicate_name", `Function ${quote(fn.name)} is defined more than once.`);
    functions.set(key, fn);
    if (limits.domains.has(canonicalDomain(fn.domain))) {
      const domain = canonicalDomain(fn.domain);
      findings.refuse("function_shadows_operator", `Function ${quote(fn.name)} is defined in the domain ${domain}.`);
    }
  }
  const expansion = expand(model);
  const expanded = expansion.nodeCount;
  if (expanded === Infinity) findings.refuse("function_recursive", "The model's functions call themselves.");
  else if (expanded > limits.maxExpandedNodes) {
    const most = limits.maxExpandedNodes;
    findings.refuse("function_expansion", `With its functions expanded the model has more than ${most} nodes.`);
  }
  checkTypeAttributes(model, functions, expansion.order, findings);
}

/** Nodes of the graph once every function is replaced by its body; `Infinity` when functions call themselves. */
export function expandedNodeCount(model: OnnxModel): number {
  return expand(model).nodeCount;
}

type Expansion = {
  readonly nodeCount: number;
  /** Functions with every callee before its callers; those on a cycle of calls are missing. */
  readonly order: readonly [string, OnnxFunction][];
};

function expand(model: OnnxModel): Expansion {
  const functions = new Map(model.functions.map((fn) => [functionKey(fn), fn]));
  const sizes = new Map<string, number>();
  const sizeOf = (nodes: readonly OnnxNode[]): number => {
    let total = 0;
    visitNodes(nodes, (node) => {
      total += functions.has(callKey(node)) ? (sizes.get(callKey(node)) ?? Infinity) : 1;
    });
    return total;
  };
  const waiting = new Map<string, number>();
  const callers = new Map<string, string[]>();
  const ready: string[] = [];
  for (const [key, fn] of functions) {
    const callees = new Set<string>();
    visitNodes(fn.nodes, (node) => {
      if (functions.has(callKey(node))) callees.add(callKey(node));
    });
    waiting.set(key, callees.size);
    if (callees.size === 0) ready.push(key);
    for (const callee of callees) {
      const list = callers.get(callee);
      if (list === undefined) callers.set(callee, [key]);
      else list.push(key);
    }
  }
  const order: [string, OnnxFunction][] = [];
  for (let key = ready.pop(); key !== undefined; key = ready.pop()) {
    const fn = functions.get(key);
    if (fn === undefined) continue;
    order.push([key, fn]);
    sizes.set(key, sizeOf(fn.nodes));
    for (const caller of callers.get(key) ?? []) {
      const left = (waiting.get(caller) ?? 0) - 1;
      waiting.set(caller, left);
      if (left === 0) ready.push(caller);
    }
  }
  return { nodeCount: order.length < functions.size ? Infinity : sizeOf(model.graph.nodes), order };
}

function visitNodes(nodes: readonly OnnxNode[], visit: (node: OnnxNode) => void): void {
  for (const node of nodes) {
    visit(node);
    for (const attribute of node.attributes) for (const graph of attribute.graphs) visitNodes(graph.nodes, visit);
  }
}

function checkTypeAttributes(
  model: OnnxModel,
  functions: ReadonlyMap<string, OnnxFunction>,
  order: Expansion["order"],
  findings: Findings,
): void {
  // Per function, the attributes that end up as an element type. Callees come first, so that an attribute handed on
  // to another function is recognised in one pass; functions that call themselves were refused already.
  const typed = new Map<string, Set<string>>();
  const namesType = (node: OnnxNode, attribute: OnnxAttribute): boolean => {
    const called = functions.has(callKey(node)) ? typed.get(callKey(node)) : TYPE_ATTRIBUTES;
    return called?.has(attribute.name) ?? false;
  };
  for (const [key, fn] of order) {
    const names = new Set<string>();
    visitNodes(fn.nodes, (node) => {
      for (const attribute of node.attributes)
        if (attribute.refName !== undefined && namesType(node, attribute)) names.add(attribute.refName);
    });
    typed.set(key, names);
  }
  const check = (attribute: OnnxAttribute, what: string): void => {
    if (attribute.int === undefined || !isLowBit(Number(attribute.int))) return;
    const type = elementTypeName(Number(attribute.int));
    findings.refuse("low_bit_type", `${what} asks for type ${type}, on which the engines abort.`);
  };
  const visit = (node: OnnxNode): void => {
    for (const attribute of node.attributes)
      if (namesType(node, attribute)) check(attribute, `Node ${quote(node.name)} (${quote(node.opType)})`);
  };
  visitNodes(model.graph.nodes, visit);
  for (const fn of model.functions) {
    visitNodes(fn.nodes, visit);
    for (const attribute of fn.attributeDefaults)
      if (typed.get(functionKey(fn))?.has(attribute.name) ?? false)
        check(attribute, `A default of function ${quote(fn.name)}`);
  }
}
