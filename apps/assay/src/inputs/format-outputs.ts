import type { JsonValue } from "@assay/core";
import type { Tensor } from "@assay/protocol";
import { decodeElements } from "./elements.ts";
import type { Element } from "./elements.ts";
import { describeType } from "./input-error.ts";
import type { PreprocessingDocument } from "./preprocessing.ts";
import { elementCount } from "./shapes.ts";

export type FormatOptions = {
  /** The model's document, whose `outputs` say what classes and frames mean. */
  readonly document?: PreprocessingDocument;
  /** How many classes to list; 3 unless told. */
  readonly topK?: number;
  /** Characters of a line; 80 unless told. */
  readonly width?: number;
};

/** Values written out as they are; more are summarised. */
const MAX_LISTED = 16;
/** Rows of a batch shown one by one. */
const MAX_ROWS = 16;
const BAR_WIDTH = 24;
/** How far a row may be from 1 in sum and still read as probabilities: float32 rounding of a thousand classes. */
const SUM_TOLERANCE = 1e-3;
/** Types that probabilities come in; two flags of which one is set are none. */
const FLOATS: ReadonlySet<string> = new Set(["FP16", "BF16", "FP32", "FP64"]);
const LEVELS = "▁▂▃▄▅▆▇█";

type Outputs = PreprocessingDocument["outputs"][number];
type Classes = Extract<Outputs, { kind: "classes" }>;
type Frames = Extract<Outputs, { kind: "frames" }>;

/**
 * The outputs as short text for people: the likeliest classes with bars for probabilities, a line of bars and the
 * segments in seconds for frames, plain values where there are few, and a range where there are many. Text that
 * came out of a model is shown without control characters. It changes with versions; programs read JSON.
 */
export function formatOutputs(tensors: readonly Tensor[], options: FormatOptions = {}): string {
  return tensors.map((tensor) => formatTensor(tensor, options)).join("\n");
}

function formatTensor(tensor: Tensor, { document, topK = 3, width = 80 }: FormatOptions): string {
  const title = `${printable(tensor.name)}  ${describeType(tensor)}`;
  const values = decodeElements(tensor.data, tensor.datatype);
  const facts = document?.outputs.find(({ output }) => output === tensor.name);
  const numbers = tensor.datatype === "BYTES" ? undefined : values.map(Number);
  if (numbers !== undefined && facts?.kind === "frames" && elementCount(tensor.shape) === Math.max(...tensor.shape))
    return [title, ...frameLines(numbers, facts, width)].join("\n");
  const columns = tensor.shape.at(-1) ?? 1;
  const rows = columns > 0 && numbers !== undefined ? numbers.length / columns : 0;
  if (
    numbers !== undefined &&
    FLOATS.has(tensor.datatype) &&
    tensor.shape.length <= 2 &&
    columns > 1 &&
    rows >= 1 &&
    rows <= MAX_ROWS
  ) {
    const split = Array.from({ length: rows }, (_, row) => numbers.slice(row * columns, (row + 1) * columns));
    if (split.every(isDistribution)) return [title, ...classLines(split, facts, topK)].join("\n");
  }
  return `${title}  ${values.length <= MAX_LISTED ? listed(values, tensor) : summary(values, numbers)}`;
}

function isDistribution(row: readonly number[]): boolean {
  const sum = row.reduce((total, value) => total + value, 0);
  return row.every((value) => value >= 0 && value <= 1) && Math.abs(sum - 1) <= SUM_TOLERANCE;
}

function classLines(rows: readonly (readonly number[])[], facts: Outputs | undefined, topK: number): string[] {
  const labels = facts?.kind === "classes" ? facts.labels : undefined;
  return rows.flatMap((row, index) => {
    const best = row.map((value, at) => ({ value, at })).sort((a, b) => b.value - a.value || a.at - b.at);
    const shown = best.slice(0, rows.length > 1 ? 1 : topK);
    const lead = rows.length > 1 ? `  row ${index}: ` : "  ";
    const wide = Math.max(...shown.map(({ at }) => labelOf(labels, at).length));
    return shown.map(({ value, at }) => {
      const percent = `${(value * 100).toFixed(1)} %`.padStart(7);
      return `${lead}${labelOf(labels, at).padEnd(wide)}  ${percent}  ${"█".repeat(Math.round(value * BAR_WIDTH))}`.trimEnd();
    });
  });
}

