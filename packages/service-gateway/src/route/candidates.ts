import { candidateName } from "@assay/routing";
import type { Candidate } from "@assay/routing";
import type { RouteState } from "./route-state.ts";
import type { LocalNode, Source } from "./sources.ts";

/** A candidate with what it was made of, and the place whose in-flight requests it shares. */
export type Placed = {
  readonly candidate: Candidate;
  readonly source: Source;
  readonly name: string;
  readonly place: string;
};

/** A source as the decision sees it at this moment: with its load, its health and what was measured of it. */
export function placed(source: Source, local: LocalNode, state: RouteState, nowMs: number): Placed {
  const { fullName: _, engine, model, version, at, ...facts } = source;
  const node = at === "node" ? source.node.subject : local.executor.subject;
  const named = { node, engine, model, ...(version === undefined ? {} : { version }) };
  const name = candidateName(named);
  // A node is one place. Of our own, each upstream is one: they share nothing but this process.
  const place = at === "node" ? node : `${node}#${engine}`;
  const latency = state.latency(name);
  const busy = nowMs < state.busyUntilMs(name);
  const base = {
    ...named,
    kinds: facts.kinds,
    ...pick(facts, "manifestDigest", "family", "contextTokens", "maxOutputTokens", "price"),
    warm: facts.warm,
    auditable: facts.auditable,
    health: state.health(name),
    ...(latency ? { latency } : {}),
  };
  if (at === "node") {
    const { node: remote } = source;
    const reported =
      remote.reportedDepth === undefined ? undefined : { depth: remote.reportedDepth, atMs: remote.lastSeenMs };
    return {
      source,
      name,
      place,
      candidate: {
        ...base,
        securityModes: remote.securityModes,
        ...pick(remote, "attestation", "jurisdiction", "cpuClass", "accelerator", "draining"),
        lastSeenMs: remote.lastSeenMs,
        load: { ...state.load(place, reported), ...pick(remote, "slots"), ...capacityOf(remote.capacity, busy) },
      },
    };
  }
  if (at === "upstream") {
    const { country, maxInFlight } = source.upstream;
    return {
      source,
      name,
      place,
      candidate: {
        ...base,
        securityModes: ["vanilla"],
        ...(country === undefined ? {} : { jurisdiction: { country, evidence: "declared" } }),
        load: { ...state.load(place), ...capacityOf(maxInFlight, busy) },
      },
    };
  }
  return {
    source,
    name,
    place,
    candidate: {
      ...base,
      securityModes: local.securityModes ?? ["vanilla"],
      ...pick(local, "jurisdiction", "cpuClass", "accelerator"),
      load: {
        ...state.load(place),
        // Slots and room are those of language models; tensors have a runtime of many children with a queue of its own.
        ...(engine === "local" ? pick(local, "slots") : {}),
        ...capacityOf(engine === "local" ? local.capacity : undefined, busy),
      },
    },
  };
}

/** Who has just turned somebody away takes nothing for a moment, whatever it has said of its room. */
function capacityOf(capacity: number | undefined, busy: boolean): { readonly capacity?: number } {
  return busy ? { capacity: 0 } : capacity === undefined ? {} : { capacity };
}

function pick<Of extends object, Key extends keyof Of>(of: Of, ...keys: readonly Key[]): Pick<Of, Key> {
  const picked: Partial<Pick<Of, Key>> = {};
  for (const key of keys) if (of[key] !== undefined) picked[key] = of[key];
  return picked as Pick<Of, Key>;
}
