import { castBoundary, checkModel } from "@assay/onnx";
import { isAssayError } from "@assay/core";

/** What a check of a model's structure says before any engine sees it. */
export type Inspection =
  | {
      /** Present when the model must not be loaded. */
      readonly refuse: { readonly code: "model_invalid" | "datatype_unsupported"; readonly reasons: readonly string[] };
    }
  | {
      readonly refuse?: undefined;
      /** The bytes to load: the model's own, or with casts added at its boundary. */
      readonly bytes: Uint8Array;
      /** The casts that were added, for people and receipts, for example `x: BF16->FP32`. */
      readonly casts: readonly string[];
      /** Names of inputs and of outputs that are BF16 in the model and FP32 in `bytes`. */
      readonly bf16: { readonly inputs: readonly string[]; readonly outputs: readonly string[] };
    };

/** Reasons passed on: enough to act on, few enough for an error's hints. */
const MAX_REASONS = 4;

/**
 * Judges a model whose weights are all inside it, and gives BF16 a boundary that the engines can carry. Types
 * narrower than a byte are refused here because an engine ends its whole process over them.
 */
export function inspectModel(model: Uint8Array): Inspection {
  const { accepted, findings } = checkModel(model);
  if (!accepted) {
    const refused = findings.filter((finding) => finding.severity === "refuse");
    const narrow = refused.every((finding) => finding.code === "low_bit_type");
    return {
      refuse: {
        code: narrow ? "datatype_unsupported" : "model_invalid",
        reasons: refused.slice(0, MAX_REASONS).map((finding) => `${finding.code}: ${finding.message}`),
      },
    };
  }
  try {
    const { bytes, casts, inputs, outputs } = castBoundary(model);
    return { bytes, casts, bf16: { inputs, outputs } };
  } catch (error) {
    if (!isAssayError(error)) throw error;
    return { refuse: { code: "datatype_unsupported", reasons: [error.message] } };
  }
}
