import type { CryptoSuite, Signer } from "@assay/core";
import { nobleSuite } from "@assay/core/noble";
import { LIMIT } from "@assay/receipts";
import { authenticate } from "./auth.ts";
import type { Token } from "./auth.ts";
import { clientError } from "./errors.ts";
import { DEFAULT_CHECKPOINT_WAIT_MS, DEFAULT_RETRIES, DEFAULT_TIMEOUT_MS, TOKEN_MARGIN_MS } from "./limits.ts";
import { checkReceiptId } from "./names.ts";
import { pause } from "./pause.ts";
import type { Payer } from "./pay/payer.ts";
import { createTransport } from "./transport.ts";
import type { Fetch, Transport } from "./transport.ts";

/** How a gateway is reached, and as whom. */
export type ConnectionOptions = {
  /** The gateway's address, for example `http://127.0.0.1:8402`. */
  readonly url: string;
  /** Default: the platform's. */
  readonly fetch?: Fetch;
  /** A token got elsewhere; else `signer` gets one when a call needs it. */
  readonly token?: string;
  /** The owner's Ed25519 key. */
  readonly signer?: Signer;
  /** Cryptography of verification; default noble, which runs everywhere. */
  readonly suite?: CryptoSuite;
  /** Milliseconds since 1970; default the platform's clock. */
  readonly now?: () => number;
  /** From 0 to 1, for spreading tries; default the platform's. */
  readonly random?: () => number;
  /** Pause between tries; default a timer. */
  readonly sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** Times a safe request is sent again. */
  readonly retries?: number;
  /** Milliseconds until an answer's headers must have come. */
  readonly timeoutMs?: number;
  /** Pays what is asked to be paid. Without one a priced call is refused with status 402. */
  readonly payer?: Payer;
};

/** What every call takes. */
export type CallOptions = { readonly signal?: AbortSignal };

/** How a receipt is reached: by the grant of its inference, or as its owner. */
export type ReceiptAccess = CallOptions & { readonly grant?: string };

/** One gateway, with what its clients share. */
export type Connection = {
  readonly url: string;
  readonly transport: Transport;
  readonly suite: CryptoSuite;
  readonly now: () => number;
  /** Who pays, if anybody does. */
  readonly payer: Payer | undefined;
  /** Whether there is a token or a key to get one. */
  readonly known: boolean;
  readonly token: (signal?: AbortSignal) => Promise<string>;
  /** The owner that a signed-in key speaks for; undefined for a token that was given. */
  readonly owner: (signal?: AbortSignal) => Promise<string | undefined>;
  readonly bearer: (signal?: AbortSignal) => Promise<Record<string, string>>;
  readonly access: (access: ReceiptAccess) => Promise<Record<string, string>>;
  readonly bundle: (id: string, access?: ReceiptAccess & { readonly waitMs?: number }) => Promise<Uint8Array>;
};

/** The connection that one client has. Throws `gateway_url_invalid`. */
export function createConnection(options: ConnectionOptions): Connection {
  const transport = createTransport({
    url: options.url,
    fetch: options.fetch ?? ((url, init) => globalThis.fetch(url, init)),
    retries: options.retries ?? DEFAULT_RETRIES,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    sleep: options.sleep ?? pause,
    random: options.random ?? Math.random,
    payer: options.payer,
  });
  const now = options.now ?? Date.now;
  const known = options.token !== undefined || options.signer !== undefined;

  let held: Promise<Token> | undefined;
  const token = async (signal?: AbortSignal): Promise<string> => {
    if (options.token !== undefined) return options.token;
    const { signer } = options;
    if (!signer) {
      throw clientError(
        "signer_missing",
        "This call needs to know who asks, and the client has neither key nor token.",
      );
    }
    const current = await held?.catch(() => undefined);
    if (current && current.expiresAtMs - now() > TOKEN_MARGIN_MS) return current.token;
    held = authenticate(transport, signer, signal);
    return (await held).token;
  };
  const bearer = async (signal?: AbortSignal): Promise<Record<string, string>> => ({
    authorization: `Bearer ${await token(signal)}`,
  });
  const access = async ({ grant, signal }: ReceiptAccess): Promise<Record<string, string>> => {
    if (grant !== undefined) return { "assay-grant": grant };
    return known ? bearer(signal) : {};
  };
  return {
    url: options.url.replace(/\/+$/, ""),
    transport,
    suite: options.suite ?? nobleSuite,
    now,
    payer: options.payer,
    known,
    token,
    bearer,
    access,
    owner: async (signal) => {
      await token(signal);
      return (await held)?.owner;
    },
    bundle: async (id, of = {}) => {
      const path = `/v1/receipts/${checkReceiptId(id)}/bundle?waitMs=${of.waitMs ?? DEFAULT_CHECKPOINT_WAIT_MS}`;
      return transport.bytes({ method: "GET", path, headers: await access(of), signal: of.signal }, LIMIT.bundleBytes);
    },
  };
}
