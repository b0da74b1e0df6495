import { utf8ToBytes } from "@assay/core";

/** Longest segment and path, bytes of UTF-8: what common file systems and registries take. */
export const MAX_SEGMENT_BYTES = 255;
export const MAX_PATH_BYTES = 1024;

/**
 * Why `path` may not name a file of a model, or `undefined` when it may. A path is relative, uses forward slashes
 * and has no empty, `.` or `..` segment, no backslash, no control character and no unpaired surrogate, so that it
 * means the same on every system and cannot leave the directory it is materialised in.
 */
export function pathFault(path: string): string | undefined {
  if (path === "") return "it is empty";
  if (path.startsWith("/")) return "it is absolute";
  if (/^[A-Za-z]:/.test(path)) return "it starts with a drive letter";
  if (path.includes("\\")) return "it has a backslash";
  // oxlint-disable-next-line no-control-regex -- control characters are what is being refused
  if (/[\u0000-\u001f\u007f-\u009f]/.test(path)) return "it has a control character";
  if (/\p{Surrogate}/u.test(path)) return "it is not well-formed Unicode";
  for (const segment of path.split("/")) {
    if (segment === "") return "it has an empty segment";
    if (segment === "." || segment === "..") return `it has a segment "${segment}"`;
    if (utf8ToBytes(segment).length > MAX_SEGMENT_BYTES) return `a segment is longer than ${MAX_SEGMENT_BYTES} bytes`;
  }
  if (utf8ToBytes(path).length > MAX_PATH_BYTES) return `it is longer than ${MAX_PATH_BYTES} bytes`;
  return undefined;
}
