import { randomBytes } from "node:crypto";
import { AssayError } from "@assay/core";
import { openBlobStore } from "@assay/driver-blobs";
import type { BlobStore } from "@assay/protocol";
import { describe } from "@assay/service-gateway";
import { createHub, createReferences, openKeptBlobs } from "@assay/service-hub";
import type { Hub, KeptBlobs } from "@assay/service-hub";
import { hubFiles } from "./files.ts";
import type { Home } from "./home.ts";
import type { LogPlace } from "./log-place.ts";
import { replayRelease } from "./models.ts";
import { readThrough } from "./read-through.ts";
import type { Records } from "./records.ts";

/** How often uploads whose time is over are looked for. */
const SWEEP_BLOBS_MS = 60 * 60_000;
const FIRST_SWEEP_MS = 60_000;

/** Stored content; `kept` where uploads that were paid for are kept for their time alone. */
export type Content = BlobStore & { readonly kept?: KeptBlobs };

/**
 * Opens stored content: this disk's, and behind it what the gateway that owns the log has. Only that one removes anything:
 * a second gateway knows models a moment later.
 */
export async function openBlobs({ at }: Home, place: LogPlace): Promise<Content> {
  const stored = await openBlobStore({ directory: at("blobs") });
  if (place.fetchBlob) return readThrough(stored, place.fetchBlob);
  const kept = await openKeptBlobs(stored, at("blobs-until"));
  return { ...kept.store, kept };
}

/** Opens the models, as the log says that they were released. */
export async function openHub(
  { config, at, suite, now, logger, undo }: Home,
  { log }: LogPlace,
  { recorder, state }: Records,
  blobs: Content,
): Promise<Hub> {
  const { kept } = blobs;
  const hub = createHub({
    blobs,
    suite,
    ...(kept ? { holding: kept.holding } : {}),
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
  if (kept) {
    const isReferenced = createReferences({ catalogue: hub.catalogue, blobs, suite });
    const sweep = (): void =>
      void kept
        .sweep(now(), isReferenced)
        .catch((error: unknown) => logger.warn({ err: describe(error) }, "uploads not swept"));
    // The first one soon: who restarts every hour has uploads that end as well.
    const first = setTimeout(sweep, FIRST_SWEEP_MS).unref();
    const sweeper = setInterval(sweep, SWEEP_BLOBS_MS).unref();
    undo.push(() => {
      clearTimeout(first);
      clearInterval(sweeper);
    });
  }
  return hub;
}

function releasedElsewhere(url: string): AssayError<"release_elsewhere"> {
  return new AssayError("release_elsewhere", "Models are released at the gateway that owns the log.", {
    hints: [`Release it at ${url}; this one serves it a moment later.`],
  });
}
