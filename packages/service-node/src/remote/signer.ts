import { AssayError } from "@assay/core";
import type { ChainHead, IssueItem, Issuer, Statement } from "@assay/receipts";
import type { Outbox } from "./outbox.ts";

/** Signs what this node executed, in order, and makes it durable before anybody sees it. */
export type NodeSigner = {
  readonly issuer: () => Issuer;
  /**
   * Signs an execution; resolves once its statement is in the outbox. Throws `outbox_full`, `signer_overloaded`,
   * `clock_changed` (the time stands outside the keyset), `keyset_expired`, and the outbox's failures.
   */
  readonly sign: (item: IssueItem) => Promise<Statement>;
  /** Refuses with `outbox_full` while too much waits for the log: asked before anything is executed. */
  readonly assertRoom: () => void;
  /** Waits for what is being signed, then refuses more. */
  readonly drain: () => Promise<void>;
};

export type NodeSignerModules = {
  readonly issuer: Issuer;
  readonly outbox: Outbox;
  /** Makes the next keyset's issuer from where the chain stands. */
  readonly rotate: (head: ChainHead) => Promise<Issuer>;
  /** Has the gateway log a keyset; rejects while it is away. Nothing is signed under one that it does not know. */
  readonly announce: (issuer: Issuer) => Promise<void>;
  readonly now: () => number;
  readonly onError?: (error: unknown) => void;
};

export type NodeSignerOptions = {
  /** Statements signed and flushed together at most. */
  readonly maxBatch?: number;
  /** Statements that may wait for their signature. */
  readonly maxPending?: number;
  /** How long before its end a keyset is replaced, milliseconds. */
  readonly rotateBeforeMs?: number;
  /** How long after a failed rotation the next is tried, milliseconds. */
  readonly rotateRetryMs?: number;
};

type Job = {
  readonly item: IssueItem;
  readonly done: (statement: Statement) => void;
  readonly failed: (error: unknown) => void;
};

/**
 * Makes a signer over an outbox. While one batch is being flushed the next gathers, as in the gateway's recorder: a
 * lone execution costs one signature and one flush, many at once hardly more.
 */
export function createNodeSigner(modules: NodeSignerModules, options: NodeSignerOptions = {}): NodeSigner {
  const { outbox, now } = modules;
  const maxBatch = options.maxBatch ?? 256;
  const maxPending = options.maxPending ?? 10_000;
  const rotateBeforeMs = options.rotateBeforeMs ?? 60 * 60 * 1000;
  const rotateRetryMs = options.rotateRetryMs ?? 10_000;
  let { issuer } = modules;
  let made: Issuer | undefined;
  let retryAtMs = 0;
  let queue: Job[] = [];
  let running = false;
  let closed = false;
  let idle: (() => void)[] = [];

  const run = async (): Promise<void> => {
    while (queue.length > 0) {
      const jobs = queue.slice(0, maxBatch);
      queue = queue.slice(jobs.length);
      let head = issuer.head();
      try {
        await renew();
        head = issuer.head();
        const { notBeforeMs, notAfterMs } = issuer.document;
        const fits = ({ item }: Job): boolean => item.issuedAtMs >= notBeforeMs && item.issuedAtMs <= notAfterMs;
        const dated = jobs.filter(fits);
        for (const job of jobs) if (!fits(job)) job.failed(clockChanged());
        if (dated.length > 0) await write(dated);
      } catch (error) {
        // What was signed never left this process, so its numbers are free again.
        issuer.rewind(head);
        for (const job of jobs) job.failed(error);
      }
    }
    running = false;
    for (const resolve of idle.splice(0)) resolve();
  };

  const write = async (jobs: readonly Job[]): Promise<void> => {
    const statements = issuer.issue(
      "execution",
      jobs.map(({ item }) => item),
    );
    const entries = statements.map(({ header, digest, envelope }, i) => ({
      seq: header.seq,
      digest,
      envelope,
      claims: jobs[i]?.item.claims ?? new Uint8Array(),
    }));
    await outbox.append(entries);
    for (const [i, { done }] of jobs.entries()) {
      const statement = statements[i];
      if (statement) done(statement);
    }
  };

  // While the gateway is away the old keyset serves to its end: that is why it is replaced long before.
  const renew = async (): Promise<void> => {
    const nowMs = now();
    const { notBeforeMs, notAfterMs } = issuer.document;
    if (nowMs <= notAfterMs - rotateBeforeMs && nowMs >= notBeforeMs) return;
    if (nowMs < retryAtMs && nowMs <= notAfterMs && nowMs >= notBeforeMs) return;
    try {
      const head = issuer.head();
      made ??= await modules.rotate(head);
      await outbox.mark({
        keyset: {
          bootSeq: made.document.bootSeq,
          keyset: made.keysetDigest,
          statement: made.keysetStatement.digest,
        },
      });
      await modules.announce(made);
      made.rewind(head);
      issuer = made;
      made = undefined;
    } catch (error) {
      retryAtMs = nowMs + rotateRetryMs;
      modules.onError?.(error);
      if (nowMs > notAfterMs) throw error;
    }
  };

  const assertRoom = (): void => {
    if (outbox.full()) {
      throw new AssayError("outbox_full", "Too many statements of this node wait for the log.", {
        hints: ["The gateway must be reachable again before this node takes new work."],
      });
    }
  };

  return {
    issuer: () => issuer,
    assertRoom,
    sign: (item) =>
      new Promise((resolve, reject) => {
        if (closed) {
          reject(new AssayError("node_draining", "The node is shutting down and takes no more work."));
          return;
        }
        if (queue.length >= maxPending) {
          reject(new AssayError("signer_overloaded", `${queue.length} executions wait for their signature.`));
          return;
        }
        queue.push({ item, done: resolve, failed: reject });
        if (running) return;
        running = true;
        setImmediate(() => void run());
      }),
    drain() {
      closed = true;
      return running ? new Promise((resolve) => idle.push(resolve)) : Promise.resolve();
    },
  };
}

function clockChanged(): AssayError<"clock_changed"> {
  return new AssayError("clock_changed", "This machine's clock was changed while the request was under way.", {
    hints: ["Send the request again: no receipt could be dated truthfully."],
  });
}
