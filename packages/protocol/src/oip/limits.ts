/** What one Open Inference Protocol message may hold; defaults in {@link DEFAULT_OIP_LIMITS}. */
export type OipLimits = {
  /** Largest body, bytes. */
  readonly maxBodyBytes: number;
  /** Largest JSON part, bytes: all of a JSON body, or the header before binary tensors. */
  readonly maxJsonBytes: number;
  /** Most tensors in one message, and most selected outputs. */
  readonly maxTensors: number;
  /** Most axes of a tensor. */
  readonly maxRank: number;
  /** Most elements of one tensor. */
  readonly maxElements: number;
  /** Longest name or id, UTF-16 code units. */
  readonly maxNameLength: number;
  /** Most entries in one `parameters` object. */
  readonly maxParameters: number;
};

export const DEFAULT_OIP_LIMITS: OipLimits = {
  // A batch of 64 images of 3x512x512 float32 is 192 MiB.
  maxBodyBytes: 268_435_456,
  // JSON costs a hundred times what binary does to read, so the slow form gets the smaller allowance.
  maxJsonBytes: 67_108_864,
  // Decoders with a key-value cache take two tensors per layer.
  maxTensors: 512,
  maxRank: 16,
  maxElements: 268_435_456,
  maxNameLength: 1024,
  maxParameters: 64,
};
