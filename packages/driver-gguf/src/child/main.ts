import type { FromChild, ToChild } from "../wire.ts";
import { Fault } from "./fault.ts";
import { generate } from "./generate.ts";
import { firstLine, loadModel } from "./load.ts";
import type { Runtime } from "./load.ts";

// One process with one model in it. It speaks with its parent over the IPC channel and ends with it.

let runtime: Runtime | undefined;
const stopped = new Set<number>();
const running = new Set<number>();

function tell(message: FromChild): void {
  if (process.connected) process.send?.(message);
}

function faultOf(error: unknown): {
  readonly code: string;
  readonly message: string;
  readonly hints: readonly string[];
} {
  if (error instanceof Fault) return { code: error.code, message: error.message, hints: error.hints };
  return { code: "model_aborted", message: `The model's process failed: ${firstLine(error)}.`, hints: [] };
}

async function load(message: Extract<ToChild, { readonly type: "load" }>): Promise<void> {
  try {
    runtime = await loadModel(message);
    tell({ type: "loaded", ...runtime.facts });
  } catch (error) {
    tell({ type: "failed", ...faultOf(error) });
  }
}

async function start(message: Extract<ToChild, { readonly type: "start" }>): Promise<void> {
  const { id } = message;
  running.add(id);
  try {
    if (runtime === undefined) throw new Fault("engine_unavailable", "The model is not loaded.");
    await generate(runtime, message, {
      prompt: (tokens) => tell({ type: "prompt", id, tokens }),
      piece: (choice, text, tokens, finish) => tell({ type: "piece", id, choice, text, tokens, finish }),
      stopped: () => stopped.has(id),
    });
    tell({ type: "ended", id, code: null, message: "", hints: [] });
  } catch (error) {
    tell({ type: "ended", id, ...faultOf(error) });
  } finally {
    running.delete(id);
    stopped.delete(id);
  }
}

process.on("disconnect", () => process.exit(0));
process.on("message", (message: ToChild) => {
  if (message.type === "load") void load(message);
  else if (message.type === "start") void start(message);
  else if (running.has(message.id)) stopped.add(message.id);
});
