import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { AssayError, isAssayError } from "@assay/core";
import type { Hex } from "@assay/x402";
import type { PreparedAnchor } from "../anchor/anchor.ts";
import type { ReceiptLeaf } from "../anchor/tree.ts";
import { createLink } from "./link.ts";
import type { Link } from "./link.ts";
import type { SettlerSettings } from "./options.ts";
import type { Refunded } from "./refunds.ts";
import type { SettlerEvent, SettlerStatus } from "./settler.ts";
import type { HostMethods } from "./wire.ts";

export type StartOptions = SettlerSettings & {
  /** Absolute path of the thread's program: a bundle of `settle/main.ts`, or that file itself, which tsx reads. */
  readonly entry: string;
  readonly nodeArgs?: readonly string[];
  /** Stores a batch's blob durably. */
  readonly putBlob: HostMethods["putBlob"];
  /** A stored blob by its SHA-256: batches that the database lost are put back from it. Nothing is there when absent. */
  readonly getBlob?: HostMethods["getBlob"];
  /** A checkpoint of the log of at least so many entries. */
  readonly checkpoint: HostMethods["checkpoint"];
  /** Logs that payments were settled, and answers where. The index of the log must have caught up by now. */
  readonly onSettled?: HostMethods["writeSupplements"];
  /** Has fixed and metered payments settled by somebody else; the settler settles them itself when absent. */
  readonly settleOutside?: HostMethods["settleOutside"];
  readonly onEvent?: (event: SettlerEvent | ThreadEvent) => void;
};

export type ThreadEvent =
  | { readonly type: "settler_died"; readonly error: string }
  | { readonly type: "settler_restarted" }
  | { readonly type: "settler_given_up" };

/** A settler in a thread of its own. */
export type Settler = {
  /** Settles a payment, or all that are due, without waiting for company. */
  readonly kick: (paymentId?: Hex) => void;
  /** Tells that payments became due: they are looked at now, and not when it is time to look. They wait for company as ever. */
  readonly wake: () => void;
  readonly status: () => Promise<SettlerStatus>;
  readonly payout: () => Promise<void>;
  /** Anchors whatever waits for its batch. */
  readonly anchor: () => Promise<void>;
  /** Anchors one receipt: resolves once its blob is stored and its transaction is signed and written down. */
  readonly prepareIndividual: (leaf: ReceiptLeaf) => Promise<PreparedAnchor>;
  readonly refund: (channelId: Hex, amountAtomic?: bigint) => Promise<Refunded>;
  /**
   * Ends the thread, does `work`, and starts the thread again, whatever became of the work: for what must not happen beside
   * a settler, a development chain begun anew, say (see `forgetChain`).
   */
  readonly paused: <T>(work: () => Promise<T>) => Promise<T>;
  /** Ends the thread; what is under way is finished by the next start. Idempotent. */
  readonly close: () => Promise<void>;
};

/** Restarts within a window before the thread is left down: one that dies at once would only burn the machine. */
const MAX_RESTARTS = 5;
const RESTART_WINDOW_MS = 60_000;
/** The thread's heap of new objects, which would keep the 48 MiB that its start takes: it collects them sooner instead. */
const MAX_YOUNG_MIB = 6;
/** How long an orderly end is waited for. Cutting it short loses nothing that the next start would not find. */
const CLOSE_GRACE_MS = 5_000;

/**
 * Starts a settler in a worker thread: signatures, encoding and polling stay off the thread that answers requests. Resolves
 * when it settles. A thread that dies is started again, at most {@link MAX_RESTARTS} times a minute, and goes on where it was.
 * Throws what the first start throws: `settler_running`, `settler_options_invalid`, database errors.
 */
