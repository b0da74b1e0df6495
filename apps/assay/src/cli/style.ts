import { styleText } from "node:util";
import type { Sink } from "./world.ts";

/** How a check came out, and as which kind of evidence it is drawn. */
type MarkStatus = "pass" | "fail" | "inconclusive" | "absent";
export type MarkKind = "enclave" | "proof" | "other";

/** Text for one stream: colours where it has them, and characters that it can show. */
export type Style = {
  /** Characters of a line that text may fill. */
  readonly width: number;
  readonly strong: (text: string) => string;
  readonly faint: (text: string) => string;
  /** The seal colour, for "verified here" and nothing else. */
  readonly seal: (text: string) => string;
  readonly wait: (text: string) => string;
  readonly fail: (text: string) => string;
  readonly mark: (kind: MarkKind, status: MarkStatus) => string;
  /** Shortens an identifier to ten and six characters around an ellipsis. */
  readonly id: (text: string) => string;
  readonly dash: string;
};

// State is shape first: square enclave, diamond proof, circle everything else; solid holds, dashed waits, hollow is
// not due, a cross failed.
const MARKS: Record<MarkKind, Record<Exclude<MarkStatus, "fail">, readonly [string, string]>> = {
  enclave: { pass: ["■", "#"], inconclusive: ["⬚", "?"], absent: ["□", "-"] },
  proof: { pass: ["◆", "+"], inconclusive: ["◈", "?"], absent: ["◇", "-"] },
  other: { pass: ["●", "*"], inconclusive: ["◌", "?"], absent: ["○", "-"] },
};
const CROSS = ["✕", "x"] as const;

/** Lines longer than this are tiring to read, however wide the terminal. */
const MAX_WIDTH = 100;
const MIN_WIDTH = 48;

/** The style that suits a stream. */
export function styleFor(sink: Sink): Style {
  type Format = Parameters<typeof styleText>[0];
  const paint = (format: Format) => (text: string) =>
    sink.colour ? styleText(format, text, { validateStream: false }) : text;
  const faint = paint("dim");
  const seal = paint("green");
  const wait = paint("yellow");
  const fail = paint("red");
  const variant = sink.unicode ? 0 : 1;
  const paintOf: Record<MarkStatus, (text: string) => string> = { pass: seal, fail, inconclusive: wait, absent: faint };
  return {
    width: Math.max(MIN_WIDTH, Math.min(MAX_WIDTH, sink.columns)),
    strong: paint("bold"),
    faint,
    seal,
    wait,
    fail,
    mark: (kind, status) => paintOf[status]((status === "fail" ? CROSS : MARKS[kind][status])[variant]),
    id: (text) => (text.length > 20 ? `${text.slice(0, 10)}${sink.unicode ? "…" : "..."}${text.slice(-6)}` : text),
    dash: sink.unicode ? "–" : "-",
  };
}

// Colour sequences take no room on a line; those are all that this program writes.
const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g");

/** Columns that `text` takes: code points outside colour sequences. */
export function visibleLength(text: string): number {
  return Array.from(text.replaceAll(ESCAPES, "")).length;
}

/** `text` padded with spaces to `columns`. */
export function pad(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - visibleLength(text)));
}

/** `text` in lines of at most `width`, every line but the first behind `indent` spaces. Long words stay whole. */
export function wrap(text: string, width: number, indent = 0): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (line !== "" && visibleLength(longer) + indent > width) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  lines.push(line);
  return lines.join(`\n${" ".repeat(indent)}`);
}

/** Rows of label and text, labels in one column, text wrapped beside it. */
export function facts(rows: readonly (readonly [string, string])[], style: Style, indent = 2): string {
  const column = indent + Math.max(...rows.map(([label]) => visibleLength(label))) + 2;
  return rows
    .map(([label, text]) => {
      const lead = " ".repeat(indent) + style.faint(label);
      return pad(lead, column) + wrap(text, style.width, column);
    })
    .join("\n");
}

/** Columns of a table; the header is faint, numbers stand right. */
export function table(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  style: Style,
  options: { readonly right?: readonly number[] } = {},
): string {
  const widths = header.map((title, column) =>
    Math.max(visibleLength(title), ...rows.map((row) => visibleLength(row[column] ?? ""))),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return options.right?.includes(column) ? " ".repeat(width - visibleLength(cell)) + cell : pad(cell, width);
      })
      .join("  ")
      .trimEnd();
  return [line(header.map((title) => style.faint(title))), ...rows.map(line)].join("\n");
}

/** Bytes for people: `512 B`, `1.5 kB`, `2.0 MB`. */
export function formatBytes(sizeBytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = sizeBytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? "B"}`;
}

/** A time for people: `2026-11-21 10:00:00 UTC`. */
export function formatTime(ms: number): string {
  return Number.isFinite(ms) && Math.abs(ms) < 8.64e15
    ? `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`
    : "unknown";
}

/** Text from a stranger without characters that move the cursor, change colours or hide. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{C}\u2028\u2029]/gu, "\u{fffd}");
}

const ASCII: Readonly<Record<string, string>> = { "…": "...", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"' };
/** Steps of a line of bars, from nothing to full, as ASCII has them. */
const BARS = "▁▂▃▄▅▆▇█";
const ASCII_BARS = "_.:-=+*#";

/** `text` in ASCII: bars and typography by what looks like them, anything else as a question mark. */
export function toAscii(text: string): string {
  return text.replaceAll(/\P{ASCII}/gu, (char) => ASCII[char] ?? ASCII_BARS[BARS.indexOf(char)] ?? "?");
}
