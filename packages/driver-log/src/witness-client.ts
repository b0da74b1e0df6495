import { AssayError, isAssayError } from "@assay/core";
import type { CheckpointNote } from "@assay/protocol";
import { formatAddCheckpoint, MAX_NOTE_CHARS, parseDecimal, TREE_SIZE_MEDIA_TYPE } from "@assay/tlog";

/** The part of `fetch` that the client uses, so that tests and proxies share one seam. */
export type HttpPost = (
  url: string,
  body: string,
  signal: AbortSignal,
) => Promise<{ readonly status: number; readonly contentType: string; readonly body: string }>;

/** Where a witness takes submissions, without the final slash, and what it cosigned last as far as we know. */
export type WitnessTarget = { readonly url: string; readonly knownSize?: number };

/** What became of a submission to one witness. */
export type WitnessOutcome =
  | { readonly url: string; readonly ok: true; readonly size: number; readonly lines: string }
  | {
      readonly url: string;
      readonly ok: false;
      /** `witness_unreachable`, `witness_ahead` (it has cosigned a larger tree than ours) or `witness_refused`. */
      readonly error: AssayError;
    };

/** A witness answers from memory or one file; longer waits would hold up the next checkpoint. */
const TIMEOUT_MS = 5000;

/**
 * Submits a checkpoint to every witness at once. A witness that answers 409 is asked once more with the size it names.
 * Never rejects: each outcome is a value. Hand `lines` to {@link FileLog.cosign}, which verifies them, and remember
 * `size` as the next `knownSize`.
 */
export async function submitToWitnesses(
  checkpoint: CheckpointNote,
  targets: readonly WitnessTarget[],
  log: { consistencyProof(oldSize: number, newSize: number): Promise<readonly Uint8Array[]> },
  post: HttpPost,
): Promise<readonly WitnessOutcome[]> {
  return Promise.all(
    targets.map(async ({ url, knownSize = 0 }): Promise<WitnessOutcome> => {
      try {
        return {
          url,
          ok: true,
          size: checkpoint.size,
          lines: await submit(checkpoint, url, knownSize, log, post, true),
        };
      } catch (cause) {
        const unreachable = new AssayError("witness_unreachable", `The witness at ${host(url)} did not answer.`, {
          cause,
        });
        return { url, ok: false, error: isAssayError(cause) ? cause : unreachable };
      }
    }),
  );
}

async function submit(
  checkpoint: CheckpointNote,
  url: string,
  oldSize: number,
  log: { consistencyProof(oldSize: number, newSize: number): Promise<readonly Uint8Array[]> },
  post: HttpPost,
  mayRetry: boolean,
): Promise<string> {
  if (oldSize > checkpoint.size) {
    throw new AssayError(
      "witness_ahead",
      `The witness at ${host(url)} has cosigned ${oldSize} records, we have ${checkpoint.size}.`,
      {
        hints: ["Either a newer checkpoint was submitted meanwhile, or this log has lost records."],
      },
    );
  }
  const proof = await log.consistencyProof(oldSize, checkpoint.size);
  const body = formatAddCheckpoint({ oldSize, proof, note: checkpoint.note });
  const answer = await post(`${url}/add-checkpoint`, body, AbortSignal.timeout(TIMEOUT_MS));
  if (answer.status === 200 && answer.body.length <= MAX_NOTE_CHARS) return answer.body;
  if (answer.status === 409 && mayRetry && answer.contentType.startsWith(TREE_SIZE_MEDIA_TYPE)) {
    const size = answer.body.endsWith("\n") ? parseDecimal(answer.body.slice(0, -1)) : undefined;
    if (size !== undefined) return submit(checkpoint, url, size, log, post, false);
  }
  throw new AssayError("witness_refused", `The witness at ${host(url)} answered ${answer.status}.`, {
    hints: [answer.body.slice(0, 200).trim()].filter((hint) => hint !== ""),
  });
}

// Credentials in a URL must not reach a message.
function host(url: string): string {
  return URL.canParse(url) ? new URL(url).host : "an unreadable address";
}
