/** Requests at once, each with a sequence of its own in the context: memory for attention grows with each. */
export const DEFAULT_MAX_RUNNING = 4;
/** Tokens of one sequence when the model was trained for more: what 4 sequences of a small model may cost in memory. */
export const DEFAULT_CONTEXT_TOKENS = 4096;
/** Milliseconds for a child to start, hash the file and load it: a 20 GB file at 200 MB/s takes 100 seconds. */
export const LOAD_TIMEOUT_MS = 300_000;
/** Milliseconds in which nothing may come from a running generation: a long prompt is evaluated in one piece. */
export const SILENCE_TIMEOUT_MS = 300_000;
/** JavaScript heap of the child, MiB; weights and attention live outside it. */
export const CHILD_HEAP_MIB = 1024;
/** Deaths in {@link STRIKE_WINDOW_MS} after which the engine is refused: a file that kills llama.cpp does so again. */
export const MAX_STRIKES = 3;
export const STRIKE_WINDOW_MS = 600_000;
/** Pause that is advised when there is no room, milliseconds. */
export const RETRY_MS = 1000;
/** Text of the child's standard error that is kept for an error's cause, characters. */
export const KEPT_STDERR = 2000;
/** Largest seed: llama.cpp has 32 bits for it. */
export const MAX_SEED = 2 ** 32 - 1;
/** Deepest JSON schema that is made into a grammar. */
export const MAX_SCHEMA_DEPTH = 16;
/** Most nodes of a JSON schema that is made into a grammar: each becomes a rule. */
export const MAX_SCHEMA_NODES = 512;
