import type { RoutingOptions } from "@assay/protocol";
import { cliError } from "./render-error.ts";

/** What a person may ask of the route; the same for a call and for an explanation of one. */
export type RouteFlags = {
  readonly objective?: "balanced" | "latency" | "price" | "security";
  readonly mode?: "vanilla" | "tee" | "zkml";
  readonly jurisdiction?: string;
  readonly jurisdictionEvidence?: "declared" | "registry" | "attested";
  readonly maxPrice?: string;
  readonly maxLatency?: number;
  readonly family?: string;
  readonly cpuClass?: string;
  readonly valueAtRisk?: string;
};

/** The flags in the words of the API. The gateway judges their values; empty lists are refused here. */
export function routingOf(flags: RouteFlags): RoutingOptions {
  const jurisdiction = flags.jurisdiction?.split(",").map((part) => part.trim().toUpperCase());
  if (jurisdiction?.some((part) => part === "") === true) {
    throw cliError("usage_invalid", "A jurisdiction is a country or a region, for example DE or EU.", {
      hints: ["Several are joined by commas: DE,FR."],
    });
  }
  return {
    ...(flags.objective === undefined ? {} : { objective: flags.objective }),
    ...(flags.mode === undefined ? {} : { mode: flags.mode }),
    ...(jurisdiction ? { jurisdiction } : {}),
    ...(flags.jurisdictionEvidence === undefined ? {} : { jurisdictionEvidence: flags.jurisdictionEvidence }),
    ...(flags.maxPrice === undefined ? {} : { maxPrice: flags.maxPrice }),
    ...(flags.maxLatency === undefined ? {} : { maxLatencyMs: flags.maxLatency }),
    ...(flags.family === undefined ? {} : { family: flags.family }),
    ...(flags.cpuClass === undefined ? {} : { cpuClass: flags.cpuClass }),
    ...(flags.valueAtRisk === undefined ? {} : { valueAtRisk: flags.valueAtRisk }),
  };
}
