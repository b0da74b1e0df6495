import type { Expression } from "./expression.ts";

/**
 * Ids of the nodes below `root` that some finite text matches. A rule that always needs itself again matches none, and
 * whoever stepped into it could never end.
 */
export function productiveNodes(root: Expression): ReadonlySet<number> {
  const order: Expression[] = [];
  const seen = new Set<number>();
  // Children before their parents, as far as there are no circles: one pass then settles most nodes.
  const todo: { readonly node: Expression; readonly done: boolean }[] = [{ node: root, done: false }];
  while (todo.length > 0) {
    const top = todo.pop();
    if (top === undefined) break;
    if (top.done) {
      order.push(top.node);
      continue;
    }
    if (seen.has(top.node.id)) continue;
    seen.add(top.node.id);
    todo.push({ node: top.node, done: true });
    for (const child of children(top.node)) todo.push({ node: child, done: false });
  }
  const productive = new Set<number>();
  for (let changed = true; changed;) {
    changed = false;
    for (const node of order) {
      if (productive.has(node.id) || !holds(node, productive)) continue;
      productive.add(node.id);
      changed = true;
    }
  }
  return productive;
}

function children(node: Expression): readonly Expression[] {
  if (node.kind === "sequence") return node.parts;
  if (node.kind === "choice") return node.options;
  if (node.kind === "repeat") return [node.part];
  return node.kind === "later" ? [node.get()] : [];
}

function holds(node: Expression, productive: ReadonlySet<number>): boolean {
  switch (node.kind) {
    case "never":
      return false;
    case "sequence":
      return node.parts.every((part) => productive.has(part.id));
    case "choice":
      return node.options.some((option) => productive.has(option.id));
    case "repeat":
      return node.min === 0 || productive.has(node.part.id);
    case "later":
      return productive.has(node.get().id);
    case "set":
      return node.set.some((word) => word !== 0);
    case "empty":
    case "bytes":
    case "until":
      return true;
  }
}
