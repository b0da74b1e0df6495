import { setTimeout as pause } from "node:timers/promises";
import type { RuntimeFacts, RuntimeProfile } from "@assay/protocol";
import { stack } from "./batch.ts";
import type { CheckedRequest } from "./check-request.ts";
import { count, decodeControl, encodeControl, list, text } from "./control.ts";
import type { JsonObject } from "./control.ts";
import { ortError, reportedCode } from "./errors.ts";
import { KIND } from "./frame.ts";
import { LaneDeath, startLane } from "./lane.ts";
import type { ChildFacts, Lane } from "./lane.ts";
import * as limits from "./limits.ts";
import type { ModelFile } from "./model-file.ts";
import type { Settings } from "./options.ts";
import { signatureFromJson } from "./signature.ts";
import type { Signature } from "./signature.ts";
import { decodeTensors, encodeTensors } from "./tensor-frame.ts";
import type { ReadTensor } from "./tensor-frame.ts";

/** What a child is asked to load. `key` names the content, whatever path it lies at. */
export type ModelSpec = {
  readonly key: string;
  readonly path: string;
  readonly sha256: string;
  readonly files: readonly ModelFile[];
};

/** A session that a child keeps warm. */
export type Warm = {
  readonly number: number;
  readonly signature: Signature;
  readonly facts: RuntimeFacts;
  readonly sessionBytes: number;
};

type SlotRun = { readonly outputs: readonly ReadTensor[]; readonly engineMs: number };

/** A place for one child at a time, which is started when there is work and started again after it died. */
export type Slot = {
  busy: boolean;
  has(key: string): boolean;
  /**
   * The model's session, loaded if need be, in a child started if need be. Throws what the child reports,
   * {@link LaneDeath}, or `runtime_unavailable` when no child will start.
   */
  session(model: ModelSpec): Promise<Warm>;
  probe(warm: Warm): Promise<boolean>;
  run(warm: Warm, requests: readonly CheckedRequest[]): Promise<SlotRun>;
  /** Releases sessions past the memory budget; ends the child when its memory stays above it all the same. */
  tidy(): Promise<void>;
  stats(): {
    readonly children: number;
    readonly sessions: number;
    readonly sessionBytes: number;
    readonly restarts: number;
  };
  /** Process id of the living child. */
  pid(): number | undefined;
  /** Ends the child, whatever it is doing, and waits for it to be gone. */
  end(): Promise<void>;
};

/** A failure that a child reported; after a fatal one the child is ended. */
function reported(message: JsonObject | undefined): Error {
  if (message === undefined) return new LaneDeath("protocol", "The child's report is not readable.");
  const hints = list(message["hints"]).map(text);
  return ortError(reportedCode(text(message["code"])), text(message["message"]), hints);
}

