import { createHash } from "node:crypto";
import { TLSSocket } from "node:tls";
import type { IncomingHttpHeaders } from "node:http";
import { isAssayError } from "@assay/core";
import type { AssayError } from "@assay/core";
import { buildConnector, Client, Pool } from "undici";
import type { Dispatcher } from "undici";
import { upstreamError } from "./errors.ts";
import { HIGH_WATER_BYTES } from "./limits.ts";
import type { UpstreamLimits } from "./limits.ts";
import type { StopSignal } from "./stop.ts";

/** What is known of the other end of a connection. */
type Peer = { spkiSha256?: string };

type TransportRequest = {
  readonly method: "GET" | "POST";
  /** Path and query, absolute. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Milliseconds for the first byte of the body, connecting included. */
  readonly firstByteMs: number;
  /** Its reason, an error of ours, is what the request then ends with. */
  readonly signal: StopSignal;
};

/** A body that is read piece by piece; nothing more is taken from the socket than {@link HIGH_WATER_BYTES} ahead. */
export type Body = {
  /** The next piece, at once when there is one; undefined at the end. Throws errors of ours. */
  readonly read: () => Uint8Array | undefined | Promise<Uint8Array | undefined>;
  /**
   * Ends the reading. Unless the body is at its end already, the connection is closed: what else would come on it is
   * not wanted, and a connection with an unread answer cannot serve another request.
   */
  readonly leave: () => void;
  /** Says that all was read which matters: the connection is kept if the end comes soon and nothing before it. */
  readonly finish: () => void;
};

export type TransportAnswer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Body;
  /** SHA-256 of the SubjectPublicKeyInfo of the certificate that this connection was made with, lower-case hex. */
  readonly spkiSha256?: string;
};

export type Transport = {
  /** Host and port, as in a URL. */
  readonly host: string;
  readonly send: (request: TransportRequest) => Promise<TransportAnswer>;
  readonly close: () => Promise<void>;
};

export type TransportOptions = {
  readonly origin: URL;
  readonly limits: UpstreamLimits;
  /** Certificates (PEM) to trust in place of the system's; for servers with a certificate authority of their own. */
  readonly ca?: string | readonly string[];
};

/** How long a connection may take to end an answer that was read, milliseconds: it is there already, or it is closed. */
const FINISH_MS = 1000;

type Dispatch = Dispatcher.DispatchOptions & { onPeer?: (peer: Peer) => void };

/**
 * One upstream's connections: HTTP/1.1, kept alive, one request at a time on each, no redirects. Certificates are
 * verified whatever the environment says, and TLS sessions are not resumed, so that every connection shows its
 * certificate anew.
 */
export function createTransport(options: TransportOptions): Transport {
  const { origin, limits } = options;
  const connector = buildConnector({
    timeout: limits.connectTimeoutMs,
    rejectUnauthorized: true,
    maxCachedSessions: 0,
    ...(options.ca === undefined ? {} : { ca: [options.ca].flat() }),
  });

  /** A client that remembers the certificate of its connection and tells it to each request that it takes. */
  function withPeer(url: URL | string, clientOptions: Client.Options): Client {
    const peer: Peer = {};
    const client = new Client(url, {
      ...clientOptions,
      connect: (to, callback) =>
        connector(to, (error, socket) => {
          if (error !== null) return callback(error, null);
          const key = socket instanceof TLSSocket ? spkiSha256(socket) : undefined;
          if (key !== undefined) peer.spkiSha256 = key;
          callback(null, socket);
        }),
    });
    const dispatch = client.dispatch.bind(client);
    return Object.assign(client, {
      dispatch(request: Dispatch, handler: Dispatcher.DispatchHandler): boolean {
        request.onPeer?.(peer);
        return dispatch(request, handler);
      },
    });
  }

  const pool = new Pool(origin.origin, {
    connections: limits.maxRunning,
    pipelining: 1,
    headersTimeout: 0,
    bodyTimeout: limits.idleTimeoutMs,
    factory: (url, clientOptions) => withPeer(url, clientOptions),
  });

  return {
    host: origin.host,
    send: (request) => send(pool, request),
    close: () => pool.destroy(upstreamError("engine_unavailable", "The upstream was closed.")),
  };
}

