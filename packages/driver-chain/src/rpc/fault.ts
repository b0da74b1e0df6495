import { AssayError, isAssayError } from "@assay/core";
import type { Hex } from "@assay/x402";

/** What a node answered instead of a result (JSON-RPC 2.0 section 5.1). The message is the node's, cut to 300 characters. */
export type RpcFault = {
  readonly rpcCode: number;
  readonly rpcMessage: string;
  /** What a reverted call returned, when the node says it. */
  readonly revertData?: Hex;
};

/** Longest part of a node's message that is kept: it goes into errors and logs. */
export const MAX_FAULT_MESSAGE = 300;
/** Longest revert data that is kept, hex digits: custom errors are a few words long. */
export const MAX_REVERT_HEX = 4096;

class FaultCause extends Error {
  readonly fault: RpcFault;
  constructor(fault: RpcFault) {
    super(fault.rpcMessage);
    this.name = "RpcFault";
    this.fault = fault;
  }
}

export function rpcError(method: string, error: unknown): AssayError<"chain_rpc_error"> {
  const fault = faultOf(error);
  return new AssayError("chain_rpc_error", `The chain's node refused ${method}: ${fault.rpcMessage}.`, {
    hints: [`Its code was ${fault.rpcCode}.`],
    cause: new FaultCause(fault),
  });
}

/** The node's own words, when `error` is a `chain_rpc_error`. */
export function rpcFault(error: unknown): RpcFault | undefined {
  if (!isAssayError(error) || error.code !== "chain_rpc_error") return undefined;
  return error.cause instanceof FaultCause ? error.cause.fault : undefined;
}

/** Whether the node executed a call and it reverted, as against a failure of the node. */
export function isRevert(error: unknown): boolean {
  const fault = rpcFault(error);
  return fault !== undefined && (fault.rpcCode === 3 || /revert/i.test(fault.rpcMessage));
}

function faultOf(error: unknown): RpcFault {
  const fields = typeof error === "object" && error !== null ? (error as Record<string, unknown>) : {};
  const code = fields["code"];
  const message = fields["message"];
  const text = typeof message === "string" ? message : "no reason was given";
  const rpcMessage = printable(text).slice(0, MAX_FAULT_MESSAGE);
  const rpcCode = typeof code === "number" && Number.isSafeInteger(code) ? code : 0;
  const revertData = revertDataOf(fields["data"]);
  return { rpcCode, rpcMessage, ...(revertData === undefined ? {} : { revertData }) };
}

// Some nodes put the data into an object of their own.
function revertDataOf(data: unknown): Hex | undefined {
  const value = typeof data === "object" && data !== null ? (data as Record<string, unknown>)["data"] : data;
  if (typeof value !== "string" || value.length > MAX_REVERT_HEX || !/^0x(?:[0-9a-f]{2})*$/i.test(value))
    return undefined;
  return value.toLowerCase() as Hex;
}

/** The text without control characters, which could forge lines of a log. */
function printable(text: string): string {
  return text.replace(/[\p{C}]+/gu, " ").trim();
}
