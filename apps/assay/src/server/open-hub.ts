import { randomBytes } from "node:crypto";
import { AssayError } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import type { BlobStore } from "@assay/protocol";
import { createHub } from "@assay/service-hub";
import type { Hub } from "@assay/service-hub";
import { hubFiles } from "./files.ts";
import type { Home } from "./home.ts";
import type { LogPlace } from "./log-place.ts";
import { replayRelease } from "./models.ts";
import { readThrough } from "./read-through.ts";
import type { Records } from "./records.ts";

/** Opens stored content: this disk's, and behind it what the gateway that owns the log has. */
export async function openBlobs({ at }: Home, place: LogPlace): Promise<BlobStore> {
  const stored = await openBlobStore({ directory: at("blobs") });
  return place.fetchBlob ? readThrough(stored, place.fetchBlob) : stored;
}

/** Opens the models, as the log says that they were released. */
export async function openHub(
  { config, at, suite, now }: Home,
  { log }: LogPlace,
  { recorder, state }: Records,
  blobs: BlobStore,
): Promise<Hub> {
  const hub = createHub({
    blobs,
    suite,
    record: (claims, subject) => {
      if (config.peer) throw releasedElsewhere(config.peer.url);
      return recorder.state({
        kind: "release",
        claims,
        subject,
        issuedAtMs: claims.issuedAtMs,
        owner: claims.owner,
        visibility: claims.visibility,
      });
    },
    now,
    random: (bytes) => new Uint8Array(randomBytes(bytes)),
    files: hubFiles(at("models")),
  });
  for (const logIndex of state.releases()) await replayRelease(hub, log, logIndex);
  return hub;
}

function releasedElsewhere(url: string): AssayError<"release_elsewhere"> {
  return new AssayError("release_elsewhere", "Models are released at the gateway that owns the log.", {
    hints: [`Release it at ${url}; this one serves it a moment later.`],
  });
}
