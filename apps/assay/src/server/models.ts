import { AssayError } from "@assay/core";
import type { LogSink } from "@assay/protocol";
import { decodeClaims } from "@assay/receipts";
import { decodeSidecar } from "@assay/service-gateway";
import type { createApi, ServableModel } from "@assay/service-gateway";
import { parseModelName } from "@assay/service-hub";
import type { Hub, MaterialisedModel, ModelVersion } from "@assay/service-hub";

/** Tells the hub of the release at `logIndex`. Throws `log_corrupt` when there is no record. */
export async function replayRelease(hub: Hub, log: LogSink, logIndex: number): Promise<void> {
  const record = await log.read(logIndex);
  if (!record) throw new AssayError("log_corrupt", `The release at log index ${logIndex} is missing.`);
  const [claims] = decodeSidecar(record.claims).claims;
  if (claims) hub.catalogue.apply(decodeClaims("release", claims), logIndex);
}

/** Resolves names on the hot path without awaiting the hub once a version is on disk. */
export function createServable(
  hub: Hub,
): (name: string, version: number | undefined, viewer: string | undefined) => Promise<ServableModel> {
  const onDisk = new Map<string, MaterialisedModel>();
  return async (text, version, viewer) => {
    const { name, version: named } = parseModelName(text);
    const found = hub.catalogue.resolve(name, version ?? named, seenBy(viewer));
    const key = `${found.name}@${found.version}`;
    const known = onDisk.get(key);
    if (known) return known;
    const model = await hub.materialise(found);
    onDisk.set(key, model);
    return model;
  };
}

/** Private versions are there for their owner alone. */
export function seenBy(viewer: string | undefined): (version: ModelVersion) => boolean {
  return ({ visibility, owner }) => visibility === "public" || owner === viewer;
}

/** The hub as the API asks for it. */
export function modelsModule(hub: Hub): Parameters<typeof createApi>[0]["models"] {
  const resolve = (text: string, viewer: string | undefined): ModelVersion => {
    const { name, version } = parseModelName(text);
    return hub.catalogue.resolve(name, version, seenBy(viewer));
  };
  return {
    resolve,
    versions: (name) => hub.catalogue.versions(name),
    list: (prefix) =>
      hub.catalogue
        .names()
        .filter((name) => name.startsWith(prefix))
        .flatMap((name) => hub.catalogue.current(name) ?? []),
    facts: (model) => hub.facts(hub.catalogue.resolve(model.name, model.version)),
    release: (request) => hub.release(request),
    change: (name, version, action, owner) => hub.change(name, version, action, owner),
  };
}
