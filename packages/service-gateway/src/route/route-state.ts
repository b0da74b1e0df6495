import { UNKNOWN_HEALTH, afterAnswer, afterOutcome, median } from "@assay/routing";
import type { Health, Latency, Load } from "@assay/routing";

/** How a try ended. `busy`: it was turned away for lack of room; `refused`: it was asked for what it does not do. */
export type TryEnd =
  | { readonly how: "answered"; readonly engineMs: number; readonly outputTokens: number; readonly streamed: boolean }
  | { readonly how: "failed" }
  | { readonly how: "busy" }
  | { readonly how: "refused" }
  | { readonly how: "cancelled" };

/** One try, from its start to its end. Every member may be called more than once; the first call counts. */
type Lease = {
  readonly started: () => void;
  readonly firstByte: () => void;
  readonly ended: (end: TryEnd) => void;
};

/** What this gateway itself saw of its candidates. Nothing here outlives the process. */
export type RouteState = {
  readonly lease: (candidate: string, place: string) => Lease;
  readonly health: (candidate: string) => Health;
  readonly latency: (candidate: string) => Latency | undefined;
  /** In-flight counts of a place (a node, or an upstream of ours), with what it reported when that was heard. */
  readonly load: (
    place: string,
    reported?: { readonly depth: number; readonly atMs: number },
  ) => Pick<Load, "inFlight" | "report">;
  /** Marks the moment of a report, so that what was ours in it can be told from what was others'. */
  readonly heard: (place: string, atMs: number) => void;
  /** Until when a candidate that turned somebody away is left alone, milliseconds since 1970; 0 otherwise. */
  readonly busyUntilMs: (candidate: string) => number;
  readonly stats: () => { readonly inFlight: number; readonly tracked: number; readonly ejected: number };
};

/** Candidates remembered; names of models that upstreams do not list come from callers and are without end. */
export const MAX_TRACKED = 4_096;
/**
 * A try without an end is forgotten after this. Engines stop long before; only a caller that broke its promise to end
 * what it started gets here, and its mistake must not fill a node for ever.
 */
export const MAX_LEASE_MS = 60 * 60 * 1000;
/** How long nothing is sent to who said that it is full. */
export const BUSY_MS = 1_000;

type Track = { health: Health; latency?: Latency; busyUntilMs: number };
type Place = { readonly started: Map<object, number>; report: { atMs: number; own: number } };

/** Makes an empty state. `now` is milliseconds since 1970. */
export function createRouteState(now: () => number): RouteState {
  const tracks = new Map<string, Track>();
  const places = new Map<string, Place>();

  const track = (candidate: string): Track => {
    const known = tracks.get(candidate);
    if (known) {
      // Most recently used last, so that the first is the one to forget.
      tracks.delete(candidate);
      tracks.set(candidate, known);
      return known;
    }
    const fresh: Track = { health: UNKNOWN_HEALTH, busyUntilMs: 0 };
    if (tracks.size >= MAX_TRACKED) {
      const [oldest] = tracks.keys();
      if (oldest !== undefined) tracks.delete(oldest);
    }
    tracks.set(candidate, fresh);
    return fresh;
  };
  const placeOf = (place: string): Place => {
    const known = places.get(place);
    if (known) return known;
    const fresh: Place = { started: new Map(), report: { atMs: 0, own: 0 } };
    places.set(place, fresh);
    return fresh;
  };
  const inFlight = ({ started }: Place): number => {
    const oldestMs = now() - MAX_LEASE_MS;
    // In the order in which they began: the first that is young enough ends the search.
    for (const [lease, startedMs] of started) {
      if (startedMs >= oldestMs) break;
      started.delete(lease);
    }
    return started.size;
  };
  const medianErrorRate = (): number =>
    median([...tracks.values()].flatMap(({ health }) => (health.samples > 0 ? [health.errorRate] : [])));
  const settle = (candidate: string, failed: boolean): void => {
    const of = track(candidate);
    of.health = afterOutcome(of.health, { failed, nowMs: now(), medianErrorRate: failed ? medianErrorRate() : 0 });
  };
  const heard = (name: string, atMs: number): void => {
    const place = placeOf(name);
    if (atMs > place.report.atMs) place.report = { atMs, own: inFlight(place) };
  };

  return {
    lease(candidate, placeName) {
      const key = {};
      let startedMs: number | undefined;
      let firstMs: number | undefined;
      let over = false;
      let waited = false;
      return {
        started() {
          if (startedMs !== undefined || over) return;
          startedMs = now();
          const place = placeOf(placeName);
          waited = inFlight(place) > 0;
          place.started.set(key, startedMs);
        },
        firstByte() {
          if (startedMs !== undefined && !over) firstMs ??= now();
        },
        ended(end) {
          if (over) return;
          over = true;
          const place = places.get(placeName);
          if (place) {
            place.started.delete(key);
            if (place.started.size === 0 && place.report.atMs === 0) places.delete(placeName);
          }
          if (startedMs === undefined) return;
          if (end.how === "failed") settle(candidate, true);
          if (end.how === "busy") track(candidate).busyUntilMs = now() + BUSY_MS;
          if (end.how !== "answered") return;
          settle(candidate, false);
          const totalMs = now() - startedMs;
          // Time behind others is not the model's: what the engine counted is, where somebody was before us.
          const waitMs = waited ? Math.max(0, totalMs - end.engineMs) : 0;
          const of = track(candidate);
          of.latency = afterAnswer(of.latency, {
            ...(end.streamed && firstMs !== undefined
              ? { firstByteMs: Math.max(0, firstMs - startedMs - waitMs) }
              : {}),
            totalMs: totalMs - waitMs,
            outputTokens: end.outputTokens,
          });
        },
      };
    },
    health: (candidate) => tracks.get(candidate)?.health ?? UNKNOWN_HEALTH,
    latency: (candidate) => tracks.get(candidate)?.latency,
    busyUntilMs: (candidate) => tracks.get(candidate)?.busyUntilMs ?? 0,
    heard,
    load(name, reported) {
      if (reported) heard(name, reported.atMs);
      const place = places.get(name);
      const own = place ? inFlight(place) : 0;
      return {
        inFlight: own,
        ...(reported && place
          ? { report: { depth: reported.depth, ownAtReport: place.report.own, atMs: reported.atMs } }
          : {}),
      };
    },
    stats() {
      let running = 0;
      for (const place of places.values()) running += inFlight(place);
      let ejected = 0;
      for (const { health } of tracks.values()) if (now() < health.ejectedUntilMs) ejected++;
      return { inFlight: running, tracked: tracks.size, ejected };
    },
  };
}
