export { createTextNode } from "./text-node.ts";
export type { TextNodeModules } from "./text-node.ts";
