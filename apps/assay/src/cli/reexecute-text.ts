import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isAssayError } from "@assay/core";
import { nodeSuite } from "@assay/driver-crypto";
import { createLocalEngine, SAMPLER } from "@assay/driver-llm";
import { readModel } from "@assay/onnx";
import type { LanguageModelFiles } from "@assay/protocol";
import type { ReceiptView } from "@assay/receipts";
import { quantisesAtRunTime } from "@assay/service-hub";
import { checkText } from "../check-text.ts";
import { cliError } from "./render-error.ts";
import { printable } from "./style.ts";
import type { ExtraRow } from "./verdict-text.ts";
import type { World } from "./world.ts";

/**
 * Checks a language model's answer by one pass of prompt and answer through the model, at a few percent of what making
 * it cost. Throws `reexecution_impossible` and `opening_missing`.
 */
export async function reexecuteText(
  world: World,
  view: ReceiptView,
  model: () => Promise<LanguageModelFiles>,
): Promise<ExtraRow> {
  const { claims } = view.execution;
  const { kind, modelName = "", runtime = {} } = claims;
  if (kind !== "chat" && kind !== "completion")
    throw cliError("reexecution_impossible", `The receipt is of kind ${kind}.`);
  if (runtime["sampler"] !== SAMPLER) {
    const stated = typeof runtime["sampler"] === "string" ? printable(runtime["sampler"]) : "none";
    throw cliError("reexecution_impossible", `The receipt states the sampler ${stated}, and this checks ${SAMPLER}.`, {
      hints: ["Answers of ONNX models of the hub can be checked again token by token, those of llama.cpp cannot."],
    });
  }
  const fields = (side: "request" | "response") =>
    (view.bundle.openings ?? []).flatMap((opening) => (opening.side === side ? opening.fields : []));
  const opened = { kind, requestFields: fields("request"), responseFields: fields("response"), claims };
  const engine = createLocalEngine({ ...world.languageChild, children: 1 });
  try {
    const found = await checkText(
      engine,
      nodeSuite,
      opened,
      async () => ({ name: modelName, files: await recheckable(model) }),
      world.interrupt,
    );
    if ("problem" in found) {
      throw cliError("opening_missing", "The receipt does not disclose the answer's tokens.", {
        hints: ["The receipt that `assay chat` saved has them; whoever asked can give it to you."],
      });
    }
    return {
      check: "re-execution",
      status: found.agrees ? "pass" : "fail",
      code: found.agrees ? "reexecution_agrees" : "reexecution_differs",
      message: printable(found.message),
      facts: found.facts,
    };
  } catch (cause) {
    const told = isAssayError(cause) && (cause.code === "opening_missing" || TOLD.has(cause.code));
    if (!isAssayError(cause) || told || world.interrupt.aborted) throw cause;
    throw cliError("reexecution_impossible", `It could not be checked here: ${cause.message}`, { cause });
  } finally {
    await engine.close();
  }
}

/** The model's files, unless its graph computes something else in one pass than token by token. */
async function recheckable(model: () => Promise<LanguageModelFiles>): Promise<LanguageModelFiles> {
  const files = await model();
  const graph = await readFile(join(files.directory, ...files.entry.split("/")));
  if (!quantisesAtRunTime(readModel(graph).graph.nodes)) return files;
  throw cliError("reexecution_impossible", "The model quantises while it runs, so one pass gives other numbers.", {
    hints: ["Versions with weights in float32 can be checked token by token."],
  });
}

/** What is wrong with the model that was named is told as it is. */
const TOLD: ReadonlySet<string> = new Set([
  "model_mismatch",
  "model_files_invalid",
  "usage_invalid",
  "reexecution_impossible",
  "file_unreadable",
]);
