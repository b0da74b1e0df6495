import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { ortError } from "./errors.ts";
import { externalFiles, inlineExternalData } from "./external-data.ts";

/** A file beside the model that holds weights. `path` is relative to the model's directory, with forward slashes. */
export type ModelFile = { readonly path: string; readonly sha256: string };

export type ModelSource = {
  /** Absolute path of the `.onnx` file, in a directory that nobody else writes to. */
  readonly path: string;
  readonly sha256: string;
  readonly files: readonly ModelFile[];
  /** Bytes of the model and its weights together. */
  readonly maxBytes: number;
};

/**
 * The model as one byte string whose every part was hashed after it was read, so what the engine gets is what was
 * checked. External weights are copied into the model; engines never open a file. Refuses with
 * `model_digest_mismatch`, or `model_invalid` for links, anything but plain files, paths that leave the directory,
 * files that are not listed, bad ranges and models past `maxBytes`.
 */
export function readModel({ path, sha256, files, maxBytes }: ModelSource): Uint8Array {
  if (!isAbsolute(path)) throw ortError("model_invalid", "The model's path is not absolute.");
  const model = readVerified(path, sha256, "The model file", maxBytes);
  const needed = externalFiles(model);
  if (needed.length === 0) return model;
  const weights = new Map<string, Uint8Array>();
  let left = maxBytes - model.length;
  for (const location of needed) {
    const listed = files.find((file) => file.path === location);
    if (listed === undefined) {
      throw ortError(
        "model_invalid",
        `The model takes weights from ${quoted(location)}, which is not one of its files.`,
      );
    }
    const bytes = readVerified(inside(dirname(path), location), listed.sha256, `The file ${quoted(location)}`, left);
    left -= bytes.length;
    weights.set(location, bytes);
  }
  return inlineExternalData(model, weights, maxBytes);
}

/** The file's path, once every step down to it is known to be a real directory inside `directory`. */
function inside(directory: string, location: string): string {
  const steps = location.split("/");
  const bad = steps.some((step) => step === "" || step === "." || step === ".." || /[\\\0]/.test(step));
  if (bad) throw ortError("model_invalid", `The path ${quoted(location)} does not stay in the model's directory.`);
  let at = directory;
  for (const step of steps.slice(0, -1)) {
    at = join(at, step);
    const found = lstatSync(at, { throwIfNoEntry: false });
    if (found?.isDirectory() !== true) {
      throw ortError("model_invalid", `A step of the path ${quoted(location)} is not a directory.`);
    }
  }
  return join(directory, location);
}

function readVerified(path: string, sha256: string, what: string, maxBytes: number): Uint8Array {
  const bytes = readPlain(path, what, maxBytes);
  const actual = createHash("sha256").update(bytes).digest("hex");
  if (actual !== sha256) {
    throw ortError("model_digest_mismatch", `${what} does not have the digest it was asked for by.`, [
      `Asked for ${sha256}, found ${actual}.`,
    ]);
  }
  return bytes;
}

function readPlain(path: string, what: string, maxBytes: number): Uint8Array {
  let descriptor: number;
  try {
    // Not following a link and not waiting for the writer of a pipe are decided by the kernel at opening.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw ortError("model_invalid", `${what} cannot be opened as a plain file.`, ["Links are not followed."], cause);
  }
  try {
    const found = fstatSync(descriptor);
    if (!found.isFile()) throw ortError("model_invalid", `${what} is not a plain file.`);
    if (found.nlink !== 1) {
      throw ortError("model_invalid", `${what} is one of several links to its content.`, [
        "Copy models into a fresh directory: a hard link can be written to from outside it.",
      ]);
    }
    if (found.size > maxBytes) {
      throw ortError("model_invalid", `${what} has ${found.size} bytes where at most ${maxBytes} are allowed.`);
    }
    const bytes = Buffer.allocUnsafeSlow(found.size);
    let at = 0;
    while (at < bytes.length) {
      const read = readSync(descriptor, bytes, at, bytes.length - at, null);
      if (read === 0) throw ortError("model_invalid", `${what} became shorter while it was read.`);
      at += read;
    }
    return bytes;
  } finally {
    closeSync(descriptor);
  }
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
