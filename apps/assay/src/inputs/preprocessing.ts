import { createHash } from "node:crypto";
import { canonicalJson, equalBytes, parseJson } from "@assay/core";
import type { JsonValue } from "@assay/core";
import type { Tensor } from "@assay/protocol";
import { z } from "zod";
import { addMargin, cropToContent, flattenAlpha, gray, invertIfLightBackground } from "./image.ts";
import { normalizePeak, padToAspect, resizeArea, stretch } from "./image.ts";
import type { Image } from "./image.ts";
import { inputError } from "./input-error.ts";
import type { TensorSignature } from "./input-error.ts";
import { MAX_PREPROCESSING_BYTES, MAX_SAMPLE_RATE_HZ, MAX_STEPS, MIN_SAMPLE_RATE_HZ } from "./limits.ts";
import type { RgbaImage } from "./png.ts";
import { resample } from "./resample.ts";
import { fitShape } from "./shapes.ts";
import type { Recording } from "./wav.ts";

const permille = z.int().min(0).max(1000);
/** Networks take pictures of at most this many pixels a side; a document that asks for more is a mistake. */
const side = z.int().min(1).max(2048);

/** One step of a picture's preparation. A closed set: each is exact integer arithmetic, described in `image.ts`. */
const step = z.discriminatedUnion("op", [
  z.strictObject({ op: z.literal("gray") }),
  z.strictObject({ op: z.literal("invert_if_light_background") }),
  z
    .strictObject({ op: z.literal("stretch"), lowPermille: permille, highPermille: permille })
    .refine(({ lowPermille, highPermille }) => lowPermille < highPermille, "lowPermille must be below highPermille"),
  z.strictObject({ op: z.literal("crop_to_content"), thresholdPermille: permille.min(1) }),
  z.strictObject({ op: z.literal("pad_to_aspect"), width: side, height: side }),
  z.strictObject({ op: z.literal("margin"), marginPermille: permille }),
  z.strictObject({ op: z.literal("resize"), width: side, height: side, filter: z.literal("area") }),
  z.strictObject({ op: z.literal("normalize_peak") }),
]);

const channelNumbers = z.array(z.number()).min(1).max(3);

const imageInput = z.strictObject({
  input: z.string().min(1).max(256),
  kind: z.literal("image"),
  /** What stands behind transparent pixels. */
  alpha: z.enum(["white", "black", "contrast"]),
  steps: z.array(step).max(MAX_STEPS),
  /** Order of the axes; a batch of one is put in front where the model has one. */
  layout: z.enum(["hw", "chw", "hwc"]),
  /** For each channel: (value from 0 to 1, minus mean) over std. */
  mean: channelNumbers,
  std: z.array(z.number().positive()).min(1).max(3),
});

const audioInput = z.strictObject({
  input: z.string().min(1).max(256),
  kind: z.literal("audio"),
  sampleRateHz: z.int().min(MIN_SAMPLE_RATE_HZ).max(MAX_SAMPLE_RATE_HZ),
});

const classesOutput = z.strictObject({
  output: z.string().min(1).max(256),
  kind: z.literal("classes"),
  labels: z.array(z.string().max(128)).min(1).max(1000),
});

const framesOutput = z.strictObject({
  output: z.string().min(1).max(256),
  kind: z.literal("frames"),
  label: z.string().min(1).max(64),
  frameMs: z.number().positive(),
  threshold: z.number().min(0).max(1),
});

const documentSchema = z.strictObject({
  format: z.literal("assay-preprocessing/1"),
  inputs: z.array(z.discriminatedUnion("kind", [imageInput, audioInput])).max(64),
  /** How outputs are shown to people; it changes no byte of them. */
  outputs: z.array(z.discriminatedUnion("kind", [classesOutput, framesOutput])).max(64),
});

export type PreprocessingDocument = z.infer<typeof documentSchema>;
type ImageStep = z.infer<typeof step>;
export type ImagePreparation = z.infer<typeof imageInput>;
export type AudioPreparation = z.infer<typeof audioInput>;

/** A model's `preprocessing.json` and the lower-case hex SHA-256 of exactly its bytes. */
export type Preprocessing = { readonly document: PreprocessingDocument; readonly digest: string };

/**
 * Reads a preprocessing document. It must be canonical JSON (RFC 8785), so that equal documents have one digest.
 * Throws `preprocessing_invalid`, with every fault as a hint, for anything else, unknown steps included.
 */
