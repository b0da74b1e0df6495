// Time to answer under the router's pick and under simpler ones, in a discrete-event simulation with a fixed seed.
//   npx tsx --conditions=assay-source bench/router.ts
//
// Ten nodes with one request at a time each, five of speed 1 and five of speed 2; Poisson arrivals, exponential work.
// A node reports its queue every five mean service times (exact: every gateway knows every queue at any moment).
// `counts`: a gateway adds what it sent itself and has not got back. `ours` calls decide() as the gateway does.
import { DEFAULT_ASSURANCE_POLICY, MAX_ATTESTATION_AGE_MS, UNKNOWN_HEALTH, decide } from "@assay/routing";
import type { Candidate, RoutePolicy, RouteRequest } from "@assay/routing";
import { percentile } from "./infer/load.ts";

const SPEEDS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 2];
const REQUESTS = 200_000;
const REPORT_EVERY = 5;
/** One mean service time at speed 1: with reports every five, heartbeats come every two seconds. */
const UNIT_MS = 400;

type Info = "exact" | "stale" | "stale, counts";
/** What one gateway believes of the queues, and what it may choose by. */
type View = {
  readonly depth: (node: number) => number;
  readonly own: (node: number) => number;
  readonly reported: (node: number) => { readonly depth: number; readonly own: number; readonly at: number };
  readonly actual: (node: number) => number;
  readonly now: number;
  readonly info: Info;
  readonly gateway: number;
};
type Policy = { readonly name: string; readonly choose: (view: View, random: () => number) => number };

// Mulberry32: small, fast, and the same everywhere.
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const nodes = SPEEDS.length;
const speedOf = (node: number): number => SPEEDS[node] ?? 1;
const below = (random: () => number, n: number): number => Math.floor(random() * n);
const wait = (view: View, node: number): number => (view.depth(node) + 1) / speedOf(node);

function least(by: (node: number) => number, random: () => number): number {
  // From a random start, so that equals are not always the first of them.
  const start = below(random, nodes);
  let best = start;
  for (let i = 1; i < nodes; i++) {
    const node = (start + i) % nodes;
    if (by(node) < by(best)) best = node;
  }
  return best;
}

const turns = new Map<number, number>();
const policy: RoutePolicy = { assurance: DEFAULT_ASSURANCE_POLICY, maxAttestationAgeMs: MAX_ATTESTATION_AGE_MS };
const request: RouteRequest = { kind: "chat", limits: [], tokens: { inputAtLeast: 0, choices: 1 } };
let decisions = 0;
let decidingMs = 0;

const policies: readonly Policy[] = [
  { name: "random", choose: (_, random) => below(random, nodes) },
  {
    name: "round robin",
    choose: ({ gateway }) => {
      const turn = turns.get(gateway) ?? gateway;
      turns.set(gateway, turn + 1);
      return turn % nodes;
    },
  },
  { name: "least loaded", choose: (view, random) => least((node) => view.depth(node), random) },
  { name: "least predicted wait", choose: (view, random) => least((node) => wait(view, node), random) },
  {
    name: "two at random",
    choose: (view, random) => {
      const a = below(random, nodes);
      const b = (a + 1 + below(random, nodes - 1)) % nodes;
      return wait(view, a) <= wait(view, b) ? a : b;
    },
  },
  {
    name: "ours",
    choose: (view, random) => {
      const nowMs = view.now * UNIT_MS;
      const candidates = SPEEDS.map((speed, node): Candidate => {
        const reported = view.reported(node);
        const serviceMs = UNIT_MS / speed;
        return {
          node: `urn:assay:node:${node}`,
          engine: "local",
          model: "bench/model",
          kinds: ["chat"],
          securityModes: ["vanilla"],
          auditable: true,
          warm: true,
          health: UNKNOWN_HEALTH,
          latency: { firstByteMs: serviceMs, perTokenMs: 0, serviceMs, samples: 100 },
          load:
            view.info === "exact"
              ? { slots: 1, inFlight: view.actual(node) }
              : {
                  slots: 1,
                  inFlight: view.info === "stale" ? 0 : view.own(node),
                  report: {
                    depth: reported.depth,
                    ownAtReport: view.info === "stale" ? 0 : reported.own,
                    atMs: reported.at * UNIT_MS,
                  },
                },
          lastSeenMs: view.info === "exact" ? nowMs : reported.at * UNIT_MS,
        };
      });
      const startedMs = performance.now();
      const { chosen } = decide(request, candidates, { nowMs, draw: (n) => below(random, n), policy });
      decidingMs += performance.now() - startedMs;
      decisions++;
      return candidates.indexOf(chosen.candidate);
    },
  },
];

