import { Socket } from "node:net";
import type { Datatype, RuntimeProfile } from "@assay/protocol";
import { count, decodeControl, encodeControl, list, text } from "../control.ts";
import type { JsonObject } from "../control.ts";
import { ELEMENT_BYTES, elementCount } from "../datatypes.ts";
import { ortError } from "../errors.ts";
import type { OrtErrorCode } from "../errors.ts";
import { KIND, createFrameReader, writeFrame } from "../frame.ts";
import { readModel } from "../model-file.ts";
import type { ModelFile } from "../model-file.ts";
import { signatureToJson } from "../signature.ts";
import type { Port, Signature } from "../signature.ts";
import { decodeTensors, encodeTensors } from "../tensor-frame.ts";
import type { TensorFrame, WireTensor } from "../tensor-frame.ts";
import { probeBatching } from "./batch-probe.ts";
import { probeCpuClass } from "./class-probe.ts";
import { loadEngine } from "./engine.ts";
import type { Engine, EngineSession, PortMetadata } from "./engine.ts";
import { engineFault } from "./engine-fault.ts";
import type { Inspection } from "./inspect.ts";
import { fromEngine, toEngine } from "./tensor.ts";
import type { EngineTensor } from "./tensor.ts";
import { startWatchdog } from "./watchdog.ts";

export type ChildSettings = {
  readonly profile: RuntimeProfile;
  readonly parentPid: number;
  readonly maxRssBytes: number;
  readonly watchdogIntervalMs: number;
  readonly maxFrameBytes: number;
  readonly maxTensorBytes: number;
  readonly maxTensorElements: number;
};

type ChildModules = {
  /** Checks a model's structure and bridges types that the engine cannot carry. */
  readonly inspect: (model: Uint8Array) => Inspection;
  /** Translates what the engine says of an input or output, or refuses it. */
  readonly describe: (metadata: PortMetadata) => Port;
};

type Loaded = { readonly session: EngineSession; readonly signature: Signature };

/** Descriptor of the socket pair shared with the parent. */
const CHANNEL_FD = 3;

/**
 * Serves one parent over descriptor 3 until it goes away. Requests come one at a time; a frame that is malformed
 * or comes while another is being answered ends the process, because the two sides no longer agree.
 */
export async function serveChild(settings: ChildSettings, modules: ChildModules): Promise<void> {
  startWatchdog({
    parentPid: settings.parentPid,
    maxRssBytes: settings.maxRssBytes,
    intervalMs: settings.watchdogIntervalMs,
  });
  const channel = new Socket({ fd: CHANNEL_FD, readable: true, writable: true });
  channel.on("close", end);
  channel.on("error", end);
  channel.on("end", end);

  const engine = await loadEngine(settings.profile, modules.describe);
  const classSha256 = await probeCpuClass(engine);
  const sessions = new Map<number, Loaded>();
  let busy = false;

  const answer = async (kind: number, id: number, body: Uint8Array): Promise<void> => {
    let stage: OrtErrorCode = "model_failed";
    try {
      if (kind === KIND.run) {
        const frame = decodeTensors(body);
        if (frame === undefined) return end();
        const { pieces } = await run(engine, sessions, settings, frame);
        busy = false;
        return writeFrame(channel, KIND.result, id, pieces);
      }
      const message = decodeControl(body);
      if (message === undefined) return end();
      if (kind === KIND.load) stage = "model_invalid";
      const reply = await control(engine, sessions, modules, kind, message);
      busy = false;
      writeFrame(channel, kind === KIND.load ? KIND.loaded : KIND.done, id, [encodeControl(reply)]);
    } catch (error) {
      const { code, message, hints, fatal } = engineFault(error, stage);
      busy = false;
      writeFrame(channel, KIND.failed, id, [encodeControl({ code, message, hints: [...hints], fatal })]);
    }
  };

  const reader = createFrameReader({
    kinds: [KIND.load, KIND.run, KIND.release, KIND.probe],
    // A frame carries tensors and at most a few bytes of sizes for each.
    maxBodyBytes: settings.maxFrameBytes + 1024 ** 2,
    onFrame: (kind, id, body) => {
      if (busy) return end();
      busy = true;
      void answer(kind, id, body);
    },
  });
  channel.on("data", (chunk: Buffer) => {
    if (reader.push(chunk) !== undefined) end();
  });
  writeFrame(channel, KIND.hello, 0, [
    encodeControl({
      profile: settings.profile,
      engine: engine.name,
      engineVersion: engine.version,
      engineSha256: engine.sha256,
      cpuClass: classSha256,
      rssBytes: process.memoryUsage.rss(),
    }),
  ]);
}

