import type { ModelRuntime } from "@assay/protocol";
import type { Hub } from "@assay/service-hub";

/**
 * The class of this machine's processor, lower-case hex, as receipts of the native profile state it. It takes a loaded
 * model to find out: the first one of tensors in the hub. Undefined when there is none.
 */
export async function findCpuClass(
  hub: Pick<Hub, "catalogue" | "facts" | "materialise">,
  runtime: Pick<ModelRuntime, "prepare">,
): Promise<string | undefined> {
  for (const name of hub.catalogue.names()) {
    const version = hub.catalogue.current(name);
    if (!version || (await hub.facts(version)).language) continue;
    const { path, sha256, files, manifestDigest } = await hub.materialise(version);
    const { facts } = await runtime.prepare({ path, sha256, files, manifestDigest, profile: "native" });
    return facts.cpuClass;
  }
  return undefined;
}