function simulate({ choose }: Policy, info: Info, gateways: number, load: number): { p50: number; p99: number } {
  const random = generator(20_261_121);
  turns.clear();
  const rate = load * SPEEDS.reduce((sum, speed) => sum + speed, 0);
  const queues: { readonly endsAt: number; readonly gateway: number }[][] = SPEEDS.map(() => []);
  const owns = Array.from({ length: gateways }, () => SPEEDS.map(() => 0));
  const reports = SPEEDS.map(() => ({ depth: 0, own: owns.map(() => 0), at: 0 }));
  // Nodes did not start at the same moment, so they do not report at the same moment.
  const nextReport = SPEEDS.map(() => random() * REPORT_EVERY);
  const times: number[] = [];
  let now = 0;

  const leave = (node: number, until: number): void => {
    const queue = queues[node] ?? [];
    let gone = 0;
    for (; gone < queue.length && (queue[gone]?.endsAt ?? Infinity) <= until; gone++) {
      const own = owns[queue[gone]?.gateway ?? 0];
      if (own) own[node] = (own[node] ?? 0) - 1;
    }
    if (gone > 0) queue.splice(0, gone);
  };

  for (let i = 0; i < REQUESTS; i++) {
    now += -Math.log(1 - random()) / rate;
    for (let node = 0; node < nodes; node++) {
      for (let at = nextReport[node] ?? 0; at <= now; at += REPORT_EVERY) {
        leave(node, at);
        reports[node] = { depth: queues[node]?.length ?? 0, own: owns.map((own) => own[node] ?? 0), at };
        nextReport[node] = at + REPORT_EVERY;
      }
      leave(node, now);
    }
    const gateway = below(random, gateways);
    const reported = (node: number): { depth: number; own: number; at: number } => {
      const report = reports[node];
      return { depth: report?.depth ?? 0, own: report?.own[gateway] ?? 0, at: report?.at ?? 0 };
    };
    const own = (node: number): number => owns[gateway]?.[node] ?? 0;
    const actual = (node: number): number => queues[node]?.length ?? 0;
    const depth = (node: number): number => {
      if (info === "exact") return actual(node);
      const seen = reported(node);
      return info === "stale" ? seen.depth : Math.max(0, seen.depth - seen.own) + own(node);
    };
    const node = choose({ depth, own, reported, actual, now, info, gateway }, random);
    const queue = queues[node] ?? [];
    const endsAt = Math.max(now, queue.at(-1)?.endsAt ?? 0) - Math.log(1 - random()) / speedOf(node);
    queue.push({ endsAt, gateway });
    const mine = owns[gateway];
    if (mine) mine[node] = (mine[node] ?? 0) + 1;
    if (i >= REQUESTS / 10) times.push(endsAt - now);
  }
  return { p50: percentile(times, 0.5), p99: percentile(times, 0.99) };
}

for (const gateways of [1, 4]) {
  for (const load of [0.7, 0.9]) {
    for (const info of ["exact", "stale", "stale, counts"] as const) {
      const measured = new Map<string, { p50: number; p99: number }>();
      for (const one of policies) measured.set(one.name, simulate(one, info, gateways, load));
      const ours = measured.get("ours")?.p99 ?? 0;
      const against = (name: string): string => (ours / (measured.get(name)?.p99 ?? 1)).toFixed(3);
      const line = [...measured].map(([name, { p99 }]) => `${name} ${p99.toFixed(1)}`).join(", ");
      console.log(
        `${gateways} gateway${gateways > 1 ? "s" : ""}, load ${load}, ${info}: p99 in service times: ${line}`,
      );
      console.log(`  ours is ${against("least loaded")} of least loaded and ${against("random")} of random`);
    }
  }
}
console.log(
  `decide() over ${nodes} candidates: ${((decidingMs * 1000) / decisions).toFixed(1)} us each, ${decisions} times`,
);
