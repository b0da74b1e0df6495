import type { Logger } from "pino";
import { bytesToHex } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import type { LocalEngine } from "@assay/driver-llm";
import type { RuntimeProfile } from "@assay/protocol";
import { decodeClaims, jsonFields, PROFILE } from "@assay/receipts";
import { createAuditor, describe, grantOf } from "@assay/service-gateway";
import type { Auditor, ExecuteModel, NodeNetwork, NodeRegistry, Recorder, TensorWork } from "@assay/service-gateway";
import { checkText } from "../check-text.ts";

/** Share of vanilla receipts that are executed again elsewhere when nobody says otherwise: one in fifty. */
export const DEFAULT_AUDIT_SHARE = 0.02;

export type AuditingModules = {
  readonly recorder: Recorder;
  readonly registry: NodeRegistry;
  readonly network: NodeNetwork;
  readonly suite: CryptoSuite;
  readonly now: () => number;
  readonly random: (bytes: number) => Uint8Array;
  readonly secret: Uint8Array;
  /** The node in this process: its subject, how it runs tensors, and its engine for text. */
  readonly localSubject: string;
  readonly local: ExecuteModel;
  readonly engine: LocalEngine | undefined;
  /** Whether answers of this version can be checked by one pass. */
  readonly recheckable: (manifestDigest: string) => Promise<boolean>;
  readonly logger: Logger;
};

/**
 * Has a share of vanilla receipts executed again by somebody else. What a remote node answered is run on this process's
 * own runtime, and what this one answered on a remote node that offers the model; both executions have receipts. Where
 * nobody else could do it, nothing is audited unless its assurance promised an audit.
 */
export function startAuditing(share: number, modules: AuditingModules): Auditor {
  const { registry, network, suite, localSubject, logger } = modules;

  /** Somebody other than `except` who offers this manifest for tensors. */
  const elsewhere = (manifestDigest: string, except: string): string | undefined =>
    registry
      .candidates()
      .find(
        (candidate) =>
          candidate.subject !== except &&
          candidate.draining !== true &&
          candidate.offers.some((offer) => offer.manifestDigest === manifestDigest && offer.kinds.includes("tensor")),
      )?.subject;

  const again = async (work: TensorWork, auditor: string, profile: RuntimeProfile, signal: AbortSignal) => {
    const run = auditor === localSubject ? modules.local : network.tensor(auditor);
    const done = await run({
      requestedName: work.requestedName,
      model: work.model,
      profile,
      inputs: work.inputs,
      ...(work.outputs ? { outputs: work.outputs } : {}),
      signal,
    });
    const recorded = await modules.recorder.record({
      receiptId: done.receiptId,
      subject: done.subject,
      issuedAtMs: done.issuedAtMs,
      claims: done.claims,
      ...(done.envelope ? { envelope: done.envelope } : {}),
      service: (executionDigest) => ({
        profile: PROFILE.service,
        receiptId: done.receiptId,
        executionDigest,
        issuedAtMs: modules.now(),
        route: { chosen: auditor, objective: "audit" },
        assurance: { asked: "vanilla", given: "vanilla", reason: "An audit by re-execution." },
        retention: "none",
      }),
      model: work.model.name,
      manifestDigest: work.model.manifestDigest,
      mode: "vanilla",
      grantSha256: suite.sha256(grantOf(suite, done.masterSalt)),
      opening: new Uint8Array(),
    });
    const cpuClass = decodeClaims("execution", done.claims).runtime?.["cpuClass"];
    return {
      auditor,
      outputs: done.outputs,
      cpuClass: cpuClass instanceof Uint8Array ? bytesToHex(cpuClass) : "",
      execution: recorded.execution.digest,
    };
  };

  const auditor = createAuditor(
    {
      recorder: modules.recorder,
      registry,
      suite,
      now: modules.now,
      random: modules.random,
      secret: modules.secret,
      async tensor(work, except, signal, profile) {
        const other = except === localSubject ? elsewhere(work.model.manifestDigest, except) : localSubject;
        return other === undefined ? undefined : again(work, other, profile, signal);
      },
      async text(work, claims, except, signal) {
        const { engine } = modules;
        const digest = work.target.model.files?.manifestDigest;
        if (digest === undefined || !(await modules.recheckable(digest))) return undefined;
        if (!engine || except === localSubject || !work.target.model.files) return undefined;
        const { kind } = claims;
        if (kind !== "chat" && kind !== "completion") return undefined;
        const opened = { kind, requestFields: jsonFields(work.body), responseFields: work.responseFields, claims };
        const found = await checkText(engine, suite, opened, () => Promise.resolve(work.target.model), signal);
        if ("problem" in found) return undefined;
        return {
          auditor: localSubject,
          agrees: found.agrees,
          largestDifference: found.largestDifference,
          tolerance: found.tolerance,
        };
      },
      onError: (error) => logger.warn({ err: describe(error) }, "audit failed"),
    },
    { share },
  );
  return {
    ...auditor,
    wants: (receipt) => (registry.list().length > 0 || receipt.assurance !== "vanilla") && auditor.wants(receipt),
    offer: (job) => {
      // This process cannot be its own auditor; without another there is nothing to state, unless it was promised.
      const alone =
        job.node === localSubject &&
        (job.work.kind === "text" || elsewhere(job.work.model.manifestDigest, localSubject) === undefined);
      return alone && job.assurance === "vanilla" ? false : auditor.offer(job);
    },
  };
}
