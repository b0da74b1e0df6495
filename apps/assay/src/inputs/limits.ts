/** No model in use declares more; a longer command line is a mistake. */
export const MAX_INPUTS = 64;

/** Characters of one `name=value`; beyond it a file is the right place. */
export const MAX_SPEC_CHARS = 1_048_576;

/** Bytes of any input file, and of standard input: the largest tensor and its header fit. */
export const MAX_FILE_BYTES = 268_435_456 + 65_536;

/** Bytes of a JSON file. Parsed JSON takes some twenty times its text in memory. */
export const MAX_JSON_BYTES = 33_554_432;

/** Nested arrays of JSON or axes of a tensor; ONNX models in use stay below 8. */
export const MAX_RANK = 16;

/** Elements of one tensor: 256 MiB as float32, which a run's request still carries. */
export const MAX_ELEMENTS = 67_108_864;

/** Bytes of a PNG file. */
export const MAX_PNG_BYTES = 33_554_432;

/** Pixels of a picture, checked before it is unpacked: 16 million take 128 MiB as 16-bit RGBA. */
export const MAX_IMAGE_PIXELS = 16_777_216;

/** Pixels along one side: bounds what a resize holds at once, and keeps its integer sums exact. */
export const MAX_IMAGE_SIDE = 16_384;

/** Channels of a recording. */
export const MAX_AUDIO_CHANNELS = 32;

/** Samples a second that files and models really have. */
export const MIN_SAMPLE_RATE_HZ = 4_000;
export const MAX_SAMPLE_RATE_HZ = 384_000;

/** Length of a recording: ten minutes at 16 kHz are 38 MB of float32. */
export const MAX_AUDIO_SECONDS = 600;

/** Coefficients a resampling filter may hold; only ratios between unrelated odd rates need more. */
export const MAX_FILTER_COEFFICIENTS = 8_388_608;

/** Bytes of a preprocessing document. */
export const MAX_PREPROCESSING_BYTES = 65_536;

/** Steps of one picture's preparation. */
export const MAX_STEPS = 32;

/** Characters of a `.npy` header, numpy's own limit. */
export const MAX_NPY_HEADER = 10_000;
