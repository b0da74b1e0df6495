export { createNode, timeOrderedId } from "./node.ts";
export type { ExecuteRequest, Execution, ExecutionNode, NodeModel, NodeModules } from "./node.ts";
export * from "./remote/index.ts";
export * from "./text/index.ts";