/** A slot of `profile`. Children are not started before there is work for them. */
export function createSlot(settings: Settings, profile: RuntimeProfile): Slot {
  /** Insertion order is order of use: the first is the least recently used. */
  const sessions = new Map<string, Warm>();
  const ending = new AbortController();
  let lane: Lane | undefined;
  let facts: ChildFacts | undefined;
  let starts = 0;
  let nextNumber = 1;
  /** Children in a row that died before they did any work. */
  let failures = 0;
  let useful = true;

  const note = (): void => {
    if (lane?.alive() !== false) return;
    lane = undefined;
    sessions.clear();
    failures = useful ? 0 : failures + 1;
  };

  const ensure = async (): Promise<Lane> => {
    note();
    for (let attempt = 0; lane === undefined; attempt++) {
      if (attempt >= settings.maxStartFailures) {
        throw ortError("runtime_unavailable", `No child for the ${profile} profile will start.`, [
          "The doctor command shows whether the engine's files are installed.",
        ]);
      }
      if (failures > 0) {
        const wait = Math.min(limits.BACKOFF_FIRST_MS * 2 ** (failures - 1), limits.BACKOFF_LONGEST_MS);
        await pause(wait, undefined, { signal: ending.signal }).catch(() => undefined);
      }
      if (ending.signal.aborted) throw new LaneDeath("ended", "The runtime is closing.");
      starts++;
      const fresh = startLane({
        childEntry: settings.childEntry,
        nodeArgs: settings.nodeArgs,
        profile,
        heapMib: limits.CHILD_HEAP_MIB,
        maxRssBytes: settings.maxRssBytes,
        maxFrameBytes: settings.maxFrameBytes,
        maxTensorBytes: settings.maxTensorBytes,
        maxTensorElements: settings.maxTensorElements,
        watchdogIntervalMs: limits.WATCHDOG_INTERVAL_MS,
        startTimeoutMs: settings.startTimeoutMs,
      });
      lane = fresh;
      useful = false;
      try {
        facts = await fresh.started;
      } catch {
        lane = undefined;
        failures++;
        if (ending.signal.aborted) throw new LaneDeath("ended", "The runtime is closing.");
      }
    }
    return lane;
  };

  const ask = async (kind: number, pieces: readonly Uint8Array[], timeoutMs: number, expected: number) => {
    if (lane === undefined) throw new LaneDeath("ended", "The process has ended.");
    const asked = lane;
    const reply = await asked.call(kind, pieces, timeoutMs);
    if (reply.kind === expected) {
      useful = true;
      return reply.body;
    }
    const message = reply.kind === KIND.failed ? decodeControl(reply.body) : undefined;
    if (message === undefined || message["fatal"] === true) {
      asked.kill("ended");
      await asked.gone;
    } else useful = true;
    throw reported(message);
  };

  const askControl = async (kind: number, message: JsonObject, timeoutMs: number, expected: number) => {
    const answer = decodeControl(await ask(kind, [encodeControl(message)], timeoutMs, expected));
    if (answer === undefined) {
      lane?.kill("protocol");
      throw new LaneDeath("protocol", "The child's answer is not readable.");
    }
    return answer;
  };

  const load = async (model: ModelSpec): Promise<Warm> => {
    const number = nextNumber++;
    const answer = await askControl(
      KIND.load,
      {
        session: number,
        path: model.path,
        sha256: model.sha256,
        files: model.files.map(({ path, sha256 }) => ({ path, sha256 })),
        maxModelBytes: settings.maxModelBytes,
      },
      settings.loadTimeoutMs,
      KIND.loaded,
    );
    const signature = signatureFromJson(answer);
    if (signature === undefined || facts === undefined) {
      lane?.kill("protocol");
      throw new LaneDeath("protocol", "The child's account of the model is not readable.");
    }
    if (lane !== undefined) lane.rssBytes = count(answer["rssBytes"]);
    const warm: Warm = {
      number,
      signature,
      sessionBytes: count(answer["sessionBytes"]),
      facts: { profile, ...facts, threads: 1, graphOptimization: "all", casts: list(answer["casts"]).map(text) },
    };
    sessions.set(model.key, warm);
    return warm;
  };

  const held = (): number => {
    let bytes = 0;
    for (const warm of sessions.values()) bytes += warm.sessionBytes;
    return bytes;
  };

  return {
    busy: false,
    has: (key) => sessions.has(key) && lane?.alive() === true,
    session: async (model) => {
      await ensure();
      const warm = sessions.get(model.key);
      if (warm === undefined) return await load(model);
      sessions.delete(model.key);
      sessions.set(model.key, warm);
      return warm;
    },
    probe: async (warm) => {
      const message = { session: warm.number, rowLimitMs: limits.PROBE_ROW_LIMIT_MS };
      return (await askControl(KIND.probe, message, settings.probeTimeoutMs, KIND.done))["invariant"] === true;
    },
    run: async (warm, requests) => {
      const pieces = encodeTensors(warm.number, 0, requests[0]?.outputs ?? [], stack(requests));
      const frame = decodeTensors(await ask(KIND.run, pieces, settings.runTimeoutMs, KIND.result));
      if (frame === undefined || frame.tensors.length !== requests[0]?.outputs.length) {
        lane?.kill("protocol");
        throw new LaneDeath("protocol", "The child's result is not readable.");
      }
      return { outputs: frame.tensors, engineMs: frame.first / 1000 };
    },
    tidy: async () => {
      note();
      let released = false;
      for (const [key, warm] of sessions) {
        const full = sessions.size > settings.maxSessions || held() > settings.sessionBytes;
        if (!full || sessions.size === 1) break;
        sessions.delete(key);
        const answer = await askControl(KIND.release, { session: warm.number }, settings.loadTimeoutMs, KIND.done);
        if (lane !== undefined) lane.rssBytes = count(answer["rssBytes"]);
        released = true;
      }
      // WebAssembly memory never shrinks, so the only way to give it back is to end the process that holds it.
      if (released && lane !== undefined && lane.rssBytes > settings.sessionBytes) {
        lane.kill("ended");
        await lane.gone;
        note();
      }
    },
    stats: () => {
      note();
      return {
        children: lane === undefined ? 0 : 1,
        sessions: sessions.size,
        sessionBytes: held(),
        restarts: Math.max(0, starts - 1),
      };
    },
    pid: () => (lane?.alive() === true ? lane.pid : undefined),
    end: async () => {
      ending.abort();
      lane?.kill("ended");
      await lane?.gone;
      sessions.clear();
    },
  };
}
