import { createHmac } from "node:crypto";
import { bytesToHex, isAssayError } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { ParsedText, Tensor, TextTarget } from "@assay/protocol";
import { PROFILE, commitFields, decodeClaims, tensorFields } from "@assay/receipts";
import type { ExecutionClaims, FieldValue, OpenMap } from "@assay/receipts";
import type { ServableModel } from "../infer.ts";
import type { Recorder } from "../recorder.ts";
import { compareTensors } from "./compare.ts";
import type { EqualityRule } from "./compare.ts";
import type { NodeRegistry } from "./registry.ts";

/** An execution with everything that running it again takes. It is kept in memory alone, and only until it was. */
export type AuditJob = {
  /** Digest of the execution statement, and who signed it. */
  readonly executionDigest: Uint8Array;
  readonly node: string;
  /** Deterministic CBOR of the execution claims, and their receipt's subject. */
  readonly claims: Uint8Array;
  readonly subject: string;
  readonly masterSalt: Uint8Array;
  readonly owner?: string;
  /** What the service statement gives: receipts with an audit in it are always audited. */
  readonly assurance: string;
  readonly work: TensorWork | TextWork;
};
export type TensorWork = {
  readonly kind: "tensor";
  readonly requestedName: string;
  readonly model: ServableModel;
  readonly inputs: readonly Tensor[];
  /** Outputs that were asked for, when not all; and what the node answered. */
  readonly outputs?: readonly string[];
  readonly answer: readonly Tensor[];
};
export type TextWork = {
  readonly kind: "text";
  readonly body: Uint8Array;
  readonly parsed: ParsedText;
  readonly target: TextTarget;
  readonly responseFields: readonly FieldValue[];
};

/** Tensors of a second run. `auditor` is the subject of whoever ran it; `execution` the digest of its own receipt. */
export type TensorAgain = {
  readonly auditor: string;
  readonly outputs: readonly Tensor[];
  /** Fingerprint of the auditor's engine, lower-case hex. */
  readonly cpuClass: string;
  readonly execution?: Uint8Array;
};
/** What a re-check of a text by one prefill pass found; differences are decimal texts, of logits. */
export type TextAgain = {
  readonly auditor: string;
  readonly agrees: boolean;
  readonly largestDifference: string;
  readonly tolerance: string;
  readonly execution?: Uint8Array;
};

export type AuditorModules = {
  readonly recorder: Pick<Recorder, "state">;
  readonly registry: Pick<NodeRegistry, "bySubject" | "audited" | "save">;
  readonly suite: Pick<CryptoSuite, "sha256">;
  readonly now: () => number;
  readonly random: (bytes: number) => Uint8Array;
  /** 32 bytes that decide the sample: no node can tell before it answers, or by trying, what will be audited. */
  readonly secret: Uint8Array;
  /**
   * Run the work on another node than `except`, or on this gateway's own runtime, tensors in the profile of the answer. Undefined when there is none that
   * could; an error is the auditor's failure and says nothing of the audited.
   */
  readonly tensor?: (
    work: TensorWork,
    except: string,
    signal: AbortSignal,
    profile: "portable" | "native",
  ) => Promise<TensorAgain | undefined>;
  readonly text?: (
    work: TextWork,
    claims: ExecutionClaims,
    except: string,
    signal: AbortSignal,
  ) => Promise<TextAgain | undefined>;
  readonly onError: (error: unknown) => void;
};

export type AuditorOptions = {
  /** Share of vanilla receipts that are audited, 0 to 1. */
  readonly share: number;
  /** Jobs and bytes that may wait; beyond them an audit is dropped, and counted. */
  readonly maxJobs?: number;
  readonly maxBytes?: number;
  /** Longest single re-execution, milliseconds. */
  readonly timeoutMs?: number;
  /** Native engines of different processors: how far apart their answers may be. */
  readonly tolerance?: { readonly relative: number; readonly absolute: number };
  /** How often an audit's statement is tried to be logged, and the pause between, milliseconds. */
  readonly tries?: number;
  readonly retryMs?: number;
};

export type AuditStats = {
  readonly queued: number;
  readonly dropped: number;
  readonly agreed: number;
  readonly disagreed: number;
  readonly impossible: number;
};

