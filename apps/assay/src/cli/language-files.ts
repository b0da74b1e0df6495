import { cliError } from "./render-error.ts";

/** Beside the graph: what engines of language models read, and what people do. */
const BESIDE =
  /^(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json$|^chat_template\.jinja$|^(?:README|card)\.md$|^(?:LICENSE|NOTICE)[^/]*$/i;
/** Where exporters put the graph, best first. */
const USUAL_GRAPHS = ["onnx/model.onnx", "model.onnx"];
/**
 * Of the files of a language model those that are released: one graph with its external weights, and what belongs beside
 * it. Throws `model_files_invalid` when there is no graph, no telling which of several, or no tokenizer.
 */
export function languageFiles(
  paths: readonly string[],
  wanted: string | undefined,
  source: string,
): { readonly entry: string; readonly all: readonly string[] } {
  const graphs = paths.filter((path) => path.endsWith(".onnx"));
  const [only, ...others] = graphs;
  const entry =
    wanted ?? USUAL_GRAPHS.find((path) => graphs.includes(path)) ?? (others.length === 0 ? only : undefined);
  if (entry === undefined || !graphs.includes(entry)) {
    throw cliError(
      "model_files_invalid",
      wanted === undefined
        ? `${source} has ${graphs.length === 0 ? "no .onnx file" : `${graphs.length} .onnx files`}.`
        : `${source} has no file ${wanted}.`,
      { hints: graphs.length === 0 ? [] : [`Name one with --file: ${graphs.slice(0, 8).join(", ")}.`] },
    );
  }
  if (!paths.includes("tokenizer.json")) {
    throw cliError("model_files_invalid", `${source} has no tokenizer.json, so it is no language model.`, {
      hints: ["Release other models with `assay model push`."],
    });
  }
  const all = paths.filter(
    (path) => path === entry || path.startsWith(`${entry}_data`) || path === `${entry}.data` || BESIDE.test(path),
  );
  return { entry, all };
}
