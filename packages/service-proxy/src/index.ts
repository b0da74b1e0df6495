export { PROXY_DEFAULTS } from "./limits.ts";
export { createProxy } from "./proxy.ts";
export type { Proxy, ProxyEvent, ProxyLimits, ProxyModules, ProxyOptions } from "./proxy.ts";