function labelOf(labels: Classes["labels"] | undefined, at: number): string {
  return printable(labels?.[at] ?? String(at));
}

function frameLines(values: readonly number[], facts: Frames, width: number): string[] {
  const room = Math.max(8, width - 2);
  const per = Math.max(1, Math.ceil(values.length / room));
  let line = "";
  for (let start = 0; start < values.length; start += per) {
    const most = Math.max(...values.slice(start, start + per));
    const level = Math.floor(Math.min(1, Math.max(0, most)) * LEVELS.length);
    line += LEVELS[Math.min(LEVELS.length - 1, level)] ?? "?";
  }
  const segments = segmentsAbove(values, facts);
  const label = printable(facts.label);
  const found = segments.map(([from, to]) => `${from.toFixed(2)}-${to.toFixed(2)} s`).join(", ");
  const total = ((values.length * facts.frameMs) / 1000).toFixed(2);
  return [`  ${line}`, segments.length === 0 ? `  no ${label} in ${total} s` : `  ${label}: ${found} of ${total} s`];
}

/** Runs of frames at or above the threshold, as seconds from and to. */
export function segmentsAbove(
  values: readonly number[],
  { frameMs, threshold }: Pick<Frames, "frameMs" | "threshold">,
): [number, number][] {
  const segments: [number, number][] = [];
  let start = -1;
  for (let frame = 0; frame <= values.length; frame++) {
    const inside = (values[frame] ?? Number.NEGATIVE_INFINITY) >= threshold;
    if (inside && start < 0) start = frame;
    if (inside || start < 0) continue;
    segments.push([(start * frameMs) / 1000, (frame * frameMs) / 1000]);
    start = -1;
  }
  return segments;
}

function listed(values: readonly Element[], tensor: Tensor): string {
  if (values.length === 0) return "empty";
  const texts = values.map((value) => (typeof value === "string" ? `"${printable(value)}"` : shortNumber(value)));
  return tensor.shape.length === 0 || values.length === 1 ? texts.join("") : `[${texts.join(", ")}]`;
}

function summary(values: readonly Element[], numbers: readonly number[] | undefined): string {
  const first = values
    .slice(0, 4)
    .map((value) => (typeof value === "string" ? `"${printable(value)}"` : shortNumber(value)));
  const begin = `begins ${first.join(", ")}`;
  if (numbers === undefined) return begin;
  const finite = numbers.filter(Number.isFinite);
  const odd = numbers.length - finite.length;
  if (finite.length === 0) return `no finite value; ${begin}`;
  const least = finite.reduce((a, b) => Math.min(a, b));
  const most = finite.reduce((a, b) => Math.max(a, b));
  const mean = finite.reduce((a, b) => a + b, 0) / finite.length;
  const range = `from ${shortNumber(least)} to ${shortNumber(most)}, mean ${shortNumber(mean)}`;
  return `${range}; ${begin}${odd > 0 ? `; ${odd} not finite` : ""}`;
}

function shortNumber(value: Element): string {
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value);
}

/** Text of a model or its document must not move the cursor, change colours or reverse a line. */
function printable(text: string): string {
  const clean = text.replaceAll(/[\p{C}\u2028\u2029]/gu, "\u{fffd}");
  return clean.length > 200 ? `${clean.slice(0, 200)}…` : clean;
}

/**
 * The outputs as JSON in the Open Inference Protocol's form, `data` flat and row-major. 64-bit integers beyond 2^53
 * and values that are not finite become strings, as inputs take them.
 */
export function outputsToJson(tensors: readonly Tensor[]): JsonValue {
  return tensors.map(({ name, datatype, shape, data }) => ({
    name,
    datatype,
    shape: [...shape],
    data: decodeElements(data, datatype).map(jsonElement),
  }));
}

function jsonElement(value: Element): JsonValue {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}
