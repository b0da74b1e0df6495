import { AssayError, bytesToHex } from "@assay/core";
import type { CryptoSuite, JsonValue } from "@assay/core";
import type { LocalEngine } from "@assay/driver-llm";
import { isDatatype } from "@assay/protocol";
import type { LanguageModelFiles, RuntimeProfile, Tensor } from "@assay/protocol";
import { decodeClaims, disclosed, viewReceipt } from "@assay/receipts";
import type { ReceiptView, Trust, Verdict } from "@assay/receipts";
import { compareTensors } from "@assay/service-gateway";
import type { ExecuteModel, ServableModel } from "@assay/service-gateway";
import { createVerifier } from "@assay/verifier";
import { checkText } from "../check-text.ts";

export type CheckingModules = {
  readonly suite: CryptoSuite;
  readonly trust: () => Trust;
  readonly now: () => number;
  /** How the node of this process runs tensors, and its engine for text. */
  readonly execute: ExecuteModel;
  readonly engine: Pick<LocalEngine, "recheck"> | undefined;
  /** A public version of the hub, on disk. Throws `model_not_found` and `version_not_found`. */
  readonly model: (name: string, version: number) => Promise<ServableModel>;
  /** All its files. */
  readonly files: (model: ServableModel) => Promise<LanguageModelFiles>;
  /** Whether answers of a version can be checked by one pass. */
  readonly recheckable: (manifestDigest: string) => Promise<boolean>;
};

/** What a gateway does with the receipts that somebody brings. */
export type Checking = {
  /** Its verdict on a bundle, by what this gateway trusts. */
  readonly verify: (bundle: Uint8Array) => Promise<JsonValue>;
  /**
   * Runs what an opened bundle states again, on a public model of this hub, and compares. Throws `opening_missing`,
   * `reexecution_impossible`, `model_mismatch` and the verdict's own code for a receipt that does not hold.
   */
  readonly audit: (bundle: Uint8Array, signal: AbortSignal) => Promise<JsonValue>;
};

/** Within what native engines of different processors agree: as far apart as audits let them be. */
const TOLERANCE = { kind: "tolerance", relative: 1e-3, absolute: 1e-5 } as const;

/** Makes the checks that a gateway sells. */
export function createChecking(modules: CheckingModules): Checking {
  const { suite, trust, now } = modules;
  const verdictOf = (bundle: Uint8Array): Promise<Verdict> => createVerifier({ trust: trust(), suite })(bundle, now());

  const tensors = async (view: ReceiptView, profile: RuntimeProfile, signal: AbortSignal): Promise<JsonValue> => {
    const { claims } = view.execution;
    const opened = disclosed(view).tensors;
    const side = (of: "request" | "response"): readonly Tensor[] =>
      opened.flatMap(({ side: which, name, datatype, shape, data }) =>
        which === of && isDatatype(datatype) ? [{ name, datatype, shape, data }] : [],
      );
    const [inputs, signed] = [side("request"), side("response")];
    if (inputs.length === 0 || signed.length === 0)
      throw new AssayError("opening_missing", "The receipt does not disclose the tensors that went in and came out.");
    const model = await modelOf(modules, view);
    const again = await modules.execute({
      requestedName: model.name,
      model,
      profile,
      inputs,
      outputs: signed.map(({ name }) => name),
      signal,
    });
    const stated = claims.runtime?.["cpuClass"];
    const here = decodeClaims("execution", again.claims).runtime?.["cpuClass"];
    const sameClass =
      stated instanceof Uint8Array && here instanceof Uint8Array && bytesToHex(stated) === bytesToHex(here);
    const exact = profile === "portable" || sameClass;
    const { equal, largestDifference, compared } = compareTensors(
      signed,
      again.outputs,
      exact ? { kind: "bytes" } : TOLERANCE,
    );
    return {
      result: equal ? "agree" : "disagree",
      rule: exact ? `${profile}-bytes` : "native-tolerance",
      compared,
      largestDifference: String(largestDifference),
    };
  };

  const text = async (view: ReceiptView, signal: AbortSignal): Promise<JsonValue> => {
    const { engine } = modules;
    const { claims } = view.execution;
    const { kind } = claims;
    const model = await modelOf(modules, view);
    if (!engine || (kind !== "chat" && kind !== "completion") || !(await modules.recheckable(model.manifestDigest)))
      throw impossible("no engine here can check this kind of answer in one pass");
    const fields = (side: "request" | "response") =>
      (view.bundle.openings ?? []).flatMap((opening) => (opening.side === side ? opening.fields : []));
    const found = await checkText(
      engine,
      suite,
      { kind, requestFields: fields("request"), responseFields: fields("response"), claims },
      async () => ({ name: model.name, files: await modules.files(model) }),
      signal,
    );
    if ("problem" in found)
      throw new AssayError("opening_missing", "The receipt does not disclose the answer's tokens.");
    const { agrees, message, largestDifference, tolerance } = found;
    return { result: agrees ? "agree" : "disagree", rule: "llm-prefill", message, largestDifference, tolerance };
  };

  return {
    async verify(bundle) {
      const { status, code, receiptId, executionDigest, checks, answers, proves, doesNotProve, residualTrust } =
        await verdictOf(bundle);
      return {
        status,
        code,
        receiptId,
        executionDigest,
        checks: checks.map((row) => ({ ...row, facts: { ...row.facts } })),
        answers: { ...answers },
        proves,
        doesNotProve,
        residualTrust: [...residualTrust],
      };
    },
    async audit(bundle, signal) {
      // A receipt that does not hold says nothing worth repeating: its model and its tensors may be anybody's.
      const verdict = await verdictOf(bundle);
      if (verdict.status === "failed") throw new AssayError(verdict.code, "The receipt does not hold.");
      const taken = viewReceipt(suite, bundle);
      if ("fault" in taken) throw new AssayError(taken.fault.code, taken.fault.message);
      const { view } = taken;
      const { claims } = view.execution;
      const profile = claims.runtime?.["profile"];
      if (claims.kind === "onnx" && (profile === "portable" || profile === "native"))
        return tensors(view, profile, signal);
      if (profile === "llm") return text(view, signal);
      throw impossible(`it is of kind ${claims.kind} and states a profile that is not run here`);
    },
  };
}

/** The very version that a receipt names. */
async function modelOf({ model }: CheckingModules, { execution }: ReceiptView): Promise<ServableModel> {
  const { modelName, modelVersion = "", modelDigest } = execution.claims;
  if (modelName === undefined || !modelDigest || !/^[1-9]\d{0,8}$/.test(modelVersion))
    throw impossible("it names no version of a hub's model");
  const found = await model(modelName, Number(modelVersion));
  if (found.manifestDigest === bytesToHex(modelDigest)) return found;
  throw new AssayError(
    "model_mismatch",
    `The receipt's ${modelName}@${modelVersion} is another model than this hub's.`,
  );
}

function impossible(why: string): AssayError<"reexecution_impossible"> {
  return new AssayError("reexecution_impossible", `The receipt cannot be run again here: ${why}.`, {
    hints: ["Receipts of public ONNX models, and of local language models that can be checked in one pass, can."],
  });
}
