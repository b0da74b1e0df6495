import type { IncomingMessage } from "node:http";
import { AssayError } from "@assay/core";

/** Bytes of bodies that may stand in memory together, shared by requests of one kind. */
export type BodyBudget = {
  /** Whether `bytes` more fit; they are then taken. */
  readonly take: (bytes: number) => boolean;
  readonly give: (bytes: number) => void;
};

export type BodyLimits = {
  readonly maxBytes: number;
  /** What would be right when the body is too large. */
  readonly hint: string;
  /** Taken from as bytes arrive; the caller gives back what {@link readBody} resolved to, when it is done with it. */
  readonly budget?: BodyBudget;
};

/** A budget of `maxBytes`. */
export function createBodyBudget(maxBytes: number): BodyBudget {
  let taken = 0;
  return {
    take(bytes) {
      if (taken + bytes > maxBytes) return false;
      taken += bytes;
      return true;
    },
    give(bytes) {
      taken -= bytes;
    },
  };
}

/**
 * Reads a body within its limits. Throws `request_too_large`, without reading on, `request_aborted`, or
 * `gateway_overloaded` when the budget has no room; nothing stays taken from the budget then.
 */
export function readBody(request: IncomingMessage, limits: BodyLimits): Promise<Uint8Array> {
  const { maxBytes, budget } = limits;
  const declared = Number(request.headers["content-length"] ?? 0);
  const tooLarge = (): AssayError =>
    new AssayError("request_too_large", `The request's body is larger than ${maxBytes} bytes.`, {
      hints: [limits.hint],
    });
  if (declared > maxBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let taken = 0;
    let over = false;
    const fail = (error: AssayError): void => {
      if (over) return;
      over = true;
      // What was gathered is let go now; the rest is the server's to discard.
      chunks.length = 0;
      budget?.give(taken);
      request.off("data", take);
      request.pause();
      reject(error);
    };
    const take = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > maxBytes) {
        fail(tooLarge());
        return;
      }
      if (budget) {
        if (!budget.take(chunk.length)) {
          fail(
            new AssayError("gateway_overloaded", "Too many large requests are under way.", {
              hints: ["Send the request again after a moment."],
            }),
          );
          return;
        }
        taken += chunk.length;
      }
      chunks.push(chunk);
    };
    request.on("data", take);
    request.on("end", () => {
      if (over) return;
      over = true;
      const [only] = chunks;
      resolve(chunks.length === 1 && only ? only : Buffer.concat(chunks, size));
    });
    request.on("aborted", () =>
      fail(new AssayError("request_aborted", "The client went away before its request had arrived.")),
    );
    request.on("error", (cause) =>
      fail(new AssayError("request_aborted", "The request could not be read to its end.", { cause })),
    );
  });
}
