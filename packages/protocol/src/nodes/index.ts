export { decodeFrame, encodeFrame, encodeMessage, MESSAGE, PULSE_MS, readMessages } from "./stream.ts";
export type { Message, MessageKind } from "./stream.ts";
export {
  decodeFault,
  decodeFinishedTensor,
  decodeFinishedText,
  decodeRemoteTensor,
  decodeRemoteText,
  encodeFault,
  encodeFinishedTensor,
  encodeFinishedText,
  encodeRemoteTensor,
  encodeRemoteText,
  WORK_LIMITS,
} from "./work.ts";
export type { Fault, FinishedTensor, FinishedText, RemoteTensor, RemoteText } from "./work.ts";
export {
  acceptedSchema,
  advertisementSchema,
  beatenSchema,
  challengeSchema,
  heartbeatSchema,
  inviteSchema,
  joinedSchema,
  joinMessage,
  joinSchema,
  keysetSchema,
  knownSchema,
  NODE_LIMITS,
  offeredSchema,
  offerSchema,
  PARTY_STATES,
  statementsSchema,
} from "./join.ts";
export type {
  Advertisement,
  Beaten,
  Heartbeat,
  Joined,
  JoinRequest,
  JoinWire,
  Offer,
  OfferOutcome,
  PartyRole,
  PartyState,
} from "./join.ts";
export { decodeRecords, encodeRecords, REMOTE_LOG_LIMITS, wireBytes } from "./log-wire.ts";
export { parseMessage, parseValue } from "./schemas.ts";
export type { MessageSchema, Read } from "./schemas.ts";
