import type { Logger } from "pino";
import type { LogSink } from "@assay/protocol";
import { describe } from "@assay/service-gateway";

/** How often the latest checkpoint is looked up: as often as one is made when nobody waits for it. */
const FOLLOW_MS = 2000;
const EMPTY_ROOT = new Uint8Array(32);

/** Keeps the root of the log's last published checkpoint at hand, for decisions that draw their chance from it. */
export function followRoots(
  log: Pick<LogSink, "checkpoint">,
  logger: Logger,
): { readonly latest: () => Uint8Array; readonly stop: () => Promise<void> } {
  let root: Uint8Array = EMPTY_ROOT;
  let looking: Promise<void> = Promise.resolve();
  const look = async (): Promise<void> => {
    try {
      ({ root } = await log.checkpoint());
    } catch (error) {
      // A log that is full or away is told of elsewhere; chance goes on from the last root that was seen.
      logger.debug({ err: describe(error) }, "checkpoint not read");
    }
  };
  looking = look();
  const timer = setInterval(() => {
    looking = look();
  }, FOLLOW_MS);
  timer.unref();
  return {
    latest: () => root,
    async stop() {
      clearInterval(timer);
      await looking;
    },
  };
}
