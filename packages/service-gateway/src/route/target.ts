import { AssayError } from "@assay/core";
import type { LanguageModelFiles, TextExecutor, TextTarget } from "@assay/protocol";
import type { Placed } from "./candidates.ts";
import type { HubTextModel, RouterModules } from "./sources.ts";

/** Who is to be called for a candidate, and with which target. Undefined when its node has just left. */
export async function targetOf(
  { local, hub, nodeExecutor }: Pick<RouterModules, "local" | "hub" | "nodeExecutor">,
  { source, candidate }: Placed,
): Promise<{ readonly executor: TextExecutor; readonly target: TextTarget } | undefined> {
  const { engine, model, version, kinds, manifestDigest } = source;
  const filesOf = async (wanted: HubTextModel): Promise<LanguageModelFiles> => {
    const files = await hub.files(wanted);
    if (files.manifestDigest === wanted.manifestDigest) return files;
    throw new AssayError("model_digest_mismatch", `The files of ${model} on disk are of another version.`);
  };
  if (source.at === "hub") {
    const files = await filesOf(source.hub);
    const target = {
      engine,
      model: { name: model, files },
      modelName: model,
      modelVersion: String(source.hub.version),
    };
    return { executor: local.executor, target };
  }
  // A node has files of its own; ours say which version it is to run, and are what an audit runs again.
  const modelName = engine === "local" ? model : `${engine}/${model}`;
  const files =
    source.at === "node" && manifestDigest !== undefined && version !== undefined && hub.has(model)
      ? await filesOf({ name: model, version: Number(version), manifestDigest, kinds })
      : undefined;
  const target = {
    engine,
    model: { name: model, ...(files ? { files } : {}) },
    modelName,
    ...(version === undefined ? {} : { modelVersion: version }),
  };
  if (source.at === "upstream") return { executor: local.executor, target };
  const executor = nodeExecutor(candidate.node);
  return executor && { executor, target };
}
