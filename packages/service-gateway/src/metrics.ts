import { Counter, Gauge, Histogram, Registry } from "prom-client";

/** What the gateway counts; names end in their unit. */
export type Metrics = {
  readonly registry: Registry;
  readonly requests: Counter<"route" | "status">;
  readonly inferSeconds: Histogram;
  readonly engineSeconds: Histogram;
  readonly receipts: Counter;
  readonly receiptSeconds: Histogram;
  readonly refusals: Counter<"code">;
  readonly textRequests: Counter<"dialect" | "status">;
  readonly textFirstFrameSeconds: Histogram<"dialect">;
  readonly textFrames: Counter<"dialect">;
  readonly textTokens: Counter<"dialect" | "kind">;
  readonly textStreams: Gauge;
  readonly textIncomplete: Counter<"dialect">;
  readonly payments: Counter<"scheme" | "outcome">;
};

/** Figures read when somebody asks, by name and help text. */
export type GaugeSource = { readonly name: string; readonly help: string; readonly read: () => number };

const LATENCY_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** A registry of its own, so that several gateways live in one process. */
export function createMetrics(gauges: readonly GaugeSource[]): Metrics {
  const registry = new Registry();
  const registers = [registry];
  for (const { name, help, read } of gauges) {
    const gauge = new Gauge({
      name,
      help,
      registers: [],
      collect() {
        this.set(read());
      },
    });
    registry.registerMetric(gauge);
  }
  return {
    registry,
    requests: new Counter({
      name: "assay_http_requests_total",
      help: "Requests answered.",
      labelNames: ["route", "status"],
      registers,
    }),
    inferSeconds: new Histogram({
      name: "assay_infer_seconds",
      help: "Inference request, from its last byte in to its answer's first byte out.",
      buckets: LATENCY_BUCKETS,
      registers,
    }),
    engineSeconds: new Histogram({
      name: "assay_engine_seconds",
      help: "Time in the engine, a batch counted once for each request in it.",
      buckets: LATENCY_BUCKETS,
      registers,
    }),
    receipts: new Counter({ name: "assay_receipts_total", help: "Receipts made durable.", registers }),
    receiptSeconds: new Histogram({
      name: "assay_receipt_seconds",
      help: "From the engine's result to the durable receipt.",
      buckets: LATENCY_BUCKETS,
      registers,
    }),
    refusals: new Counter({
      name: "assay_refusals_total",
      help: "Requests refused, by code.",
      labelNames: ["code"],
      registers,
    }),
    textRequests: new Counter({
      name: "assay_text_requests_total",
      help: "Requests to language models answered, by API and status; 200 from the first frame on.",
      labelNames: ["dialect", "status"],
      registers,
    }),
    textFirstFrameSeconds: new Histogram({
      name: "assay_text_first_frame_seconds",
      help: "From a request's last byte in to its answer's first frame, tries that failed included.",
      labelNames: ["dialect"],
      buckets: LATENCY_BUCKETS,
      registers,
    }),
    textFrames: new Counter({
      name: "assay_text_frames_total",
      help: "Frames of answers; one for an answer that is no stream.",
      labelNames: ["dialect"],
      registers,
    }),
    textTokens: new Counter({
      name: "assay_text_tokens_total",
      help: "Tokens read and written by language models, as their engines count.",
      labelNames: ["dialect", "kind"],
      registers,
    }),
    textStreams: new Gauge({ name: "assay_text_streams_open", help: "Streams under way.", registers }),
    payments: new Counter({
      name: "assay_payments_total",
      help: "Payments by scheme and what became of them: required, refused, charged, released, stuck, replayed, not_kept.",
      labelNames: ["scheme", "outcome"],
      registers,
    }),
    textIncomplete: new Counter({
      name: "assay_text_incomplete_total",
      help: "Answers that ended before their engine had ended them.",
      labelNames: ["dialect"],
      registers,
    }),
  };
}