async function control(
  engine: Engine,
  sessions: Map<number, Loaded>,
  modules: ChildModules,
  kind: number,
  message: JsonObject,
): Promise<JsonObject> {
  const number = count(message["session"]);
  if (kind === KIND.load) return await load(engine, sessions, modules, number, message);
  const loaded = sessions.get(number);
  if (loaded === undefined) throw ortError("model_failed", "The session is not loaded.");
  if (kind === KIND.probe) {
    return { invariant: await probeBatching(engine, loaded.session, loaded.signature, count(message["rowLimitMs"])) };
  }
  sessions.delete(number);
  await loaded.session.release();
  return { rssBytes: process.memoryUsage.rss() };
}

async function load(
  engine: Engine,
  sessions: Map<number, Loaded>,
  modules: ChildModules,
  number: number,
  message: JsonObject,
): Promise<JsonObject> {
  const before = process.memoryUsage.rss();
  const files = list(message["files"]).map((entry): ModelFile => {
    const file = entry as JsonObject;
    return { path: text(file["path"]), sha256: text(file["sha256"]) };
  });
  const model = readModel({
    path: text(message["path"]),
    sha256: text(message["sha256"]),
    files,
    maxBytes: count(message["maxModelBytes"]),
  });
  const inspection = modules.inspect(model);
  if (inspection.refuse !== undefined) {
    const { code, reasons } = inspection.refuse;
    throw ortError(code, "The model was refused before any engine saw it.", reasons);
  }
  const { bytes, casts, bf16 } = inspection;
  const session = await engine.create(bytes);
  const signature: Signature = {
    inputs: session.signature.inputs.map((port) => declaredPort(port, bf16.inputs)),
    outputs: session.signature.outputs.map((port) => declaredPort(port, bf16.outputs)),
  };
  sessions.set(number, { session, signature });
  const rssBytes = process.memoryUsage.rss();
  return {
    ...signatureToJson(signature),
    casts: [...casts],
    sessionBytes: Math.max(bytes.length, rssBytes - before),
    rssBytes,
  };
}

async function run(
  engine: Engine,
  sessions: Map<number, Loaded>,
  settings: ChildSettings,
  frame: TensorFrame,
): Promise<{ pieces: Uint8Array[] }> {
  const loaded = sessions.get(frame.first);
  if (loaded === undefined) throw ortError("model_failed", "The session is not loaded.");
  const { session, signature } = loaded;
  const feeds: Record<string, EngineTensor> = {};
  for (const [index, port] of signature.inputs.entries()) {
    const tensor = frame.tensors[index];
    if (tensor === undefined) throw ortError("model_failed", "The frame has fewer tensors than the model inputs.");
    feeds[port.name] = toEngine(engine.Tensor, port.datatype, tensor.shape, tensor.data);
  }
  const wanted: Port[] = [];
  for (const index of frame.numbers) {
    const port = signature.outputs[index];
    if (port === undefined) throw ortError("model_failed", "The frame asks for an output that the model lacks.");
    wanted.push(port);
  }
  const started = performance.now();
  const results = await session.run(
    feeds,
    wanted.map((port) => port.name),
  );
  const micros = Math.round((performance.now() - started) * 1000);
  const tensors: WireTensor[] = [];
  let total = 0;
  for (const port of wanted) {
    const result = results[port.name];
    if (result === undefined) throw ortError("model_failed", `The engine gave no output "${port.name}".`);
    const data = outputBytes(port, result, settings);
    total += data.length;
    tensors.push({ shape: result.dims, data: [data] });
  }
  if (total > settings.maxFrameBytes) {
    throw ortError("tensor_too_large", `The outputs have ${total} bytes, more than ${settings.maxFrameBytes}.`);
  }
  return { pieces: encodeTensors(Math.min(micros, 0xffff_ffff), 0, [], tensors) };
}

function outputBytes(port: Port, result: EngineTensor, settings: ChildSettings): Uint8Array {
  const elements = elementCount(result.dims);
  const size: number = ELEMENT_BYTES[port.datatype satisfies Datatype];
  if (elements > settings.maxTensorElements || elements * size > settings.maxTensorBytes) {
    throw ortError("tensor_too_large", `The output "${port.name}" has ${elements} elements, more than is allowed.`, [
      `At most ${settings.maxTensorElements} elements and ${settings.maxTensorBytes} bytes are.`,
    ]);
  }
  const data = fromEngine(port.datatype, result);
  if (data.length > settings.maxTensorBytes) {
    throw ortError("tensor_too_large", `The output "${port.name}" has ${data.length} bytes, more than is allowed.`);
  }
  return data;
}

/** The port as the model's author declared it, where a cast was put before or after it. */
function declaredPort(port: Port, bf16: readonly string[]): Port {
  return bf16.includes(port.name) ? { ...port, datatype: "BF16" } : port;
}

/** No farewell: nothing here outlives the parent, and an exit would wait for the watchdog's thread. */
function end(): void {
  process.kill(process.pid, "SIGKILL");
}
