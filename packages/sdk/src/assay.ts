import { clientOver } from "./client.ts";
import type { Client, InferAnswer, InferRequest } from "./client.ts";
import { createConnection } from "./connection.ts";
import type { CallOptions, ConnectionOptions } from "./connection.ts";
import { textModels } from "./text/bodies.ts";
import type { TextModel } from "./text/bodies.ts";
import { createTextCalls } from "./text/calls.ts";
import type { TextCall, TextCalls } from "./text/calls.ts";
import { createChecker } from "./text/checker.ts";
import type { CheckerOptions } from "./text/checker.ts";
import type { ChatAnswer, ChatRequest, CompletionAnswer, CompletionRequest, VerifyMode } from "./text/requests.ts";
import { checkDecimal } from "./text/send.ts";
import type { SendDefaults } from "./text/send.ts";

/** Where an Assay gateway listens when nobody says otherwise. */
export const DEFAULT_URL = "http://127.0.0.1:8402";

export type AssayOptions = Omit<ConnectionOptions, "url"> &
  CheckerOptions &
  Partial<Omit<SendDefaults, "identified" | "timeoutMs">> & {
    /** The gateway's address; default `http://127.0.0.1:8402`. */
    readonly url?: string;
    /** When answers are let through; default `after`. */
    readonly verify?: VerifyMode;
    /** Milliseconds until the first byte of a language model's answer, and between any two; default 600,000. */
    readonly textTimeoutMs?: number;
  };

/**
 * A client that verifies what it is answered. Without `trust` it takes the gateway's own trust file on first use, which
 * shows that answers are signed and logged and unchanged on their way, but not by whom: verdicts then say
 * `pinned: false`.
 *
 * @example
 * const assay = new Assay({ url: "http://127.0.0.1:8402", trust: trustFile });
 * const answer = await assay.chat({ model: "demo/chat", messages: [{ role: "user", content: "What is 17 + 25?" }] });
 * console.log(answer.text, answer.verified, answer.receiptId);
 */
export class Assay {
  /** A conversation. Throws `receipt_failed`, `receipt_inconclusive`, `receipt_missing` and the gateway's codes. */
  readonly chat: TextCall<ChatRequest, ChatAnswer>;
  /** A text continued; throws as `chat` does. */
  readonly complete: TextCall<CompletionRequest, CompletionAnswer>;
  /** Texts as vectors; throws as `chat` does. */
  readonly embed: TextCalls["embed"];
  /** Everything else that the gateway can do: receipts, models, the log. */
  readonly client: Client;
  readonly #connection: ReturnType<typeof createConnection>;

  /** Throws `gateway_url_invalid`, `trust_invalid` and `parameter_invalid`. */
  constructor(options: AssayOptions = {}) {
    const connection = createConnection({ ...options, url: options.url ?? DEFAULT_URL });
    if (options.maxSpend !== undefined) checkDecimal(options.maxSpend, "maxSpend");
    const identified = options.token !== undefined;
    const checker = createChecker(connection, options);
    const calls = createTextCalls({
      connection,
      checker,
      verify: options.verify ?? "after",
      defaults: {
        ...(options.routing ? { routing: options.routing } : {}),
        ...(options.maxSpend === undefined ? {} : { maxSpend: options.maxSpend }),
        ...(options.textTimeoutMs === undefined ? {} : { timeoutMs: options.textTimeoutMs }),
        identified,
        randomBytes: options.randomBytes ?? randomBytes,
      },
    });
    this.chat = calls.chat;
    this.complete = calls.complete;
    this.embed = calls.embed;
    this.client = clientOver(connection, options.verify === "off" ? undefined : checker.verify, identified);
    this.#connection = connection;
  }

  /** Runs a model over tensors. Throws `receipt_failed`; a verdict that is inconclusive is told by the answer. */
  infer(request: InferRequest): Promise<InferAnswer> {
    return this.client.infer(request);
  }

  /** Models that answer text, of the hub, of upstreams and contracts, in OpenAI's words. */
  async models({ signal }: CallOptions = {}): Promise<readonly TextModel[]> {
    const { transport, known, bearer } = this.#connection;
    const headers = known ? await bearer(signal) : {};
    return textModels(await transport.json({ method: "GET", path: "/v1/models", headers, signal }));
  }
}

function randomBytes(length: number): Uint8Array {
  return globalThis.crypto.getRandomValues(new Uint8Array(length));
}
