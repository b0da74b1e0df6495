export { decodeInstruction, encodeInstruction, MAX_INSTRUCTION_BYTES } from "./instruction.ts";
export type { Instruction, SettlementMode } from "./instruction.ts";
