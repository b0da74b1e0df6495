export { addressOf, evmSigner, nativeEvmSuite } from "./crypto/evm-suite.ts";
export type { NamedEvmSuite } from "./crypto/evm-suite.ts";
export { isLoopbackHost, isLoopbackUrl, refuseDevelopment, refuseForeignDevelopment } from "./guard.ts";
export type { DevelopmentUse } from "./guard.ts";
export { movedAsAuthorized } from "./calls/authorized.ts";
export type { AuthorizedTransfer } from "./calls/authorized.ts";
export { batchCall, batchItem, batchResults } from "./calls/batch.ts";
export type { BatchItem, BatchResult } from "./calls/batch.ts";
export type { Call } from "./calls/call.ts";
export {
  channelCalls,
  channelFrom,
  channelSteps,
  claimCall,
  depositCall,
  receiverStep,
  refundCall,
  sweepCall,
} from "./calls/channels.ts";
export type { ChannelOnChain, ChannelTuple, Claim } from "./calls/channels.ts";
export { afterDeployment, deploymentOf, paymentCall, togetherCall, unwrapSignature } from "./calls/payments.ts";
export type { DirectPayment } from "./calls/payments.ts";
export { findChainBinary } from "./embedded/binary.ts";
export { openEmbeddedChain } from "./embedded/embedded.ts";
export type {
  ChainNodeEvent,
  ChainProfile,
  EmbeddedChain,
  EmbeddedChainOptions,
  EmbeddedChainStatus,
} from "./embedded/embedded.ts";
export type { DeploymentKeys } from "./embedded/place.ts";
export type { Funding } from "./embedded/faucet.ts";
export { createChain } from "./rpc/chain.ts";
export type { Chain, ChainEvent, ChainOptions } from "./rpc/chain.ts";
export type { FactsQuery, PayerFacts } from "./rpc/facts.ts";
export type { ReadAnswer, ReadResult, ReadStep } from "./rpc/program.ts";
export { isRevert, rpcFault } from "./rpc/fault.ts";
export type { RpcFault } from "./rpc/fault.ts";
export type { CallOptions } from "./rpc/transport.ts";
export type { Block, BlockTag, CallRequest, LogFilter, TxLog, TxReceipt } from "./rpc/types.ts";
export { createSender } from "./sender/sender.ts";
export { memoryJournal } from "./sender/memory-journal.ts";
export type {
  Sender,
  SenderEvent,
  SenderOptions,
  SenderParts,
  TxChange,
  TxHandle,
  TxJob,
  TxJournal,
  TxKey,
  TxOutcome,
  TxProblem,
  TxRecord,
  TxState,
} from "./sender/types.ts";
export { decryptKey, encryptKey, writeKeyFile } from "./wallet/keystore.ts";
export { createFactsCache } from "./rpc/facts-cache.ts";
export type { FactsCache, FactsCacheOptions } from "./rpc/facts-cache.ts";
export type { CanonicalContract } from "./deploy/canonical.ts";
export { deploy } from "./deploy/deploy.ts";
export type { DeployEvent } from "./deploy/deploy.ts";
export { openFileJournal } from "./deploy/file-journal.ts";
export { inspectDeployment } from "./deploy/inspect.ts";
export type { Inspected } from "./deploy/inspect.ts";
export { planDeployment } from "./deploy/plan.ts";
export type { DeployPlan, DeployWish } from "./deploy/plan.ts";
export { lockChainDirectory } from "./embedded/lock.ts";
