import { isAssayError } from "@assay/core";
import { checkFunctions, expandedNodeCount } from "./check-functions.ts";
import { checkGraph } from "./check-graph.ts";
import { checkTensors } from "./check-tensors.ts";
import type { Finding } from "./findings.ts";
import { Findings, quote } from "./findings.ts";
import type { ReadLimits } from "./limits.ts";
import type { OnnxModel, OnnxNode, OnnxOpset } from "./model.ts";
import { canonicalDomain } from "./model.ts";
import { readModel } from "./read.ts";

/** What a model may be to pass {@link checkModel}; defaults in {@link DEFAULT_CHECK_LIMITS}. */
export type CheckLimits = {
  readonly read: Partial<ReadLimits>;
  readonly minIrVersion: number;
  readonly maxIrVersion: number;
  /** Newest version per domain; a domain that is absent here is refused unless the model's own functions define it. */
  readonly domains: ReadonlyMap<string, number>;
  /** Most nodes after the model's functions are expanded at every call. */
  readonly maxExpandedNodes: number;
  /** Deepest nesting of If, Loop and Scan bodies. */
  readonly maxSubgraphDepth: number;
  /** Most elements of one tensor stored in the model. */
  readonly maxTensorElements: number;
  /** Most elements over all tensors stored in or beside the model. */
  readonly maxTotalElements: number;
  /** Files beside the model by path relative to it, with their sizes in bytes: where external data may lie. */
  readonly externalFiles: ReadonlyMap<string, number>;
};

export const DEFAULT_CHECK_LIMITS: CheckLimits = {
  read: {},
  // Versions 1 and 2 have no operator set imports, so what their operators mean is not written down.
  minIrVersion: 3,
  // What ONNX Runtime 1.30 loads, tried version by version.
  maxIrVersion: 13,
  domains: new Map([
    ["ai.onnx", 26],
    ["ai.onnx.ml", 5],
    ["com.microsoft", 1],
  ]),
  maxExpandedNodes: 500_000,
  // Two loops in a conditional is already rare; each level multiplies what a small file can make an engine do.
  maxSubgraphDepth: 8,
  // A float32 tensor of this many elements is 8 GiB.
  maxTensorElements: 2_147_483_648,
  maxTotalElements: 34_359_738_368,
  externalFiles: new Map(),
};

export type SafetyReport = {
  /** Whether no finding has severity `refuse`. */
  readonly accepted: boolean;
  readonly findings: readonly Finding[];
  /** Absent when the bytes could not be read as a model. */
  readonly facts?: SafetyFacts;
};

export type SafetyFacts = {
  readonly nodeCount: number;
  /** Nodes once every call of a model-local function is replaced by its body. */
  readonly expandedNodeCount: number;
  readonly functionCount: number;
  readonly subgraphDepth: number;
  readonly controlFlow: { readonly loop: number; readonly scan: number; readonly if: number };
  /** Elements over all tensors stored in or beside the model. */
  readonly storedElements: number;
  /** Paths of external data that the model refers to, sorted. */
  readonly externalPaths: readonly string[];
};

/**
 * Judges a model before an engine sees it. Never throws on hostile bytes: what is wrong comes back as findings with
 * stable codes, `refuse` for what must not be loaded and `warn` for what people should know. At most
 * {@link MAX_FINDINGS_PER_CODE} findings per code are listed.
 *
 * A model that passes can still be slow or fail to load; it cannot name files outside its own set, lie about the
 * size of its weights, ask for types on which the engines abort, or expand beyond the limits through its functions.
 */