function send(pool: Pool, request: TransportRequest): Promise<TransportAnswer> {
  return new Promise((resolve, reject) => {
    const queue: Uint8Array[] = [];
    let queued = 0;
    let peer: Peer = {};
    let controller: Dispatcher.DispatchController | undefined;
    let begun = false;
    let done = false;
    let finishing = false;
    let failure: AssayError | undefined;
    let waiting: { resolve: (chunk: Uint8Array | undefined) => void; reject: (error: AssayError) => void } | undefined;

    let timer = setTimeout(
      () => fail(upstreamError("upstream_timeout", `The upstream sent nothing within ${request.firstByteMs} ms.`)),
      request.firstByteMs,
    );
    const onAbort = (): void => {
      // Who aborts wants nothing more, not even what has arrived.
      queue.length = 0;
      fail(request.signal.reason as AssayError);
    };

    function settle(): void {
      done = true;
      clearTimeout(timer);
      request.signal.removeEventListener("abort", onAbort);
    }

    /** Ends the exchange with an error and closes its connection. */
    function fail(error: AssayError): void {
      if (done) return;
      settle();
      failure = error;
      controller?.abort(error);
      if (!begun) reject(error);
      waiting?.reject(error);
      waiting = undefined;
    }

    const body: Body = {
      read() {
        const chunk = queue.shift();
        if (chunk !== undefined) {
          queued -= chunk.length;
          if (queued < HIGH_WATER_BYTES && controller?.paused === true) controller.resume();
          return chunk;
        }
        if (failure !== undefined) throw failure;
        if (done) return undefined;
        return new Promise((give, refuse) => {
          waiting = { resolve: give, reject: refuse };
        });
      },
      leave() {
        if (done) return;
        fail(left());
      },
      finish() {
        if (done) return;
        if (queue.length > 0) return fail(left());
        finishing = true;
        request.signal.removeEventListener("abort", onAbort);
        timer = setTimeout(() => fail(left()), FINISH_MS);
        if (controller?.paused === true) controller.resume();
      },
    };

    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(given) {
        controller = given;
        if (failure !== undefined) given.abort(failure);
      },
      onResponseStart(given, status, headers) {
        // Informational responses (RFC 9110 section 15.2) come before the real one.
        if (done || status < 200) return;
        controller = given;
        begun = true;
        resolve({
          status,
          headers,
          body,
          ...(peer.spkiSha256 === undefined ? {} : { spkiSha256: peer.spkiSha256 }),
        });
      },
      onResponseData(given, chunk) {
        if (done) return;
        if (finishing) return fail(left());
        clearTimeout(timer);
        if (waiting !== undefined) {
          waiting.resolve(chunk);
          waiting = undefined;
          return;
        }
        queue.push(chunk);
        queued += chunk.length;
        if (queued >= HIGH_WATER_BYTES) given.pause();
      },
      onResponseEnd() {
        if (done) return;
        settle();
        waiting?.resolve(undefined);
        waiting = undefined;
      },
      onResponseError(_, error) {
        fail(translate(error, controller !== undefined));
      },
    };

    if (request.signal.aborted) return fail(request.signal.reason as AssayError);
    request.signal.addEventListener("abort", onAbort, { once: true });
    const dispatch: Dispatch = {
      path: request.path,
      method: request.method,
      headers: request.headers,
      ...(request.body === undefined ? {} : { body: request.body }),
      onPeer: (seen) => {
        peer = seen;
      },
    };
    try {
      pool.dispatch(dispatch, handler);
    } catch (error) {
      fail(translate(error, false));
    }
  });
}

function left(): AssayError {
  return upstreamError("request_cancelled", "The answer was left before its end.");
}

/** An error of undici or of the socket as one of ours. `connected` tells whether the request had been on its way. */
function translate(error: unknown, connected: boolean): AssayError {
  if (isAssayError(error)) return error;
  const cause = error instanceof Error ? error : new Error(String(error));
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : "";
  if (code === "UND_ERR_BODY_TIMEOUT")
    return upstreamError("upstream_timeout", "The upstream stopped sending in the middle of its answer.", { cause });
  if (code === "UND_ERR_DESTROYED" || code === "UND_ERR_CLOSED")
    return upstreamError("engine_unavailable", "The upstream was closed.", { cause });
  if (!connected) {
    const why = code === "" ? "" : ` (${code})`;
    return upstreamError("upstream_unreachable", `No connection to the upstream could be made${why}.`, {
      cause,
      hints: certificateHints(code),
    });
  }
  if (
    cause.name === "HTTPParserError" ||
    code === "UND_ERR_HEADERS_OVERFLOW" ||
    code === "UND_ERR_RES_CONTENT_LENGTH_MISMATCH"
  )
    return upstreamError("upstream_malformed", `The upstream does not speak HTTP as it should.`, { cause });
  return upstreamError("upstream_failed", "The upstream closed the connection before the end of its answer.", {
    cause,
  });
}

function certificateHints(code: string): string[] {
  return /CERT|SELF_SIGNED|ISSUER|SIGNATURE|ALTNAME/.test(code)
    ? ["Its certificate is not trusted: give the certificate authority's certificate in the upstream's `ca`."]
    : [];
}

function spkiSha256(socket: TLSSocket): string | undefined {
  const spki = socket.getPeerX509Certificate()?.publicKey.export({ type: "spki", format: "der" });
  return spki === undefined ? undefined : createHash("sha256").update(spki).digest("hex");
}