export function parsePreprocessing(bytes: Uint8Array): Preprocessing {
  let value: JsonValue;
  try {
    value = parseJson(bytes, { maxBytes: MAX_PREPROCESSING_BYTES, maxDepth: 8 });
  } catch (cause) {
    throw inputError("preprocessing_invalid", "The preprocessing document is not acceptable JSON.", [], cause);
  }
  const parsed = documentSchema.safeParse(value);
  if (!parsed.success)
    throw inputError(
      "preprocessing_invalid",
      "The preprocessing document breaks its schema.",
      parsed.error.issues.slice(0, 10).map(({ path, message }) => `${path.join(".") || "document"}: ${message}`),
    );
  for (const names of [parsed.data.inputs.map(({ input }) => input), parsed.data.outputs.map(({ output }) => output)])
    if (new Set(names).size !== names.length)
      throw inputError("preprocessing_invalid", "The preprocessing document names something twice.");
  if (!equalBytes(canonicalJson(value), bytes))
    throw inputError("preprocessing_invalid", "The preprocessing document is not canonical JSON.", [
      "Write it without spaces, keys sorted and without a newline at the end (RFC 8785).",
    ]);
  return { document: parsed.data, digest: createHash("sha256").update(bytes).digest("hex") };
}

/** The bytes of `document` that {@link parsePreprocessing} accepts. */
export function encodePreprocessing(document: PreprocessingDocument): Uint8Array {
  return canonicalJson(document);
}

/**
 * A picture as the model's tensor, float32 or uint8, by the steps of `preparation`. Equal files give equal bytes on
 * every machine. Throws `input_blank`, `input_shape`, `input_datatype` or `preprocessing_invalid`.
 */
export function imageTensor(picture: RgbaImage, preparation: ImagePreparation, wanted: TensorSignature): Tensor {
  let image = flattenAlpha(picture, preparation.alpha);
  for (const each of preparation.steps) image = applyStep(image, each, wanted.name);
  const { width, height, planes } = image;
  const { layout, mean, std } = preparation;
  if (mean.length !== planes.length || std.length !== planes.length || (layout === "hw" && planes.length !== 1))
    throw inputError(
      "preprocessing_invalid",
      `Input "${wanted.name}": mean, std or layout do not fit ${planes.length} channels.`,
    );
  const axes = { hw: [height, width], chw: [planes.length, height, width], hwc: [height, width, planes.length] };
  const datatype = wanted.datatype === "UINT8" ? "UINT8" : "FP32";
  const shape = fitShape({ datatype, shape: axes[layout] }, wanted);
  const values = new Float32Array(width * height * planes.length);
  planes.forEach((plane, channel) => {
    const [offset, stride] = layout === "hwc" ? [channel, planes.length] : [channel * plane.length, 1];
    plane.forEach((value, pixel) => {
      values[offset + pixel * stride] = (value / 65_535 - (mean[channel] ?? 0)) / (std[channel] ?? 1);
    });
  });
  const bytes = datatype === "UINT8" ? eightBit(values, wanted.name, preparation) : littleEndian(values);
  return { name: wanted.name, datatype, shape, data: bytes };
}

function applyStep(image: Image, given: ImageStep, input: string): Image {
  switch (given.op) {
    case "gray":
      return gray(image);
    case "invert_if_light_background":
      return invertIfLightBackground(image);
    case "stretch":
      return stretch(image, given.lowPermille, given.highPermille, input);
    case "crop_to_content":
      return cropToContent(image, given.thresholdPermille, input);
    case "pad_to_aspect":
      return padToAspect(image, given.width, given.height, input);
    case "margin":
      return addMargin(image, given.marginPermille, input);
    case "resize":
      return resizeArea(image, given.width, given.height);
    case "normalize_peak":
      return normalizePeak(image, input);
  }
}

/** A recording as the model's float32 tensor at the model's rate. Throws `input_shape` or `input_datatype`. */
export function audioTensor(recording: Recording, preparation: AudioPreparation, wanted: TensorSignature): Tensor {
  const samples = resample(recording.samples, recording.sampleRateHz, preparation.sampleRateHz, wanted.name);
  const shape = fitShape({ datatype: "FP32", shape: [samples.length] }, wanted);
  return { name: wanted.name, datatype: "FP32", shape, data: littleEndian(samples) };
}

function eightBit(values: Float32Array, input: string, { mean, std }: ImagePreparation): Uint8Array {
  if (mean.some((value) => value !== 0) || std.some((value) => value !== 1))
    throw inputError("preprocessing_invalid", `Input "${input}": a UINT8 model takes mean 0 and std 1.`);
  return Uint8Array.from(values, (value) => Math.floor(value * 255 + 0.5));
}

function littleEndian(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => {
    view.setFloat32(index * 4, value, true);
  });
  return bytes;
}
