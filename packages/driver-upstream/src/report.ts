import type { UpstreamFacts } from "@assay/protocol";
import type { TransportAnswer } from "./transport.ts";
import type { ReportedUsage } from "./usage.ts";
import { MAX_FACT } from "./limits.ts";

/** What one exchange showed, gathered while it runs. */
export type Report = {
  readonly provider: string;
  readonly seen: Record<string, string>;
  modelReported?: string;
  spkiSha256?: string;
  usage?: ReportedUsage;
};

/** Facts that providers send as headers, under our names. */
const HEADERS = { requestId: ["x-request-id", "request-id"] } as const;

export function createReport(provider: string, host: string): Report {
  return { provider, seen: { host: fact(host) ?? "" } };
}

/** Takes what the head of an answer shows. */
export function reportHead(report: Report, answer: TransportAnswer): void {
  if (answer.spkiSha256 !== undefined) report.spkiSha256 = answer.spkiSha256;
  for (const name of HEADERS.requestId) see(report, "requestId", answer.headers[name]);
}

/** Notes a fact, unless it is no text or was seen before. */
export function see(report: Report, name: string, value: unknown): void {
  if (report.seen[name] !== undefined) return;
  const text = fact(value);
  if (text !== undefined) report.seen[name] = text;
}

/** Notes the model that the upstream names; the first one counts. */
export function seeModel(report: Report, value: unknown): void {
  const text = fact(value);
  if (report.modelReported === undefined && text !== undefined) report.modelReported = text;
}

/** The report as a receipt holds it. */
export function factsOf(report: Report): UpstreamFacts {
  return {
    profile: "upstream",
    provider: report.provider,
    ...(report.modelReported === undefined ? {} : { modelReported: report.modelReported }),
    ...(report.spkiSha256 === undefined ? {} : { tlsSpkiSha256: report.spkiSha256 }),
    seen: { ...report.seen },
  };
}

/** A text of at most {@link MAX_FACT} characters without control characters; undefined for anything else. */
function fact(value: unknown): string | undefined {
  if (typeof value !== "string" || value === "") return undefined;
  return value.slice(0, MAX_FACT).replace(/[\p{Cc}\p{Cs}]/gu, "");
}
