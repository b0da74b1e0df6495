export { createUpstream } from "./upstream.ts";
export type { UpstreamOptions } from "./upstream.ts";
export type { UpstreamKind } from "./connection.ts";
export { DEFAULT_UPSTREAM_LIMITS } from "./limits.ts";
export type { UpstreamLimits } from "./limits.ts";
