/**
 * What the reader accepts before it gives up on a file. Every field has a default in {@link DEFAULT_READ_LIMITS}
 * whose comment says why it stands there.
 */
export type ReadLimits = {
  /** Largest model file, bytes. */
  readonly maxBytes: number;
  /** Deepest nesting of protobuf messages. */
  readonly maxDepth: number;
  /** Most protobuf fields read in one model, weights in unpacked form included. */
  readonly maxFields: number;
  /** Most nodes over the graph, its subgraphs and its functions. */
  readonly maxNodes: number;
  /** Longest name (of a value, node, operator, domain, file), bytes of UTF-8. */
  readonly maxNameBytes: number;
  /** Longest free text (a metadata value), bytes of UTF-8. */
  readonly maxTextBytes: number;
  /** Most axes of a tensor or of a shape. */
  readonly maxRank: number;
};

export const DEFAULT_READ_LIMITS: ReadLimits = {
  // Protobuf itself cannot carry a message of 2 GiB; larger models keep their weights in external files.
  maxBytes: 2_147_483_647,
  // A subgraph costs four levels (graph, node, attribute, graph); the official parsers stop at 100.
  maxDepth: 64,
  // The largest exported language models have some 100,000 nodes of 20 fields; each field is at least two bytes.
  maxFields: 8_000_000,
  maxNodes: 250_000,
  // Exporters build names from module paths; a few hundred bytes are common, thousands are not.
  maxNameBytes: 4096,
  // Metadata carries class label lists and tokenizer tables in some exporters.
  maxTextBytes: 1_048_576,
  // No operator that the engines run takes more than a handful of axes.
  maxRank: 32,
};
