import { concatBytes } from "@assay/core";

/**
 * A bundle as a tree of regions, written against RFC 8949 and apart from the decoder under test. Every byte belongs to
 * one leaf or to one frame (the head of an item, a map's key), and any part can be replaced, left out or doubled with
 * the lengths around it set right again.
 */
export type Region = {
  /** For example `statements[0].envelope.protected`. */
  readonly path: string;
  readonly kind: "map" | "array" | "tag" | "bytes" | "text" | "other" | "line";
  readonly start: number;
  /** Where the content begins, after the head. */
  readonly content: number;
  readonly end: number;
  /** Major type and argument of the head. */
  readonly major: number;
  readonly argument: number;
  /** Items of a container, the item within a byte string that holds CBOR, or the lines of a checkpoint. */
  readonly children: readonly Region[];
  /** Encoded keys of a map's children, in their order. */
  readonly keys: readonly Uint8Array[];
};

/** Byte strings that hold CBOR themselves, and the names of an envelope's four parts. */
const EMBEDDED = /\.envelope$/;
const ENVELOPE_PARTS = ["protected", "unprotected", "payload", "signature"];
const CHECKPOINT = /^checkpoints\[\d+\]$/;
const KINDS = ["other", "other", "bytes", "text", "array", "map", "tag", "other"] as const;

export function regionsOf(bytes: Uint8Array): Region {
  const tree = readItem(bytes, 0, "");
  if (tree.end !== bytes.length) throw new Error("Bytes follow the bundle.");
  return tree;
}

function readItem(bytes: Uint8Array, start: number, path: string): Region {
  const first = bytes[start] ?? 0;
  const major = first >> 5;
  const info = first & 31;
  const extra = info < 24 ? 0 : 1 << (info - 24);
  let argument = extra === 0 ? info : 0;
  for (let i = 0; i < extra; i++) argument = argument * 256 + (bytes[start + 1 + i] ?? 0);
  const content = start + 1 + extra;
  const kind = KINDS[major] ?? "other";
  const base = { path, kind, start, content, major, argument };
  const leaf = (end: number): Region => ({ ...base, end, children: [], keys: [] });
  switch (kind) {
    case "bytes": {
      if (!EMBEDDED.test(path)) return leaf(content + argument);
      const inner = readItem(bytes, content, path.replace(/$/, ":"));
      return { ...base, end: content + argument, children: [inner], keys: [] };
    }
    case "text":
      return CHECKPOINT.test(path)
        ? { ...base, end: content + argument, children: linesOf(bytes, content, content + argument, path), keys: [] }
        : leaf(content + argument);
    case "array":
    case "tag": {
      const children: Region[] = [];
      let at = content;
      for (let i = 0; i < (kind === "tag" ? 1 : argument); i++) {
        const child = readItem(bytes, at, childPath(path, kind, i));
        children.push(child);
        at = child.end;
      }
      return { ...base, end: at, children, keys: [] };
    }
    case "map": {
      const children: Region[] = [];
      const keys: Uint8Array[] = [];
      let at = content;
      for (let i = 0; i < argument; i++) {
        const key = readItem(bytes, at, "");
        const encoded = bytes.slice(key.start, key.end);
        keys.push(encoded);
        const name = new TextDecoder().decode(encoded.subarray(key.content - key.start));
        const child = readItem(bytes, key.end, path === "" ? name : `${path}.${name}`);
        children.push(child);
        at = child.end;
      }
      return { ...base, end: at, children, keys };
    }
    default:
      return leaf(content);
  }
}

function childPath(path: string, kind: "array" | "tag", index: number): string {
  if (kind === "tag") return path;
  return path.endsWith(":") ? `${path.slice(0, -1)}.${ENVELOPE_PARTS[index] ?? "more"}` : `${path}[${index}]`;
}

// A checkpoint's body is one region and each signature line another.
function linesOf(bytes: Uint8Array, from: number, to: number, path: string): Region[] {
  const text = Buffer.from(bytes.subarray(from, to));
  const border = text.lastIndexOf("\n\n") + 2;
  const line = (name: string, start: number, end: number): Region => ({
    path: `${path}.${name}`,
    kind: "line",
    start,
    content: start,
    end,
    major: 0,
    argument: 0,
    children: [],
    keys: [],
  });
  const out = [line("body", from, from + border)];
  let at = border;
  while (at < text.length) {
    const end = text.indexOf("\n", at) + 1 || text.length;
    out.push(line(`signature${out.length - 1}`, from + at, from + end));
    at = end;
  }
  return out;
}

/** All regions below and including `region`, parents before children. */
export function everyRegion(region: Region): Region[] {
  return [region, ...region.children.flatMap(everyRegion)];
}

/** For each byte of the bundle, the path of its leaf, or its container's path and `#` for a frame. */
export function ownersOf(tree: Region, length: number): string[] {
  const owners: string[] = Array.from({ length });
  for (const region of everyRegion(tree)) {
    const isLeaf = region.children.length === 0 && region.kind !== "map" && region.kind !== "array";
    for (let at = region.start; at < region.end; at++) {
      owners[at] = isLeaf && (at >= region.content || region.kind === "other") ? region.path : `${region.path}#`;
    }
  }
  return owners;
}

/** What to do with one region when the bundle is written again. */
export type Change =
  | { readonly at: Region; readonly content: Uint8Array }
  | { readonly at: Region; readonly remove: true }
  | { readonly at: Region; readonly twice: true };

/** The bundle with one change; lengths and counts around it are right. */
export function rewrite(bytes: Uint8Array, region: Region, change: Change): Uint8Array {
  if (region === change.at && "content" in change) {
    // Integers and lines have no content apart from themselves.
    if (region.kind === "other" || region.kind === "line") return change.content;
    return concatBytes(head(region.major, change.content.length), change.content);
  }
  if (!everyRegion(region).includes(change.at)) return bytes.slice(region.start, region.end);
  const items = region.children.flatMap((child, i) => {
    const key = region.keys[i] ?? new Uint8Array();
    if (child !== change.at || "content" in change) return [concatBytes(key, rewrite(bytes, child, change))];
    const item = concatBytes(key, bytes.subarray(child.start, child.end));
    return "remove" in change ? [] : [item, item];
  });
  const content = concatBytes(...items);
  if (region.kind === "tag") return concatBytes(head(6, region.argument), content);
  const counted = region.kind === "map" || region.kind === "array";
  return concatBytes(head(region.major, counted ? items.length : content.length), content);
}

function head(major: number, argument: number): Uint8Array {
  const top = major << 5;
  if (argument < 24) return new Uint8Array([top | argument]);
  if (argument < 0x100) return new Uint8Array([top | 24, argument]);
  if (argument < 0x10000) return new Uint8Array([top | 25, argument >> 8, argument & 255]);
  return new Uint8Array([top | 26, argument >>> 24, (argument >> 16) & 255, (argument >> 8) & 255, argument & 255]);
}
