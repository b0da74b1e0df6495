import { createSweep, describe, followLog } from "@assay/service-gateway";
import type { Hub } from "@assay/service-hub";
import type { Home } from "./home.ts";
import type { LogIndex } from "./log-index.ts";
import type { LogPlace } from "./log-place.ts";
import type { Records } from "./records.ts";
import { documentFile } from "./text.ts";
import { startWitnessing } from "./witnessing.ts";

const STATE_SAVE_MS = 5000;
/** How often answers are erased whose day is over. */
const SWEEP_ANSWERS_MS = 10 * 60_000;

/** Follows the log: one process for the database; a second gateway for what it keeps in memory. */
export function followTheLog(
  { suite, logger, undo }: Home,
  place: LogPlace,
  { state }: Records,
  index: LogIndex,
  hub: Hub,
): void {
  if (place.own) index.follow();
  else {
    const follower = followLog({
      log: place.log,
      suite,
      from: state.watermark(),
      async onRecords(decoded, next) {
        state.apply(decoded, next);
        for (const { release, logIndex } of decoded) if (release) hub.catalogue.apply(release, logIndex);
      },
      onError: (error) => logger.warn({ err: describe(error) }, "behind the log"),
    });
    undo.push(() => follower.stop());
  }
  undo.push(() => index.stop());
}

/** Has checkpoints cosigned, saves what the log says of its signers, and erases paid answers whose day is over. */
export function startUpkeep({ config, at, now, logger, undo }: Home, place: LogPlace, { state }: Records): void {
  const witnesses = config.witnesses ?? [];
  if (witnesses.length > 0 && place.own) {
    const witnessing = startWitnessing(place.own, witnesses, (url, error) =>
      logger.warn({ witness: url, err: describe(error) }, "checkpoint not cosigned"),
    );
    undo.push(() => witnessing.stop());
  }
  const saver = setInterval(
    () => void state.save().catch((error: unknown) => logger.warn({ err: describe(error) }, "log state not saved")),
    STATE_SAVE_MS,
  );
  saver.unref();
  undo.push(async () => {
    clearInterval(saver);
    await state.save();
  });
  if (!config.money || !place.own) return;
  const sweep = createSweep({ log: place.log, cursor: documentFile(at("answers-swept.json")) });
  const sweeper = setInterval(
    () => void sweep(now()).catch((error: unknown) => logger.warn({ err: describe(error) }, "answers not swept")),
    SWEEP_ANSWERS_MS,
  );
  sweeper.unref();
  undo.push(() => clearInterval(sweeper));
}
