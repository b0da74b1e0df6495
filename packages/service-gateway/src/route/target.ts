import { AssayError } from "@assay/core";
import type { TextExecutor, TextTarget } from "@assay/protocol";
import type { Placed } from "./candidates.ts";
import type { RouterModules } from "./sources.ts";

/** Who is to be called for a candidate, and with which target. Undefined when its node has just left. */
export async function targetOf(
  { local, hub, nodeExecutor }: Pick<RouterModules, "local" | "hub" | "nodeExecutor">,
  { source, candidate }: Placed,
): Promise<{ readonly executor: TextExecutor; readonly target: TextTarget } | undefined> {
  const { engine, model, version } = source;
  if (source.at === "hub") {
    const files = await hub.files(source.hub);
    if (files.manifestDigest !== source.hub.manifestDigest)
      throw new AssayError("model_digest_mismatch", `The files of ${model} on disk are of another version.`);
    const target = {
      engine,
      model: { name: model, files },
      modelName: model,
      modelVersion: String(source.hub.version),
    };
    return { executor: local.executor, target };
  }
  // A node names what it runs by its own catalogue; files never travel with a request.
  const modelName = engine === "local" ? model : `${engine}/${model}`;
  const target = {
    engine,
    model: { name: model },
    modelName,
    ...(version === undefined ? {} : { modelVersion: version }),
  };
  if (source.at === "upstream") return { executor: local.executor, target };
  const executor = nodeExecutor(candidate.node);
  return executor && { executor, target };
}
