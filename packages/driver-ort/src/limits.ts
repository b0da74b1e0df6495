/** Largest model file (with its external data), bytes: protobuf itself ends at 2 GiB, and Node reads no more at once. */
export const MAX_MODEL_BYTES = 2 * 1024 ** 3 - 1;
/** Largest single tensor, bytes: a 4k RGB image in FP32 is 100 MB, and a run holds every tensor at least twice. */
export const MAX_TENSOR_BYTES = 256 * 1024 ** 2;
/** Most elements of one tensor; BYTES and BOOL tensors cost far more in the engine than on the wire. */
export const MAX_TENSOR_ELEMENTS = 64 * 1024 ** 2;
/** All tensors of one frame, bytes, either way: bounds what a hostile model can make the parent hold. */
export const MAX_FRAME_BYTES = 512 * 1024 ** 2;
/** Most axes of a tensor: the engine's kernels are not tested beyond single digits. */
export const MAX_RANK = 32;
/** Most tensors in one request or result: the wire counts them in 16 bits, graphs have a handful. */
export const MAX_TENSORS = 4096;
/** Control messages are small JSON texts; metadata of a model with thousands of inputs still fits. */
export const MAX_CONTROL_BYTES = 4 * 1024 ** 2;
/** Requests waiting per profile: past this, an answer would come later than any client waits. */
export const MAX_QUEUED_REQUESTS = 1024;
/** Bytes of inputs waiting per profile. */
export const MAX_QUEUED_BYTES = 512 * 1024 ** 2;
/** Milliseconds that one run may take before its child is killed. */
export const RUN_TIMEOUT_MS = 30_000;
/** Milliseconds for reading, hashing and optimising a model. */
export const LOAD_TIMEOUT_MS = 60_000;
/** Milliseconds for a child to start, compile its engine and run the probe set. */
export const START_TIMEOUT_MS = 60_000;
/** Milliseconds for the batch probe; it is a measurement, so it gives up early. */
export const PROBE_TIMEOUT_MS = 5_000;
/** Memory that warm sessions of one child may hold, bytes, before the least recently used is released. */
export const SESSION_BYTES = 1024 ** 3;
/** Resident memory of a child, bytes, at which its watchdog kills it. */
export const MAX_RSS_BYTES = 3 * 1024 ** 3;
/** Warm sessions per child. */
export const MAX_SESSIONS = 64;
/** JavaScript heap of a child, MiB: tensors and weights live outside it. */
export const CHILD_HEAP_MIB = 512;
/** Rows of one batch: gains flatten out there, and one slow batch delays everybody in it. */
export const MAX_BATCH_ROWS = 64;
/** A model whose single row is slower than this is bound by arithmetic, and batching gains it nothing. */
export const PROBE_ROW_LIMIT_MS = 25;
/** Misbehaviours (abort, timeout, memory) in {@link STRIKE_WINDOW_MS} after which a model is refused. */
export const MAX_STRIKES = 3;
export const STRIKE_WINDOW_MS = 10 * 60_000;
/** Models remembered by the breaker and the metadata cache. */
export const MAX_REMEMBERED_MODELS = 1024;
/** Children that hold one misbehaving model each, per profile. */
export const MAX_QUARANTINE_CHILDREN = 2;
/** Milliseconds after which an unused quarantine child is ended. */
export const QUARANTINE_IDLE_MS = 30_000;
/** Consecutive failed starts after which requests are refused instead of waiting. */
export const MAX_START_FAILURES = 4;
/** First and longest pause before a child is started again after one that did no work, milliseconds. */
export const BACKOFF_FIRST_MS = 50;
export const BACKOFF_LONGEST_MS = 5_000;
/** Milliseconds that `close` waits for queued requests. */
export const CLOSE_DRAIN_MS = 5_000;
/** How often the child's watchdog looks at memory and at its parent: 20 ms of page faults is about 50 MB. */
export const WATCHDOG_INTERVAL_MS = 20;