export function checkModel(source: Uint8Array | OnnxModel, limits: Partial<CheckLimits> = {}): SafetyReport {
  const effective: CheckLimits = { ...DEFAULT_CHECK_LIMITS, ...limits };
  const findings = new Findings();
  let model: OnnxModel;
  try {
    model = source instanceof Uint8Array ? readModel(source, effective.read) : source;
  } catch (error) {
    if (!isAssayError(error)) throw error;
    findings.refuse(error.code as "onnx_malformed", error.message);
    return { accepted: false, findings: findings.list };
  }
  const ir = model.irVersion;
  if (!(ir >= effective.minIrVersion && ir <= effective.maxIrVersion)) {
    const range = `${effective.minIrVersion} to ${effective.maxIrVersion}`;
    findings.refuse("ir_version_unsupported", `IR version ${ir} is outside the supported range ${range}.`);
  }
  if (model.trainingInfoCount > 0)
    findings.warn("training_ignored", `${model.trainingInfoCount} training sections are ignored.`);

  const local = new Set(model.functions.map((f) => `${canonicalDomain(f.domain)}:${f.name}:${f.overload}`));
  checkOpsets(model.opsets, model.graph.nodes, "the model", local, effective, findings);
  const depths = [checkGraph(model.graph, findings, effective)];
  for (const fn of model.functions) {
    const where = `function ${quote(fn.name)}`;
    checkOpsets(fn.opsets, fn.nodes, where, local, effective, findings);
    depths.push(
      checkGraph(
        {
          name: fn.name,
          nodes: fn.nodes,
          initializers: [],
          sparseInitializers: [],
          inputs: fn.inputs.map((name) => ({ name, type: { kind: "unknown" } })),
          outputs: fn.outputs.map((name) => ({ name, type: { kind: "unknown" } })),
          valueInfos: fn.valueInfos,
        },
        findings,
        effective,
      ),
    );
  }
  checkFunctions(model, findings, effective);
  const stored = checkTensors(model, findings, effective);
  const controlFlow = { loop: 0, scan: 0, if: 0 };
  eachNode(model, (node) => {
    if (canonicalDomain(node.domain) !== "ai.onnx") return;
    if (node.opType === "Loop") controlFlow.loop++;
    else if (node.opType === "Scan") controlFlow.scan++;
    else if (node.opType === "If") controlFlow.if++;
  });
  if (controlFlow.loop + controlFlow.scan + controlFlow.if > 0) {
    const counts = `${controlFlow.loop} Loop, ${controlFlow.scan} Scan and ${controlFlow.if} If`;
    findings.warn("control_flow", `Run time depends on the input: ${counts} nodes.`);
  }
  return {
    accepted: !findings.refused,
    findings: findings.list,
    facts: {
      nodeCount: model.nodeCount,
      expandedNodeCount: expandedNodeCount(model),
      functionCount: model.functions.length,
      subgraphDepth: Math.max(...depths),
      controlFlow,
      storedElements: stored.elements,
      externalPaths: stored.externalPaths,
    },
  };
}

/** Visits every node of the graph, its subgraphs and the functions. */
function eachNode(model: OnnxModel, visit: (node: OnnxNode) => void): void {
  const walk = (nodes: readonly OnnxNode[]): void => {
    for (const node of nodes) {
      visit(node);
      for (const attribute of node.attributes) for (const graph of attribute.graphs) walk(graph.nodes);
    }
  };
  walk(model.graph.nodes);
  for (const fn of model.functions) {
    walk(fn.nodes);
    for (const attribute of fn.attributeDefaults) for (const graph of attribute.graphs) walk(graph.nodes);
  }
}

function checkOpsets(
  opsets: readonly OnnxOpset[],
  nodes: readonly OnnxNode[],
  where: string,
  local: ReadonlySet<string>,
  limits: CheckLimits,
  findings: Findings,
): void {
  const imported = new Map<string, number>();
  for (const opset of opsets) {
    const domain = canonicalDomain(opset.domain);
    if (imported.has(domain))
      findings.refuse("opset_duplicate", `In ${where}, domain ${quote(domain)} is imported twice.`);
    imported.set(domain, opset.version);
    const newest = limits.domains.get(domain);
    if (newest === undefined) continue;
    if (!(opset.version >= 1 && opset.version <= newest)) {
      const range = `1 to ${newest}`;
      findings.refuse(
        "opset_unsupported",
        `In ${where}, opset ${opset.version} of ${domain} is outside the supported range ${range}.`,
      );
    } else if (domain === "ai.onnx" && opset.version < 7)
      findings.warn("opset_legacy", `Opset ${opset.version} has operators that the engines no longer implement.`);
  }
  const used = new Set<string>();
  const walk = (list: readonly OnnxNode[]): void => {
    for (const node of list) {
      const domain = canonicalDomain(node.domain);
      used.add(domain);
      const isLocal = local.has(`${domain}:${node.opType}:${node.overload}`);
      if (!isLocal && !limits.domains.has(domain)) {
        const operator = `${quote(node.opType)} of domain ${quote(domain)}`;
        findings.refuse("domain_refused", `In ${where}, operator ${operator} is not allowed.`);
      } else if (!imported.has(domain))
        findings.refuse("opset_missing", `In ${where}, domain ${quote(domain)} is used but not imported.`);
      for (const attribute of node.attributes) for (const graph of attribute.graphs) walk(graph.nodes);
    }
  };
  walk(nodes);
  for (const domain of imported.keys()) {
    if (!limits.domains.has(domain) && !used.has(domain))
      findings.warn("domain_unused", `In ${where}, domain ${quote(domain)} is imported and never used.`);
  }
}
