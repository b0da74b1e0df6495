import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { AssayError } from "@assay/core";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { GraphProtoSchema, ModelProtoSchema } from "onnx-buf";
import type { GraphProto } from "onnx-buf";
import { flattenIfs, liveNodes } from "./flatten-ifs.ts";
import { floatValue, graphAttribute, intAttribute, intTensor, node, zeroTensor } from "./onnx-build.ts";

/** Where the voice activity detector comes from, and by which recipe it is wrapped. */
export const SILERO = {
  package: "@ricky0123/vad-web",
  packageVersion: "0.0.31",
  path: "dist/silero_vad_v5.onnx",
  /** SHA-256 of that file; any other file is refused. */
  sha256: "2623a2953f6ff3d2c1e61740c6cdb7168133479b267dfef114a4a3cc5bdd788f",
  licence: "MIT",
  /** Raised whenever {@link wrapSilero} would write other bytes for the same source. */
  recipe: "silero-scan/1",
  sampleRateHz: 16_000,
  /** Samples that one probability speaks for: 32 ms. */
  frameSamples: 512,
  /** Samples of the frame before that the network sees in front of each frame at 16 kHz. */
  contextSamples: 64,
} as const;

const STATE_SHAPE = [2, 1, 128];
const BRANCH = "If_0_then_branch__Inline_0__";
/**
 * Which way each condition of the source falls for one row of 576 samples at 16 kHz with a carried state. The
 * test that compares with the untouched source, bit by bit, is what shows that these are right.
 */
const DECISIONS: ReadonlyMap<string, boolean> = new Map([
  ["Equal_0_C", true], // sr is 16000
  [`${BRANCH}/decoder/Equal_output_0`, true], // the encoder leaves one step in time
  [`${BRANCH}/decoder/Cast_output_0`, true], // a state was given
  [`${BRANCH}/decoder/rnn/Cast_output_0`, false], // the LSTM's input has two axes already (and so its states)
  [`${BRANCH}/decoder/rnn/Cast_1_output_0`, false],
  [`${BRANCH}/decoder/rnn/Cast_2_output_0`, false],
  [`${BRANCH}/Equal_output_0`, true], // one output channel
]);
/** Names this recipe adds stand under this prefix, which no name of the source uses. */
const OWN = "assay/";

/** Reads the source graph from the installed npm package. Throws `demo_model_missing` when it is not installed. */
export async function readSileroSource(): Promise<Uint8Array> {
  try {
    const path = createRequire(import.meta.url).resolve(`${SILERO.package}/${SILERO.path}`);
    return new Uint8Array(await readFile(path));
  } catch (cause) {
    throw new AssayError("demo_model_missing", `The file ${SILERO.path} of ${SILERO.package} could not be read.`, {
      hints: [`Install ${SILERO.package} ${SILERO.packageVersion}.`],
      cause,
    });
  }
}

/**
 * The wrapped detector as ONNX bytes: input `audio` float32 `[samples]` (16 kHz, mono, -1 to 1), output
 * `speech_probability` float32 `[frames]`, one for each 512 samples begun; the tail is padded with silence.
 *
 * The source takes one frame and hands back its state. Here its 16 kHz branch is the body of a `Scan` that carries
 * the state and the last 64 samples from frame to frame, as Silero's own `OnnxWrapper` does outside the graph.
 * Equal sources give equal bytes. Throws `demo_model_changed` when `source` is not the file named in {@link SILERO}.
 */
export function wrapSilero(source: Uint8Array): Uint8Array {
  const found = createHash("sha256").update(source).digest("hex");
  if (found !== SILERO.sha256)
    throw new AssayError("demo_model_changed", `The Silero source has SHA-256 ${found}, not ${SILERO.sha256}.`, {
      hints: [`Install ${SILERO.package} ${SILERO.packageVersion} unchanged.`],
    });
  const model = fromBinary(ModelProtoSchema, source);
  if (model.graph === undefined) throw new AssayError("demo_model_changed", "The Silero source holds no graph.");
  const wrapped = create(ModelProtoSchema, {
    irVersion: model.irVersion,
    opsetImport: model.opsetImport,
    producerName: "assay",
    producerVersion: SILERO.recipe,
    graph: outer(scanBody(model.graph)),
    metadataProps: [
      { key: "assay.recipe", value: SILERO.recipe },
      { key: "assay.source", value: `npm:${SILERO.package}@${SILERO.packageVersion}/${SILERO.path}` },
      { key: "assay.source.sha256", value: SILERO.sha256 },
      { key: "licence", value: SILERO.licence },
    ],
  });
  return toBinary(ModelProtoSchema, wrapped);
}