/** Audits by re-execution: what makes a vanilla receipt more than its signer's word. */
export type Auditor = {
  /** Whether this receipt is in the sample: ask before keeping anything of its request. */
  readonly wants: (receipt: {
    readonly executionDigest: Uint8Array;
    readonly mode: string;
    readonly assurance: string;
  }) => boolean;
  /** Queues an audit. False when it was dropped because too much waits. */
  readonly offer: (job: AuditJob) => boolean;
  readonly stats: () => AuditStats;
  /** Resolves when nothing waits or runs. */
  readonly idle: () => Promise<void>;
  /** Ends what runs and forgets what waits; a supplement that is being logged is finished. */
  readonly close: () => Promise<void>;
};

const MAX_JOBS = 256;
const MAX_BYTES = 256 * 1024 * 1024;
const TIMEOUT_MS = 5 * 60 * 1000;
const DEFAULT_TOLERANCE = { relative: 1e-3, absolute: 1e-5 };
const SAMPLE_SPACE = 2 ** 48;

/** The result of one audit, before it is stated. */
type Finding = {
  readonly result: "agree" | "disagree" | "impossible";
  readonly rule: string;
  readonly auditor?: string;
  readonly execution?: Uint8Array;
  readonly facts?: OpenMap;
};

/** Makes an auditor. It works on one job at a time, behind everybody who pays for an answer. */
export function createAuditor(modules: AuditorModules, options: AuditorOptions): Auditor {
  const { suite, now } = modules;
  const maxJobs = options.maxJobs ?? MAX_JOBS;
  const maxBytes = options.maxBytes ?? MAX_BYTES;
  const threshold = Math.round(Math.min(Math.max(options.share, 0), 1) * SAMPLE_SPACE);
  const tolerance = options.tolerance ?? DEFAULT_TOLERANCE;
  const stopping = new AbortController();
  const counts = { dropped: 0, agree: 0, disagree: 0, impossible: 0 };
  let queue: { readonly job: AuditJob; readonly bytes: number }[] = [];
  let queuedBytes = 0;
  let running: Promise<void> | undefined;

  const examine = async (job: AuditJob): Promise<Finding> => {
    const claims = decodeClaims("execution", job.claims);
    const profile = claims.runtime?.["profile"];
    const rule = typeof profile === "string" ? profile : "none";
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS)]);
    try {
      if (job.work.kind === "tensor" && (rule === "portable" || rule === "native"))
        return await tensors(job, job.work, claims, rule, signal);
      if (job.work.kind === "text" && rule === "llm") return await text(job, job.work, claims, signal);
    } catch (error) {
      if (stopping.signal.aborted) throw error;
      modules.onError(error);
      return impossible(rule, isAssayError(error) ? error.code : "audit failed");
    }
    return impossible(rule, "no rule");
  };

  const tensors = async (
    job: AuditJob,
    work: TensorWork,
    claims: ExecutionClaims,
    profile: "portable" | "native",
    signal: AbortSignal,
  ): Promise<Finding> => {
    const again = await modules.tensor?.(work, job.node, signal, profile);
    if (!again || again.auditor === job.node) return impossible(profile, "no other node");
    const cpuClass = claims.runtime?.["cpuClass"];
    const sameClass = cpuClass instanceof Uint8Array && bytesToHex(cpuClass) === again.cpuClass;
    const equality: EqualityRule =
      profile === "portable" || sameClass ? { kind: "bytes" } : { kind: "tolerance", ...tolerance };
    const { equal, largestDifference, compared } = compareTensors(work.answer, again.outputs, equality);
    const rule =
      profile === "portable" ? "portable-bytes" : sameClass ? "native-bytes-within-class" : "native-tolerance";
    return {
      result: equal ? "agree" : "disagree",
      rule,
      auditor: again.auditor,
      ...(again.execution ? { execution: again.execution } : {}),
      facts: {
        largestDifference: decimal(largestDifference),
        compared,
        // Under the receipt's own salts: equal to its response root exactly when the bytes are, and telling no more.
        responseRoot: commitFields(
          suite,
          job.masterSalt,
          "response",
          again.outputs.flatMap((tensor) => tensorFields("output", tensor)),
        ).root,
        ...(equality.kind === "tolerance"
          ? { relative: decimal(equality.relative), absolute: decimal(equality.absolute) }
          : {}),
      },
    };
  };

  const text = async (
    job: AuditJob,
    work: TextWork,
    claims: ExecutionClaims,
    signal: AbortSignal,
  ): Promise<Finding> => {
    const again = await modules.text?.(work, claims, job.node, signal);
    if (!again || again.auditor === job.node) return impossible("llm", "no other node");
    return {
      result: again.agrees ? "agree" : "disagree",
      rule: "llm-prefill",
      auditor: again.auditor,
      ...(again.execution ? { execution: again.execution } : {}),
      facts: { largestDifference: again.largestDifference, tolerance: again.tolerance },
    };
  };

  const state = async (job: AuditJob, finding: Finding): Promise<void> => {
    const issuedAtMs = now();
    const tries = options.tries ?? 5;
    for (let n = 1; ; n++) {
      try {
        await modules.recorder.state({
          kind: "supplement",
          subject: job.subject,
          issuedAtMs,
          visibility: "private",
          ...(job.owner === undefined ? {} : { owner: job.owner }),
          claims: {
            profile: PROFILE.supplement,
            supplementId: modules.random(16),
            refersTo: job.executionDigest,
            kind: "audit",
            issuedAtMs,
            body: {
              result: finding.result,
              rule: finding.rule,
              audited: job.node,
              ...(finding.auditor === undefined ? {} : { auditor: finding.auditor }),
              ...(finding.execution ? { execution: finding.execution } : {}),
              ...finding.facts,
            },
          },
        });
        return;
      } catch (error) {
        if (n >= tries || stopping.signal.aborted) throw error;
        await new Promise((resolve) => {
          setTimeout(resolve, options.retryMs ?? 1000).unref();
        });
      }
    }
  };

  const work = async (): Promise<void> => {
    // Whoever offered goes on first: this is never in anybody's way.
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    for (let next = queue.shift(); next && !stopping.signal.aborted; next = queue.shift()) {
      queuedBytes -= next.bytes;
      try {
        const finding = await examine(next.job);
        await state(next.job, finding);
        counts[finding.result]++;
        // A mark against a node stands on a statement that is in the log, never on one that got lost.
        const party = modules.registry.bySubject(next.job.node);
        if (party) {
          modules.registry.audited(party.key, finding.result);
          await modules.registry.save();
        }
      } catch (error) {
        if (!stopping.signal.aborted) {
          counts.dropped++;
          modules.onError(error);
        }
      }
    }
    running = undefined;
  };

  return {
    wants({ executionDigest, mode, assurance }) {
      if (mode !== "vanilla") return false;
      if (assurance === "vanilla+audit") return true;
      const place = createHmac("sha256", modules.secret).update(executionDigest).digest().readUIntBE(0, 6);
      return place < threshold;
    },
    offer(job) {
      const bytes = sizeOf(job);
      if (stopping.signal.aborted || queue.length >= maxJobs || queuedBytes + bytes > maxBytes) {
        counts.dropped++;
        return false;
      }
      queue.push({ job, bytes });
      queuedBytes += bytes;
      running ??= work();
      return true;
    },
    stats: () => ({
      queued: queue.length,
      dropped: counts.dropped,
      agreed: counts.agree,
      disagreed: counts.disagree,
      impossible: counts.impossible,
    }),
    idle: () => running ?? Promise.resolve(),
    async close() {
      stopping.abort();
      queue = [];
      queuedBytes = 0;
      await running;
    },
  };
}

function impossible(rule: string, reason: string): Finding {
  return { result: "impossible", rule, facts: { reason } };
}

/** A difference as the decimal text that stands in a statement, which holds no fractions. */
function decimal(value: number): string {
  return Number.isFinite(value) ? String(value) : "infinite";
}

function sizeOf({ work, claims }: AuditJob): number {
  const sum = (tensors: readonly Tensor[]): number => tensors.reduce((bytes, { data }) => bytes + data.length, 0);
  if (work.kind === "tensor") return claims.length + sum(work.inputs) + sum(work.answer);
  return claims.length + work.body.length + work.responseFields.reduce((bytes, { value }) => bytes + value.length, 0);
}
