import { AssayError } from "@assay/core";
import type { GraphProto, NodeProto } from "onnx-buf";
import { node } from "./onnx-build.ts";

/**
 * The nodes of `graph` with every `If` replaced by the branch that `decisions` names for its condition, in order.
 *
 * Worth doing where the conditions are settled beforehand (by a sampling rate, by a shape): ONNX Runtime 1.30
 * refuses to load nested `If` nodes with constant conditions inside a `Scan`, and the branch never taken is half
 * of the file. Throws `demo_model_changed` for a condition without a decision, or a branch with initialisers.
 */
export function flattenIfs(graph: GraphProto, decisions: ReadonlyMap<string, boolean>): NodeProto[] {
  const flat: NodeProto[] = [];
  for (const each of graph.node) {
    if (each.opType !== "If") {
      flat.push(each);
      continue;
    }
    const condition = each.input[0] ?? "";
    const taken = decisions.get(condition);
    if (taken === undefined) throw changed(`has an If on "${condition}" that no decision covers`);
    const branch = each.attribute.find(({ name }) => name === (taken ? "then_branch" : "else_branch"))?.g;
    if (branch === undefined || branch.output.length !== each.output.length || branch.initializer.length > 0)
      throw changed(`has an If on "${condition}" of an unexpected form`);
    flat.push(...flattenIfs(branch, decisions));
    each.output.forEach((name, index) => {
      flat.push(node("Identity", [branch.output[index]?.name ?? ""], [name]));
    });
  }
  return flat;
}

/** Of flat `nodes` in topological order, those that `outputs` need; what only a removed `If` asked for goes. */
export function liveNodes(nodes: readonly NodeProto[], outputs: readonly string[]): NodeProto[] {
  const wanted = new Set(outputs);
  const live: NodeProto[] = [];
  for (const each of nodes.toReversed()) {
    if (!each.output.some((name) => wanted.has(name))) continue;
    for (const name of each.input) wanted.add(name);
    live.push(each);
  }
  return live.toReversed();
}

function changed(what: string): AssayError<"demo_model_changed"> {
  return new AssayError("demo_model_changed", `The source graph ${what}.`);
}