/** One step: (state, context, frame) to (state, context, probability), around the source's own nodes. */
function scanBody(source: GraphProto): GraphProto {
  const { contextSamples, frameSamples } = SILERO;
  return create(GraphProtoSchema, {
    name: "silero_step",
    input: [
      floatValue("state", STATE_SHAPE),
      floatValue(`${OWN}context`, [1, contextSamples]),
      floatValue(`${OWN}frame`, [frameSamples]),
    ],
    output: [
      floatValue("stateN", STATE_SHAPE),
      floatValue(`${OWN}context_next`, [1, contextSamples]),
      floatValue(`${OWN}probability`, []),
    ],
    initializer: [
      ...source.initializer,
      intTensor(`${OWN}row_axis`, [1], [0]),
      intTensor(`${OWN}sample_axis`, [1], [1]),
      intTensor(`${OWN}both_axes`, [2], [0, 1]),
      intTensor(`${OWN}context_start`, [1], [frameSamples]),
      intTensor(`${OWN}context_end`, [1], [frameSamples + contextSamples]),
    ],
    node: [
      node("Unsqueeze", [`${OWN}frame`, `${OWN}row_axis`], [`${OWN}frame_row`]),
      node("Concat", [`${OWN}context`, `${OWN}frame_row`], ["input"], [intAttribute("axis", 1)]),
      node("Slice", ["input", `${OWN}context_start`, `${OWN}context_end`, `${OWN}sample_axis`], [`${OWN}context_next`]),
      ...liveNodes(flattenIfs(source, DECISIONS), ["output", "stateN"]),
      node("Squeeze", ["output", `${OWN}both_axes`], [`${OWN}probability`]),
    ],
  });
}

/** Pads the audio to whole frames, cuts it, and scans over them from a silent beginning. */
function outer(body: GraphProto): GraphProto {
  const { contextSamples, frameSamples } = SILERO;
  return create(GraphProtoSchema, {
    name: "silero_vad",
    input: [floatValue("audio", ["samples"])],
    output: [floatValue("speech_probability", ["frames"])],
    initializer: [
      intTensor(`${OWN}zero`, [1], [0]),
      intTensor(`${OWN}frame_samples`, [1], [frameSamples]),
      intTensor(`${OWN}frames_shape`, [2], [-1, frameSamples]),
      zeroTensor(`${OWN}state_start`, STATE_SHAPE),
      zeroTensor(`${OWN}context_silence`, [1, contextSamples]),
    ],
    node: [
      node("Shape", ["audio"], [`${OWN}samples`]),
      // With the divisor's sign, -samples mod 512 is exactly what is missing to a whole frame.
      node("Neg", [`${OWN}samples`], [`${OWN}samples_negative`]),
      node("Mod", [`${OWN}samples_negative`, `${OWN}frame_samples`], [`${OWN}missing`]),
      node("Concat", [`${OWN}zero`, `${OWN}missing`], [`${OWN}pads`], [intAttribute("axis", 0)]),
      node("Pad", ["audio", `${OWN}pads`], [`${OWN}padded`]),
      node("Reshape", [`${OWN}padded`, `${OWN}frames_shape`], [`${OWN}frames`]),
      node(
        "Scan",
        [`${OWN}state_start`, `${OWN}context_silence`, `${OWN}frames`],
        [`${OWN}state_end`, `${OWN}context_last`, "speech_probability"],
        [graphAttribute("body", body), intAttribute("num_scan_inputs", 1)],
      ),
    ],
  });
}