export async function startSettler(options: StartOptions): Promise<Settler> {
  const { nodeArgs, putBlob, getBlob, checkpoint, onSettled, settleOutside, onEvent } = options;
  const settings: SettlerSettings = {
    databaseUrl: options.databaseUrl,
    rpcUrl: options.rpcUrl,
    deployments: options.deployments,
    keys: options.keys,
    options: options.options,
  };
  let closing: Promise<void> | undefined;
  let pausing = false;
  let current: { readonly worker: Worker; readonly link: Link } | undefined;
  const deaths: number[] = [];

  async function begin(): Promise<void> {
    const worker = new Worker(programOf(options.entry), {
      name: "assay-settler",
      // The thread needs no environment, and one that can be read shows nothing.
      env: {},
      ...(nodeArgs ? { execArgv: [...nodeArgs] } : {}),
      resourceLimits: { maxYoungGenerationSizeMb: MAX_YOUNG_MIB },
    });
    const methods: HostMethods = {
      putBlob,
      getBlob: getBlob ?? (() => Promise.resolve(undefined)),
      checkpoint,
      writeSupplements: onSettled ?? (() => Promise.resolve([])),
      settleOutside: settleOutside ?? (() => Promise.reject(new TypeError("Nobody else settles."))),
    };
    const link = createLink(
      {
        post: (message) => worker.postMessage(message, []),
        onMessage: (listener) => void worker.on("message", listener),
      },
      methods,
      { event: (event: SettlerEvent) => onEvent?.(event) },
    );
    let failure = "it ended";
    worker.on("error", (error) => {
      failure = error.message;
    });
    const gone = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
    void gone.then(() => link.sever());
    try {
      await link.call("start", {
        settings,
        supplements: onSettled !== undefined,
        outside: settleOutside !== undefined,
      });
    } catch (error) {
      await worker.terminate();
      if (!isAssayError(error) || error.code !== "settler_gone") throw error;
      throw new AssayError("settler_gone", `The settler's thread ended before it began: ${failure}.`);
    }
    current = { worker, link };
    void gone.then(() => {
      if (current?.worker === worker) current = undefined;
      if (!closing && !pausing) void revive(failure);
    });
  }

  async function revive(failure: string): Promise<void> {
    onEvent?.({ type: "settler_died", error: failure });
    const nowMs = Date.now();
    while (deaths[0] !== undefined && deaths[0] < nowMs - RESTART_WINDOW_MS) deaths.shift();
    deaths.push(nowMs);
    if (deaths.length > MAX_RESTARTS) {
      onEvent?.({ type: "settler_given_up" });
      return;
    }
    try {
      await begin();
      onEvent?.({ type: "settler_restarted" });
    } catch (error) {
      if (!closing) await revive(error instanceof Error ? error.message : "it did not start");
    }
  }

  function link(): Link {
    if (current) return current.link;
    throw new AssayError("settler_gone", "The settler is not running now.", {
      hints: ["Payments that are due stay due: it goes on with them when it is running again."],
    });
  }

  async function end(): Promise<void> {
    const running = current;
    if (!running) return;
    const grace = new AbortController();
    const timer = setTimeout(() => grace.abort(), CLOSE_GRACE_MS);
    await Promise.race([
      running.link.call("close").catch(() => undefined),
      new Promise((resolve) => grace.signal.addEventListener("abort", resolve)),
    ]);
    clearTimeout(timer);
    await running.worker.terminate();
    current = undefined;
  }

  await begin();
  return {
    kick: (paymentId) => current?.link.note("kick", paymentId),
    wake: () => current?.link.note("wake"),
    status: async () => (await link().call("status")) as SettlerStatus,
    payout: async () => void (await link().call("payout")),
    anchor: async () => void (await link().call("anchor")),
    prepareIndividual: async (leaf) => (await link().call("prepareIndividual", leaf)) as PreparedAnchor,
    refund: async (channelId, amountAtomic) =>
      (await link().call("refund", { channelId, ...(amountAtomic === undefined ? {} : { amountAtomic }) })) as Refunded,
    async paused(work) {
      pausing = true;
      try {
        await end();
        return await work();
      } finally {
        pausing = false;
        if (!closing) await begin();
      }
    },
    close() {
      closing ??= end();
      return closing;
    },
  };
}

/** A loader that a process was started with does not reach its threads, so a thread that runs from source gets its own. */
function programOf(entry: string): string | URL {
  if (!entry.endsWith(".ts")) return entry;
  const loader = new URL("esm/api/index.mjs", pathToFileURL(createRequire(entry).resolve("tsx"))).href;
  const source = `import { register } from ${JSON.stringify(loader)}; register(); await import(${JSON.stringify(pathToFileURL(entry).href)});`;
  return new URL(`data:text/javascript,${encodeURIComponent(source)}`);
}
