import type { Tensor } from "@assay/protocol";
import { byteStringOffsets } from "./byte-strings.ts";
import type { CheckedRequest } from "./check-request.ts";
import { elementCount } from "./datatypes.ts";
import type { ReadTensor, WireTensor } from "./tensor-frame.ts";
import type { Port } from "./signature.ts";

/**
 * What two requests of one session must have in common to run together: their outputs and every axis but the
 * first. `undefined` for a request that cannot be stacked, because its inputs disagree on the number of rows.
 */
export function batchKey({ inputs, outputs }: CheckedRequest): string | undefined {
  const rows = rowsOf(inputs);
  if (rows === undefined) return undefined;
  let key = outputs.join();
  for (const { shape } of inputs) key += `;${shape.slice(1).join()}`;
  return key;
}

/** Rows of a request whose inputs all have the same, positive first axis. */
export function rowsOf(inputs: readonly Tensor[]): number | undefined {
  const rows = inputs[0]?.shape[0];
  if (rows === undefined || rows < 1) return undefined;
  return inputs.every((tensor) => tensor.shape[0] === rows) ? rows : undefined;
}

/** Stacks requests of one {@link batchKey} along the first axis. Row-major data only needs to follow one another. */
export function stack(requests: readonly CheckedRequest[]): WireTensor[] {
  const first = requests[0]?.inputs ?? [];
  return first.map((tensor, index) => {
    const parts: Uint8Array[] = [];
    let rows = 0;
    for (const { inputs } of requests) {
      const part = inputs[index];
      if (part === undefined) continue;
      parts.push(part.data);
      rows += part.shape[0] ?? 0;
    }
    return { shape: requests.length === 1 ? tensor.shape : [rows, ...tensor.shape.slice(1)], data: parts };
  });
}

/**
 * Cuts the outputs of a batch into those of its requests, as views. `undefined` when an output does not have one
 * row per input row: then the model is not what its probe said, and each request must run alone.
 */
export function unstack(
  outputs: readonly ReadTensor[],
  ports: readonly Port[],
  rowsPerRequest: readonly number[],
): Tensor[][] | undefined {
  let total = 0;
  for (const rows of rowsPerRequest) total += rows;
  if (outputs.some((output) => output.shape[0] !== total)) return undefined;
  const offsets = outputs.map((output, i) => (ports[i]?.datatype === "BYTES" ? byteStringOffsets(output.data) : []));
  let from = 0;
  return rowsPerRequest.map((rows) => {
    const to = from + rows;
    const mine = outputs.map((output, i): Tensor => {
      const port = ports[i];
      const inner = elementCount(output.shape.slice(1));
      const strings = offsets[i] ?? [];
      const rowBytes = output.data.length / total;
      const data =
        port?.datatype === "BYTES"
          ? output.data.subarray(strings[from * inner], strings[to * inner])
          : output.data.subarray(from * rowBytes, to * rowBytes);
      return {
        name: port?.name ?? "",
        datatype: port?.datatype ?? "UINT8",
        shape: [rows, ...output.shape.slice(1)],
        data,
      };
    });
    from = to;
    return mine;
  });
}
