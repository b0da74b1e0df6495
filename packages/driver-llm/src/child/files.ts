import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { LanguageModelFiles } from "@assay/protocol";
import { llmError } from "../errors.ts";
import { MAX_CONFIG_BYTES } from "../limits.ts";
import { isObject } from "../json.ts";
import type { JsonObject } from "../json.ts";

/** Pieces in which a file too large for memory is hashed. */
const HASH_CHUNK = 4 * 1024 ** 2;

/** Files of one model, each re-hashed as it is read. */
export type ModelFolder = {
  readonly has: (path: string) => boolean;
  /** The file's bytes, after their digest was compared. */
  readonly read: (path: string, maxBytes: number) => Uint8Array;
  /** The file's path, after its digest was compared: for what the engine opens itself. */
  readonly verified: (path: string) => string;
  readonly json: (path: string, maxBytes?: number) => JsonObject | undefined;
};

/**
 * The files of a model in a folder that nobody else writes to. Everything throws `model_digest_mismatch` when a file's
 * bytes are not those of its digest, and `model_invalid` when it is missing, a link, too large or leaves the folder.
 */
export function openModelFolder(model: LanguageModelFiles): ModelFolder {
  const listed = new Map(model.files.map((file) => [file.path, file]));

  const open = <T>(path: string, use: (descriptor: number, size: number) => T): T => {
    const steps = path.split("/");
    if (steps.some((step) => step === "" || step === "." || step === ".." || /[\\\0]/.test(step))) {
      throw llmError("model_invalid", `The path ${JSON.stringify(path)} does not stay in the model's folder.`);
    }
    let descriptor: number;
    try {
      descriptor = openSync(
        join(model.directory, path),
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
    } catch (cause) {
      throw llmError("model_invalid", `The model's file ${path} cannot be opened as a plain file.`, [], cause);
    }
    try {
      const found = fstatSync(descriptor);
      if (!found.isFile()) throw llmError("model_invalid", `The model's file ${path} is not a plain file.`);
      return use(descriptor, found.size);
    } finally {
      closeSync(descriptor);
    }
  };
  const entry = (path: string): { readonly sha256: string; readonly sizeBytes: number } => {
    const found = listed.get(path);
    if (found === undefined) throw llmError("model_invalid", `The model has no file ${path}.`);
    return found;
  };
  const compare = (path: string, actual: string): void => {
    const { sha256 } = entry(path);
    if (actual === sha256) return;
    throw llmError(
      "model_digest_mismatch",
      `The model's file ${path} does not have the digest that its manifest states.`,
      [`The manifest states ${sha256}, the file has ${actual}.`],
    );
  };
  const read = (path: string, maxBytes: number): Uint8Array => {
    entry(path);
    return open(path, (descriptor, size) => {
      if (size > maxBytes) {
        throw llmError(
          "model_invalid",
          `The model's file ${path} has ${size} bytes where at most ${maxBytes} are allowed.`,
        );
      }
      const bytes = Buffer.allocUnsafeSlow(size);
      let at = 0;
      while (at < size) {
        const got = readSync(descriptor, bytes, at, size - at, null);
        if (got === 0) throw llmError("model_invalid", `The model's file ${path} became shorter while it was read.`);
        at += got;
      }
      compare(path, createHash("sha256").update(bytes).digest("hex"));
      return bytes;
    });
  };

  return {
    has: (path) => listed.has(path),
    read,
    verified: (path) => {
      open(path, (descriptor) => {
        const hash = createHash("sha256");
        const piece = Buffer.allocUnsafe(HASH_CHUNK);
        for (let got = 1; got > 0;) {
          got = readSync(descriptor, piece, 0, piece.length, null);
          hash.update(piece.subarray(0, got));
        }
        compare(path, hash.digest("hex"));
      });
      return join(model.directory, path);
    },
    json: (path, maxBytes = MAX_CONFIG_BYTES) => {
      if (!listed.has(path)) return undefined;
      const bytes = read(path, maxBytes);
      let value: JsonValue;
      try {
        value = parseJson(bytes, { maxBytes, maxDepth: 64 });
      } catch (cause) {
        throw llmError("model_invalid", `The model's file ${path} is not readable JSON.`, [], cause);
      }
      if (!isObject(value)) throw llmError("model_invalid", `The model's file ${path} is no JSON object.`);
      return value;
    },
  };
}
