import { AssayError } from "@assay/core";

/** Whom the proxy serves. */
export type GuardOptions = {
  /** The address that it listens on. */
  readonly host: string;
  /** Names under which it may be asked, beside those of the loopback. */
  readonly allowedHosts: readonly string[];
  /** Web origins whose pages may ask, for example `https://chat.example`. */
  readonly allowedOrigins: readonly string[];
};

/** Checks of a request's own words about where it comes from and whom it is for. */
export type Guard = {
  /** Throws `host_refused` and `origin_refused`. */
  readonly check: (headers: { readonly host?: string | undefined; readonly origin?: string | undefined }) => void;
  /** What a page of an allowed origin needs to read the answer; nothing for everybody else. */
  readonly corsHeaders: (origin: string | undefined) => Readonly<Record<string, string>>;
};

const LOOPBACK_NAMES: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Whether an address can be reached from this machine alone. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

/**
 * The guard of a proxy. A browser asks any server that its page names: a page elsewhere could point a name of its own to
 * the loopback (DNS rebinding), which its `Host` gives away, or send requests blindly, which its `Origin` gives away.
 */
export function createGuard({ host, allowedHosts, allowedOrigins }: GuardOptions): Guard {
  const bracketed = host.includes(":") ? `[${host}]` : host;
  const names = new Set([...LOOPBACK_NAMES, bracketed, ...allowedHosts].map((name) => name.toLowerCase()));
  const origins = new Set(allowedOrigins);
  return {
    check(headers) {
      const name = (headers.host ?? "").toLowerCase().replace(/:\d{1,5}$/, "");
      if (!names.has(name)) {
        throw new AssayError("host_refused", "The request is for a host that this proxy is not.", {
          hints: ["Ask it as 127.0.0.1 or localhost, or name the host in allowedHosts."],
        });
      }
      if (headers.origin !== undefined && !origins.has(headers.origin)) {
        throw new AssayError("origin_refused", "The request comes from a web page that may not ask here.", {
          hints: ["Name the page's origin in allowedOrigins if it is yours."],
        });
      }
    },
    corsHeaders: (origin) =>
      origin !== undefined && origins.has(origin)
        ? {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "*",
            vary: "origin",
          }
        : {},
  };
}
