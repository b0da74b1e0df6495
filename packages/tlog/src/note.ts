import { AssayError, base64ToBytes, bytesToBase64, bytesToUtf8, concatBytes } from "@assay/core";
import { hasControlCharacter } from "./chars.ts";
import { isKeyName, readUint32 } from "./note-key.ts";

/** A signature line of a note: who claims to have signed, and the bytes after the four of the key id. */
export type NoteSignature = { readonly name: string; readonly id: number; readonly signature: Uint8Array };

/** A signed note taken apart. `text` ends in a newline; nothing about it is verified. */
export type Note = { readonly text: string; readonly signatures: readonly NoteSignature[] };

/** Longest note, characters: room for 64 post-quantum signature lines beside a short text. */
export const MAX_NOTE_CHARS = 512 * 1024;
/** Most signature lines. Signed-note asks verifiers to take at least 16; each may cost a verification. */
export const MAX_NOTE_SIGNATURES = 64;
/** Longest line, characters: the largest standard post-quantum signatures are near 5 kB, 6.7 kB in base64. */
export const MAX_NOTE_LINE_CHARS = 8192;

const DASH = "\u2014 ";

/**
 * Takes a signed note apart (C2SP signed-note, "Format"). Throws `note_malformed` for control characters, a lone
 * surrogate or malformed UTF-8, a missing blank line or final newline, no signature line, a malformed one, and
 * for whatever crosses a limit.
 */
export function parseNote(note: string | Uint8Array): Note {
  if (note.length > 4 * MAX_NOTE_CHARS) throw malformed("it is too long");
  const whole = typeof note === "string" ? note : textOf(note);
  if (whole.length > MAX_NOTE_CHARS) throw malformed("it is too long");
  // \p{Cs} matches only surrogates without a partner when the pattern is read by code points.
  if (hasControlCharacter(whole, "\n") || /\p{Cs}/u.test(whole))
    throw malformed("it has control characters or half characters");
  const blank = whole.lastIndexOf("\n\n");
  if (blank < 0) throw malformed("no blank line separates text and signatures");
  const text = whole.slice(0, blank + 1);
  const tail = whole.slice(blank + 2);
  if (text.split("\n").some((line) => line.length > MAX_NOTE_LINE_CHARS)) throw malformed("a line is too long");
  return { text, signatures: parseSignatureLines(tail) };
}

/** The signature lines of `lines`, each ending in a newline; at least one. Throws `note_malformed`. */
export function parseSignatureLines(lines: string): NoteSignature[] {
  if (!lines.endsWith("\n")) throw malformed("it does not end in a signature line and a newline");
  const rows = lines.slice(0, -1).split("\n", MAX_NOTE_SIGNATURES + 1);
  if (rows.length > MAX_NOTE_SIGNATURES) throw malformed(`it has more than ${MAX_NOTE_SIGNATURES} signatures`);
  return rows.map(parseSignatureLine);
}

function parseSignatureLine(line: string): NoteSignature {
  if (line.length > MAX_NOTE_LINE_CHARS) throw malformed("a line is too long");
  const space = line.indexOf(" ", DASH.length);
  const name = line.slice(DASH.length, space);
  if (!line.startsWith(DASH) || space < 0 || !isKeyName(name)) throw malformed("a signature line has another form");
  let bytes: Uint8Array;
  try {
    bytes = base64ToBytes(line.slice(space + 1));
  } catch (cause) {
    throw malformed("a signature is not base64", cause);
  }
  if (bytes.length < 5) throw malformed("a signature is too short");
  return { name, id: readUint32(bytes, 0), signature: bytes.slice(4) };
}

/** A signature line with its newline. */
export function formatSignatureLine(signature: NoteSignature): string {
  const { id } = signature;
  const head = new Uint8Array([id >>> 24, (id >>> 16) & 0xff, (id >>> 8) & 0xff, id & 0xff]);
  return `${DASH}${signature.name} ${bytesToBase64(concatBytes(head, signature.signature))}\n`;
}

/** The note of `text` (which ends in a newline) and its signatures. Throws `note_malformed` when it would not parse. */
export function formatNote(note: Note): string {
  const whole = `${note.text}\n${note.signatures.map(formatSignatureLine).join("")}`;
  const parsed = parseNote(whole);
  if (parsed.text !== note.text) throw malformed("its text does not end in exactly one newline");
  return whole;
}

function textOf(bytes: Uint8Array): string {
  try {
    return bytesToUtf8(bytes);
  } catch (cause) {
    throw malformed("it is not UTF-8", cause);
  }
}

function malformed(reason: string, cause?: unknown): AssayError<"note_malformed"> {
  return new AssayError("note_malformed", `The signed note is malformed: ${reason}.`, { cause });
}
