/** Stable codes of {@link Finding}. */
export type FindingCode =
  | "onnx_malformed"
  | "onnx_limit_exceeded"
  | "onnx_graph_missing"
  | "ir_version_unsupported"
  | "opset_unsupported"
  | "opset_missing"
  | "opset_duplicate"
  | "opset_legacy"
  | "domain_refused"
  | "domain_unused"
  | "duplicate_name"
  | "node_name_duplicate"
  | "shape_invalid"
  | "subgraph_too_deep"
  | "low_bit_type"
  | "tensor_type_unknown"
  | "tensor_shape_invalid"
  | "tensor_too_large"
  | "tensor_size_mismatch"
  | "tensor_storage_ambiguous"
  | "tensors_too_large"
  | "external_data_malformed"
  | "external_data_path"
  | "external_data_missing"
  | "external_data_range"
  | "external_data_overlap"
  | "function_recursive"
  | "function_expansion"
  | "function_shadows_operator"
  | "control_flow"
  | "training_ignored";

export type Finding = {
  readonly code: FindingCode;
  /** `refuse`: must not be loaded. `warn`: people should know. */
  readonly severity: "refuse" | "warn";
  /** One sentence naming the thing concerned. */
  readonly message: string;
};

/** Findings listed per code: a hostile file could otherwise make the report as large as itself. */
export const MAX_FINDINGS_PER_CODE = 8;

/** Characters of an outside name that a message repeats. */
const MAX_QUOTED = 80;

/** Collects findings; a `refuse` is remembered even when its code's list is full. */
export class Findings {
  readonly list: Finding[] = [];
  refused = false;
  readonly #counts = new Map<FindingCode, number>();

  refuse(code: FindingCode, message: string): void {
    this.refused = true;
    this.#add({ code, severity: "refuse", message });
  }

  warn(code: FindingCode, message: string): void {
    this.#add({ code, severity: "warn", message });
  }

  #add(finding: Finding): void {
    const count = this.#counts.get(finding.code) ?? 0;
    this.#counts.set(finding.code, count + 1);
    if (count < MAX_FINDINGS_PER_CODE) this.list.push(finding);
  }
}

/** A name from outside in quotes: escaped, so that it cannot forge lines of a log, and cut when long. */
export function quote(name: string): string {
  return JSON.stringify(name.length > MAX_QUOTED ? `${name.slice(0, MAX_QUOTED)}...` : name);
}
