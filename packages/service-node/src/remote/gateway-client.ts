import { AssayError, isAssayError, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import { parseMessage } from "@assay/protocol";
import type { MessageSchema, Read } from "@assay/protocol";

/** The few calls that a node makes, over whatever fetch the process has. */
export type Fetch = (
  url: string,
  init: {
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body?: string;
    readonly signal: AbortSignal;
    readonly redirect: "error";
  },
) => Promise<Response>;

const TIMEOUT_MS = 10_000;
/** The largest answer is a list of outcomes or of gaps. */
const MAX_ANSWER_BYTES = 256 * 1024;

/** Calls of one gateway, with JSON in and out. */
export type GatewayClient = {
  readonly post: <Schema extends MessageSchema>(
    path: string,
    body: unknown,
    schema: Schema,
    options?: { readonly bearer?: string; readonly timeoutMs?: number },
  ) => Promise<Read<Schema>>;
};

/**
 * Makes a client of the gateway at `url`. Throws `gateway_url_invalid` for anything but an https address, or http on
 * this machine; http elsewhere would show the node's secret and its sessions to the network, and takes `allowPlain`.
 */
export function createGatewayClient(url: string, fetch: Fetch, allowPlain = false): GatewayClient {
  const base = checkedUrl(url, allowPlain);
  return {
    async post(path, body, schema, options = {}) {
      let response: Response;
      let bytes: Uint8Array;
      try {
        response = await fetch(`${base}${path}`, {
          method: "POST",
          headers: {
            "content-type": "application/json",
            ...(options.bearer === undefined ? {} : { authorization: `Bearer ${options.bearer}` }),
          },
          body: JSON.stringify(body),
          signal: AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS),
          // The bearer is for this gateway, not for where somebody would send us.
          redirect: "error",
        });
        bytes = await readAll(response);
      } catch (cause) {
        if (isAssayError(cause)) throw cause;
        throw new AssayError("gateway_unreachable", `The gateway at ${base} does not answer.`, { cause });
      }
      if (!response.ok) throw refusal(response.status, bytes);
      return parseMessage(schema, bytes, { maxBytes: MAX_ANSWER_BYTES, maxDepth: 8 });
    },
  };
}

/** The address without a slash at its end. */
export function checkedUrl(url: string, allowPlain: boolean): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw new AssayError("gateway_url_invalid", `${JSON.stringify(url.slice(0, 200))} is not an address.`, { cause });
  }
  const local = ["127.0.0.1", "[::1]", "localhost"].includes(parsed.hostname);
  if (parsed.protocol !== "https:" && !(parsed.protocol === "http:" && (local || allowPlain))) {
    throw new AssayError("gateway_url_invalid", "A gateway on another machine is reached over https.", {
      hints: ["Secrets and sessions would cross the network in the open."],
    });
  }
  return url.replace(/\/+$/, "");
}

async function readAll(response: Response): Promise<Uint8Array> {
  if (!response.body) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES)
      throw new AssayError("node_message_invalid", `The gateway's answer is longer than ${MAX_ANSWER_BYTES} bytes.`);
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks, size));
}

/** The gateway's own error, as it says it; another one when its answer is not of our kind. */
function refusal(status: number, bytes: Uint8Array): AssayError {
  try {
    const value = parseJson(bytes, { maxBytes: MAX_ANSWER_BYTES, maxDepth: 8 });
    const { code, error, hints } = value as { code?: JsonValue; error?: JsonValue; hints?: JsonValue };
    if (typeof code === "string" && /^[a-z][a-z0-9_]{0,63}$/.test(code) && typeof error === "string") {
      const texts = Array.isArray(hints) ? hints.filter((hint): hint is string => typeof hint === "string") : [];
      return new AssayError(code, error.slice(0, 1000), { hints: texts.slice(0, 8) });
    }
  } catch {
    // Not JSON: whatever stands in front of the gateway answered.
  }
  return new AssayError("gateway_unreachable", `The gateway answered with status ${status}.`);
}
