import type { OrtRuntime } from "@assay/driver-ort";
import type { LogSink } from "@assay/protocol";
import { createMetrics } from "@assay/service-gateway";
import type { Metrics, Recorder } from "@assay/service-gateway";

/** The gateway's metrics with what the parts of this process have to say. */
export function serverMetrics(parts: {
  readonly log: Pick<LogSink, "size">;
  readonly recorder: Pick<Recorder, "pending">;
  readonly runtime: Pick<OrtRuntime, "stats">;
  /** Records that the log has and the index lacks. */
  readonly lagRecords: () => number;
}): Metrics {
  const { log, recorder, runtime, lagRecords } = parts;
  return createMetrics([
    { name: "assay_log_records", help: "Records in the log.", read: () => log.size() },
    { name: "assay_index_lag_records", help: "Records that the log has and the index lacks.", read: lagRecords },
    { name: "assay_receipts_pending", help: "Receipts that wait to be written.", read: () => recorder.pending() },
    { name: "assay_runtime_children", help: "Runtime child processes.", read: () => runtime.stats().children },
    { name: "assay_runtime_sessions", help: "Warm model sessions.", read: () => runtime.stats().sessions },
    {
      name: "assay_runtime_session_bytes",
      help: "Estimated memory of warm sessions.",
      read: () => runtime.stats().sessionBytes,
    },
    {
      name: "assay_runtime_queued_requests",
      help: "Requests that wait for a session.",
      read: () => runtime.stats().queued,
    },
    {
      name: "assay_runtime_restarts",
      help: "Child processes that had to be replaced.",
      read: () => runtime.stats().restarts,
    },
    { name: "assay_process_resident_bytes", help: "Memory of this process.", read: () => process.memoryUsage.rss() },
  ]);
}
