/** Largest model file that is read into memory at once, bytes: protobuf itself ends at 2 GiB. */
export const MAX_MODEL_BYTES = 2 * 1024 ** 3 - 1;
/** Tokenizers of the largest vocabularies in use are about 35 MB of JSON. */
export const MAX_TOKENIZER_BYTES = 64 * 1024 ** 2;
/** Configuration files are a few kilobytes; chat templates of tool models reach 20 kB. */
export const MAX_CONFIG_BYTES = 1024 ** 2;
/** Control messages carry whole conversations: the largest body that the API takes, and room for escapes. */
export const MAX_CONTROL_BYTES = 72 * 1024 ** 2;
/** Nesting of a control message: a schema inside a tool inside parameters, with room. */
export const MAX_CONTROL_DEPTH = 128;
/** Largest frame from a child: embeddings of 2048 inputs with 4096 numbers each are 32 MiB. */
export const MAX_REPLY_BYTES = 64 * 1024 ** 2;

/** Requests that one child computes at once: each holds a KV cache, and more would only slow all of them down. */
export const MAX_ACTIVE = 16;
/** Requests waiting for all children together: past this, an answer would come later than any client waits. */
export const MAX_QUEUED = 512;
/** Milliseconds that an overloaded engine asks its callers to stay away when it has no measurement yet. */
export const RETRY_AFTER_MS = 1_000;
/** Chunks that a child may send ahead of its consumer; then the sequence pauses until some were read. */
export const WINDOW_EVENTS = 256;
/** Chunks that are acknowledged together, so that reading costs few messages. */
export const ACKNOWLEDGE_EVENTS = 64;
/** Milliseconds that a full buffer waits for its reader before the generation is given up and its place freed. */
export const STALLED_READER_MS = 120_000;

/** Milliseconds for reading, hashing and optimising a model. */
export const LOAD_TIMEOUT_MS = 120_000;
/** Milliseconds for a child to start its engine and run the probe set. */
export const START_TIMEOUT_MS = 60_000;
/** Milliseconds for one run of the network: a chunk of a prompt, a token, or a batch of texts. */
export const STEP_TIMEOUT_MS = 30_000;
/** Milliseconds for rendering a template and splitting the prompt into tokens; templates are programs. */
export const PREPARE_TIMEOUT_MS = 5_000;
/** Milliseconds that a token waits for the next ones to share its message; nobody sees a delay as short as this. */
export const COALESCE_MS = 5;
/** Milliseconds of silence after which a working child is asked whether it lives, and then given as long to say so. */
export const SILENCE_MS = 180_000;
/** Milliseconds that `close` leaves to running requests. */
export const CLOSE_DRAIN_MS = 5_000;

/** Resident memory of a child, bytes, at which its watchdog kills it. */
export const MAX_RSS_BYTES = 6 * 1024 ** 3;
/** JavaScript heap of a child, MiB: tokenizers and automata; weights and caches live outside it. */
export const CHILD_HEAP_MIB = 2048;
/**
 * Size of that heap, buffers of tensors included, before it is searched for garbage as a whole, MiB. Every token leaves
 * a copy of its text's keys and values behind, which the quick search for young garbage frees; with V8's own first
 * limit the long search runs as well, about twice in an answer of 256 tokens, and its threads took up to a tenth of the
 * processor's time.
 */
export const CHILD_FIRST_HEAP_MIB = 128;
/** Models that one child keeps loaded. */
export const MAX_MODELS = 4;
/** How often the child's watchdog looks at memory, deadlines and its parent. */
export const WATCHDOG_INTERVAL_MS = 20;
/** Consecutive failed starts after which requests are refused instead of waiting. */
export const MAX_START_FAILURES = 4;
/** First and longest pause before a child is started again after one that did no work, milliseconds. */
export const BACKOFF_FIRST_MS = 50;
export const BACKOFF_LONGEST_MS = 5_000;

/** Bytes of KV snapshots kept for prompts that begin alike, per child. */
export const CACHE_BYTES = 256 * 1024 ** 2;
/** A shared beginning shorter than this is computed faster than it is looked up and copied. */
export const CACHE_LEAST_TOKENS = 8;
/** Tokens of a prompt that run at once: long enough to use the processor well, short enough for others' tokens. */
export const PREFILL_CHUNK = 256;
/** Chunks of a prompt that a re-check takes as one: most answers then need a single run with what they answer. */
export const RECHECK_CHUNKS = 2;
/** Bytes that the logits of one chunk may take; models with large vocabularies get shorter chunks. */
export const MAX_LOGITS_BYTES = 64 * 1024 ** 2;
/** Context of models whose configuration states none. */
export const DEFAULT_CONTEXT = 2048;
/** Tokens (padding included) of one batch of texts to embed. */
export const EMBED_BATCH_TOKENS = 4096;
/** Characters of a rendered prompt for each token of context: more cannot fit any tokenizer in use. */
export const MAX_CHARACTERS_PER_TOKEN = 64;

/** Size of a JSON schema as text; OpenAI's own limit for names and values together is about this. */
export const MAX_SCHEMA_BYTES = 256 * 1024;
/** Nesting of a schema, and of a value that no schema bounds. */
export const MAX_SCHEMA_DEPTH = 48;
/** Nodes of the grammar made from all schemas of a request. */
export const MAX_GRAMMAR_NODES = 200_000;
/** Largest `maxItems`, `maxLength` and the like; a longer answer fits no context. */
export const MAX_REPEAT = 1_000_000;
/** States of one automaton before it is emptied and built again from where it stands. */
export const MAX_GRAMMAR_STATES = 20_000;
/** Ways to read an answer that are followed at once; a schema that needs more is refused. */
export const MAX_GRAMMAR_THREADS = 2_048;
/** Grammars kept for each model. */
export const MAX_GRAMMARS = 64;
/** Nesting of a value of `json_object`, or where a schema allows anything. */
export const FREE_JSON_DEPTH = 12;
/** Digits of a whole number without bounds: more are no safe integer. */
export const MAX_INTEGER_DIGITS = 15;
/** Decimals of a number: more than a model means. */
export const MAX_DECIMALS = 6;

/** Largest text of one stop sequence, bytes; text is held back for as long. */
export const MAX_STOP_BYTES = 1024;
export const MAX_STOPS = 16;
export const MAX_CHOICES = 16;
export const MAX_TOP_LOGPROBS = 20;
/** Entries of a logit bias, as OpenAI limits them. */
export const MAX_BIASES = 1024;
/** Disagreements that a re-check names. */
export const MAX_DISAGREEMENTS = 16;
