import { describe, expect, test } from "vitest";
import type { AssayError } from "@assay/core";
import { isAssayError } from "@assay/core";
import type { Datatype, Tensor } from "../tensor.ts";
import { bytesElements, packBytesElements } from "./datatypes.ts";
import { joinBody } from "./encode.ts";
import type { OipLimits } from "./limits.ts";
import { errorDocument, modelMetadata, modelReady, serverMetadata } from "./metadata.ts";
import type { InferRequest, RawInput } from "./request.ts";
import { encodeInferRequest, parseHeaderLength, parseInferRequest } from "./request.ts";
import { encodeInferResponse, parseInferResponse } from "./response.ts";
import { errorDocumentSchema, modelMetadataSchema, modelReadySchema, serverMetadataSchema } from "./schemas.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
/** The first element, which the test says is there. */
function first<T>(list: readonly T[]): T {
  const [element] = list;
  if (element === undefined) throw new Error("the list is empty");
  return element;
}
const parse = (text: string, limits: Partial<OipLimits> = {}): InferRequest =>
  parseInferRequest(utf8(text), undefined, { limits });
const input = (datatype: string, shape: string, data: string): string =>
  `{"inputs":[{"name":"x","shape":${shape},"datatype":"${datatype}","data":${data}}]}`;

function refusal(run: () => unknown): AssayError {
  try {
    run();
  } catch (error) {
    if (isAssayError(error)) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("JSON requests", () => {
  test.each<[string, string, number[]]>([
    ["flat", input("INT32", "[2,2]", "[1,2,3,4]"), [1, 2, 3, 4]],
    ["nested", input("INT32", "[2,2]", "[[1,2],[3,4]]"), [1, 2, 3, 4]],
    ["nested three deep", input("INT32", "[2,1,2]", " [ [ [ 1 , 2 ] ] , [ [ 3 , 4 ] ] ] "), [1, 2, 3, 4]],
    ["scalar", input("INT32", "[]", "[7]"), [7]],
    ["empty", input("INT32", "[0]", "[]"), []],
    ["empty and flat", input("INT32", "[2,0]", "[]"), []],
    ["empty and nested", input("INT32", "[2,0]", "[[],[]]"), []],
    ["data before its type", '{"inputs":[{"data":[[1],[-2]],"datatype":"INT32","shape":[2,1],"name":"x"}]}', [1, -2]],
    ["the ends of the range", input("INT32", "[2]", "[-2147483648,2147483647]"), [-2147483648, 2147483647]],
    ["minus zero", input("INT32", "[1]", "[-0]"), [0]],
  ])("are accepted when %s", (_, text, values) => {
    const tensor = first(parse(text).inputs);
    expect(Array.from(new Int32Array(tensor.data.slice().buffer))).toEqual(values);
  });

  test("keep 64-bit integers exactly", () => {
    const signed = parse(input("INT64", "[4]", "[9007199254740993,-9223372036854775808,-1,4294967296]"));
    expect([...new BigInt64Array(first(signed.inputs).data.buffer as ArrayBuffer)]).toEqual([
      9007199254740993n,
      -9223372036854775808n,
      -1n,
      4294967296n,
    ]);
    const unsigned = parse(input("UINT64", "[2]", "[18446744073709551615,999999999999999]"));
    expect([...new BigUint64Array(first(unsigned.inputs).data.buffer as ArrayBuffer)]).toEqual([
      18446744073709551615n,
      999999999999999n,
    ]);
  });

  test("read parameters, selections and every escape", () => {
    const request = parse(
      '{"id":"a","parameters":{"__proto__":"p","n":1.5,"b":true,"binary_data_output":true},"inputs":[{"name":' +
        '"\\u0078\\n\\"\\\\\\/\\b\\f\\r\\t\\ud83d\\ude00","shape":[1],"datatype":"BYTES","data":["\\u00e9"]}],' +
        '"outputs":[{"name":"y"},{"name":"z","parameters":{"binary_data":false}}]}',
    );
    expect(request.id).toBe("a");
    expect(Object.entries(request.parameters)).toEqual([
      ["__proto__", "p"],
      ["n", 1.5],
      ["b", true],
    ]);
    expect(request.inputs[0]?.name).toBe('x\n"\\/\b\f\r\t\u{1f600}');
    expect(bytesElements(first(request.inputs))[0]).toEqual(utf8("\u00e9"));
    expect(request.outputs).toEqual([
      { name: "y", binary: true },
      { name: "z", binary: false },
    ]);
    expect(parse(input("BOOL", "[2]", "[true,false]")).inputs[0]?.data).toEqual(Uint8Array.of(1, 0));
  });

  const tensor = '{"name":"x","shape":[1],"datatype":"INT32","data":[1]}';
  const ok = `{"inputs":[${tensor}]}`;
  test.each<[string, string, string]>([
    ["nothing", "", "request_malformed"],
    ["null", "null", "request_malformed"],
    ["an array", `[${tensor}]`, "request_malformed"],
    ["no inputs", "{}", "request_malformed"],
    ["an empty list of inputs", '{"inputs":[]}', "request_malformed"],
    ["text after the object", `${ok}x`, "request_malformed"],
    ["a second object", `${ok}${ok}`, "request_malformed"],
    ["an unfinished object", ok.slice(0, -1), "request_malformed"],
    ["a trailing comma", '{"inputs":[],}', "request_malformed"],
    ["a byte order mark", `\ufeff${ok}`, "request_malformed"],
    ["single quotes", "{'inputs':[]}", "request_malformed"],
    ["an unknown field", `{"inputs":[${tensor}],"extra":1}`, "request_malformed"],
    ["an unknown field of a tensor", `{"inputs":[${tensor.replace("{", '{"extra":1,')}]}`, "request_malformed"],
    ["an unknown field of an output", `{"inputs":[${tensor}],"outputs":[{"name":"y","x":1}]}`, "request_malformed"],
    ["a key twice", `{"inputs":[${tensor}],"inputs":[${tensor}]}`, "request_malformed"],
    ["a tensor's key twice", ok.replace('"shape":[1]', '"shape":[1],"shape":[1]'), "request_malformed"],
    ["a key twice through an escape", ok.replace('"shape":[1]', '"shape":[1],"sh\\u0061pe":[1]'), "request_malformed"],
    ["an id that is a number", `{"id":1,"inputs":[${tensor}]}`, "request_malformed"],
    ["a tensor without a name", '{"inputs":[{"shape":[1],"datatype":"INT32","data":[1]}]}', "request_malformed"],
    ["an empty name", ok.replace('"x"', '""'), "request_malformed"],
    ["a tensor without a shape", '{"inputs":[{"name":"x","datatype":"INT32","data":[1]}]}', "request_malformed"],
    ["a tensor without a datatype", '{"inputs":[{"name":"x","shape":[1],"data":[1]}]}', "request_malformed"],
    ["a control character in a name", ok.replace('"x"', '"\u0001"'), "request_malformed"],
    ["half a surrogate pair", ok.replace('"x"', '"\\ud800"'), "request_malformed"],
    ["an unknown escape", ok.replace('"x"', '"\\x41"'), "request_malformed"],
    ["a short escape", ok.replace('"x"', '"\\u00g0"'), "request_malformed"],
    ["a name without an end", '{"inputs":[{"name":"x', "request_malformed"],
    ["an escape without an end", '{"inputs":[{"name":"x\\', "request_malformed"],
    ["a parameter that is an object", `{"parameters":{"a":{}},"inputs":[${tensor}]}`, "request_malformed"],
    [
      "a parameter beyond exact numbers",
      `{"parameters":{"a":9007199254740993},"inputs":[${tensor}]}`,
      "request_malformed",
    ],
    ["an infinite parameter", `{"parameters":{"a":1e999},"inputs":[${tensor}]}`, "request_malformed"],
    [
      "binary_data_output as a text",
      `{"parameters":{"binary_data_output":"yes"},"inputs":[${tensor}]}`,
      "request_malformed",
    ],
    [
      "binary_data as a number",
      `{"inputs":[${tensor}],"outputs":[{"name":"y","parameters":{"binary_data":1}}]}`,
      "request_malformed",
    ],
    ["an output without a name", `{"inputs":[${tensor}],"outputs":[{}]}`, "request_malformed"],
    [
      "binary data without a header length",
      '{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","parameters":{"binary_data_size":1}}]}',
      "request_malformed",
    ],
    [
      "shared memory",
      ok.replace('"data"', '"parameters":{"shared_memory_region":"r"},"data"'),
      "parameter_unsupported",
    ],
    [
      "classification",
      `{"inputs":[${tensor}],"outputs":[{"name":"y","parameters":{"classification":3}}]}`,
      "parameter_unsupported",
    ],
    ["two tensors of one name", `{"inputs":[${tensor},${tensor}]}`, "tensor_duplicate"],
    ["two outputs of one name", `{"inputs":[${tensor}],"outputs":[{"name":"y"},{"name":"y"}]}`, "tensor_duplicate"],
    ["an unknown datatype", input("FLOAT", "[1]", "[1]"), "datatype_unknown"],
    ["a datatype in lower case", input("fp32", "[1]", "[1]"), "datatype_unknown"],
    ["a datatype that every object has", input("toString", "[1]", "[1]"), "datatype_unknown"],
    ["a negative axis", input("INT32", "[-1]", "[1]"), "tensor_shape_invalid"],
    ["half an axis", input("INT32", "[1.5]", "[1]"), "tensor_shape_invalid"],
    ["an axis beyond exact numbers", input("INT32", "[9007199254740993]", "[1]"), "tensor_shape_invalid"],
    ["an axis as a text", input("INT32", '["1"]', "[1]"), "request_malformed"],
    ["an axis with an exponent", input("INT32", "[1e0]", "[1]"), "request_malformed"],
    ["axes whose product is huge", input("INT8", "[65536,65536,65536,65536]", "[1]"), "tensor_too_large"],
    ["huge axes beside a zero", input("INT8", "[0,4294967296,4294967296]", "[]"), "tensor_too_large"],
    ["more elements than the text could hold", input("FP64", "[200000000]", "[1]"), "tensor_data_size"],
    ["no data", '{"inputs":[{"name":"x","shape":[1],"datatype":"INT32"}]}', "tensor_data_missing"],
    ["one element too few", input("INT32", "[2]", "[1]"), "tensor_data_size"],
    ["one element too many", input("INT32", "[2]", "[1,2,3]"), "tensor_data_size"],
    ["an element where none is declared", input("INT32", "[0]", "[1]"), "tensor_data_size"],
    ["no element where one is declared", input("INT32", "[]", "[]"), "tensor_data_size"],
    ["a comma too many", input("INT32", "[1]", "[1,]"), "tensor_data_size"],
    ["no comma", input("INT32", "[2]", "[1 2]"), "request_malformed"],
    ["nesting where the shape is flat", input("INT32", "[2]", "[[1,2]]"), "tensor_nesting"],
    ["nesting of half the depth", input("INT32", "[2,1,1]", "[[1],[2]]"), "tensor_nesting"],
    ["nesting deeper than the shape", input("INT32", "[1,1]", "[[[1]]]"), "tensor_nesting"],
    ["rows of another length", input("INT32", "[2,2]", "[[1,2,3],[4]]"), "tensor_nesting"],
    ["a row too few", input("INT32", "[2,2]", "[[1,2]]"), "tensor_nesting"],
    ["a row too many", input("INT32", "[1,2]", "[[1,2],[3,4]]"), "tensor_nesting"],
    ["flat and nested mixed", input("INT32", "[2,2]", "[[1,2],3,4]"), "tensor_nesting"],
    ["an empty row", input("INT32", "[1,1]", "[[]]"), "tensor_nesting"],
    ["data that is a number", input("INT32", "[1]", "1"), "tensor_data_invalid"],
    ["data that is an object", input("INT32", "[1]", '{"0":1}'), "tensor_data_invalid"],
    ["null", input("FP32", "[1]", "[null]"), "tensor_data_invalid"],
    ["a text among numbers", input("FP32", "[1]", '["1"]'), "tensor_data_invalid"],
    ["a boolean among numbers", input("INT8", "[1]", "[true]"), "tensor_data_invalid"],
    ["a number among booleans", input("BOOL", "[1]", "[1]"), "tensor_data_invalid"],
    ["a number among texts", input("BYTES", "[1]", "[1]"), "tensor_data_invalid"],
    ["NaN", input("FP32", "[1]", "[NaN]"), "tensor_data_invalid"],
    ["Infinity", input("FP64", "[1]", "[Infinity]"), "tensor_data_invalid"],
    ["a leading plus", input("FP32", "[1]", "[+1]"), "tensor_data_invalid"],
    ["a leading point", input("FP32", "[1]", "[.5]"), "tensor_data_invalid"],
    ["a trailing point", input("FP32", "[1]", "[1.]"), "request_malformed"],
    ["an empty exponent", input("FP32", "[1]", "[1e]"), "request_malformed"],
    ["a leading zero", input("FP32", "[1]", "[01]"), "request_malformed"],
    ["a leading zero of an integer", input("INT32", "[1]", "[01]"), "tensor_value_range"],
    ["hexadecimal", input("INT32", "[1]", "[0x1]"), "request_malformed"],
    ["a lone minus", input("INT32", "[1]", "[-]"), "request_malformed"],
    ["a double too large", input("FP64", "[1]", "[1e309]"), "tensor_value_range"],
    ["a float too large", input("FP32", "[1]", "[3.5e38]"), "tensor_value_range"],
    ["a float at the middle to infinity", input("FP32", "[1]", "[3.4028235677973366e38]"), "tensor_value_range"],
    ["FP16", input("FP16", "[1]", "[1]"), "datatype_needs_binary"],
    ["BF16", input("BF16", "[1]", "[1]"), "datatype_needs_binary"],
    ["a fraction in an integer", input("INT32", "[1]", "[1.0]"), "tensor_value_range"],
    ["an exponent in an integer", input("INT64", "[1]", "[1e3]"), "tensor_value_range"],
  ])("are refused: %s", (_, text, code) => {
    expect(refusal(() => parse(text)).code).toBe(code);
  });

  test.each<[Datatype, string, string]>([
    ["UINT8", "-1", "256"],
    ["UINT16", "-1", "65536"],
    ["UINT32", "-1", "4294967296"],
    ["UINT64", "-1", "18446744073709551616"],
    ["INT8", "-129", "128"],
    ["INT16", "-32769", "32768"],
    ["INT32", "-2147483649", "2147483648"],
    ["INT64", "-9223372036854775809", "9223372036854775808"],
  ])("%s never wraps", (datatype, below, above) => {
    for (const lexeme of [below, above, "1".repeat(400), `-${"1".repeat(400)}`]) {
      const error = refusal(() => parse(input(datatype, "[1]", `[${lexeme}]`)));
      expect(error.code).toBe("tensor_value_range");
      expect(error.message).toContain('"x"');
    }
    expect(parse(input(datatype, "[1]", `[${BigInt(above) - 1n}]`)).inputs).toHaveLength(1);
    expect(parse(input(datatype, "[1]", `[${BigInt(below) + 1n}]`)).inputs).toHaveLength(1);
  });

  test("invalid UTF-8 is refused", () => {
    const bytes = utf8(ok);
    bytes[bytes.indexOf(0x78)] = 0xff;
    expect(refusal(() => parseInferRequest(bytes, undefined)).code).toBe("request_malformed");
  });

  test("deep nesting in data that has to be read over is refused before the stack is", () => {
    const deep = `{"inputs":[{"data":${"[".repeat(100_000)}`;
    expect(refusal(() => parse(deep)).code).toBe("request_malformed");
    const typed = input("INT32", "[1]", "[".repeat(100_000));
    expect(refusal(() => parse(typed)).code).toBe("tensor_nesting");
  });

  test.each<[string, keyof OipLimits, number, string, string]>([
    ["the body", "maxBodyBytes", ok.length, ok, "request_too_large"],
    ["the JSON", "maxJsonBytes", ok.length, ok, "request_too_large"],
    ["tensors", "maxTensors", 2, `{"inputs":[${tensor},${tensor.replace("x", "y")}]}`, "request_limit_exceeded"],
    [
      "outputs",
      "maxTensors",
      2,
      `{"inputs":[${tensor}],"outputs":[{"name":"a"},{"name":"b"}]}`,
      "request_limit_exceeded",
    ],
    ["axes", "maxRank", 3, input("INT32", "[1,1,1]", "[1]"), "tensor_too_large"],
    ["elements", "maxElements", 3, input("INT32", "[3]", "[1,2,3]"), "tensor_too_large"],
    ["a name", "maxNameLength", 12, ok.replace('"x"', '"twelve chars"'), "request_limit_exceeded"],
    ["parameters", "maxParameters", 2, `{"parameters":{"a":1,"b":2},"inputs":[${tensor}]}`, "request_limit_exceeded"],
    [
      "a parameter's key",
      "maxNameLength",
      12,
      `{"parameters":{"twelve chars":1},"inputs":[${tensor}]}`,
      "request_limit_exceeded",
    ],
  ])("hold the limit on %s and refuse one below it", (_, limit, most, text, code) => {
    expect(parse(text, { [limit]: most }).inputs.length).toBeGreaterThan(0);
    expect(refusal(() => parse(text, { [limit]: most - 1 })).code).toBe(code);
  });
});

describe("binary requests", () => {
  const json = (fields: string): string => `{"inputs":[{"name":"x",${fields}}]}`;
  const send = (text: string, data: number[], length = utf8(text).length): InferRequest =>
    parseInferRequest(new Uint8Array([...utf8(text), ...data]), length);
  const int16 = json('"shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}');
  const bytes = (size: number): string =>
    json(`"shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":${size}}`);

  test("read tensors in the order of the JSON, among JSON tensors", () => {
    const text =
      '{"inputs":[{"name":"a","shape":[1],"datatype":"INT8","parameters":{"binary_data_size":1}},' +
      '{"name":"b","shape":[1],"datatype":"INT8","data":[5]},' +
      '{"name":"c","shape":[2],"datatype":"BOOL","parameters":{"binary_data_size":2}}]}';
    expect(send(text, [255, 0, 1]).inputs.map((tensor) => [...tensor.data])).toEqual([[255], [5], [0, 1]]);
    expect(send(`${int16}     `, [1, 2, 3, 4]).inputs[0]?.data).toEqual(Uint8Array.of(1, 2, 3, 4));
  });

  test.each<[string, () => unknown, string]>([
    ["a header length past the body", () => send(int16, [], 10_000), "header_length_invalid"],
    ["a negative header length", () => send(int16, [], -1), "header_length_invalid"],
    ["half a header length", () => send(int16, [], 1.5), "header_length_invalid"],
    ["a header length inside the JSON", () => send(int16, [1, 2, 3, 4], 20), "request_malformed"],
    ["a header length inside the data", () => send(int16, [1, 2, 3, 4], int16.length + 1), "tensor_data_size"],
    ["fewer bytes than declared", () => send(int16, [1, 2, 3]), "tensor_data_size"],
    ["bytes left over", () => send(int16, [1, 2, 3, 4, 5]), "trailing_bytes"],
    ["a size that is not the shape's", () => send(int16.replace(":4}", ":3}"), [1, 2, 3]), "tensor_data_size"],
    ["a negative size", () => send(int16.replace(":4}", ":-4}"), []), "request_malformed"],
    ["a size as text", () => send(int16.replace(":4}", ':"4"}'), [1, 2, 3, 4]), "request_malformed"],
    [
      "data and binary data",
      () => send(int16.replace('"shape"', '"data":[1,2],"shape"'), [1, 2, 3, 4]),
      "request_malformed",
    ],
    [
      "a BOOL of 2",
      () => send(json('"shape":[1],"datatype":"BOOL","parameters":{"binary_data_size":1}'), [2]),
      "tensor_value_range",
    ],
    ["one element of BYTES too few", () => send(bytes(4), [0, 0, 0, 0]), "tensor_data_size"],
    ["BYTES that end in a length", () => send(bytes(6), [0, 0, 0, 0, 0, 0]), "tensor_data_size"],
    ["BYTES that end in an element", () => send(bytes(9), [0, 0, 0, 0, 2, 0, 0, 0, 1]), "tensor_data_size"],
    ["BYTES longer than memory", () => send(bytes(8), [255, 255, 255, 255, 0, 0, 0, 0]), "tensor_data_size"],
    ["BYTES with one element too many", () => send(bytes(12), Array<number>(12).fill(0)), "tensor_data_size"],
  ])("are refused: %s", (_, run, code) => {
    expect(refusal(run).code).toBe(code);
  });

  test.each(["", "x", "-1", "1.5", "0x10", " 1", "1e3", "1".repeat(16)])("the header %j is no length", (value) => {
    expect(refusal(() => parseHeaderLength(value)).code).toBe("header_length_invalid");
  });
  test("the header gives a length, or nothing when it is absent", () => {
    expect(parseHeaderLength("120")).toBe(120);
    expect(parseHeaderLength(undefined)).toBeUndefined();
  });
});

describe("raw requests", () => {
  const raw = (body: Uint8Array, rawInput?: RawInput, limits: Partial<OipLimits> = {}): InferRequest =>
    parseInferRequest(body, 0, rawInput === undefined ? { limits } : { rawInput, limits });
  const floats = new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);

  test("are the single input, whose free axis follows from the size", () => {
    const request = raw(floats, { name: "x", datatype: "FP32", shape: [-1, 3] });
    expect(request).toEqual({
      parameters: {},
      inputs: [{ name: "x", datatype: "FP32", shape: [2, 3], data: floats }],
      binaryOutput: true,
    });
    expect(request.inputs[0]?.data).toBe(floats);
    const text = raw(utf8("hello"), { name: "t", datatype: "BYTES", shape: [1] });
    expect(bytesElements(first(text.inputs))).toEqual([utf8("hello")]);
  });

  test.each<[string, Uint8Array, RawInput | undefined, string]>([
    ["without a single input to be", floats, undefined, "raw_request_unsupported"],
    ["with two free axes", floats, { name: "x", datatype: "FP32", shape: [-1, -1] }, "raw_request_unsupported"],
    ["of another size", floats, { name: "x", datatype: "FP32", shape: [5] }, "tensor_data_size"],
    ["that no row count gives", floats, { name: "x", datatype: "FP32", shape: [-1, 4] }, "tensor_data_size"],
    ["beside an empty axis", floats, { name: "x", datatype: "FP32", shape: [-1, 0] }, "tensor_data_size"],
    ["of half an element", floats.subarray(1), { name: "x", datatype: "FP32", shape: [-1] }, "tensor_data_size"],
    ["of BYTES for two elements", floats, { name: "x", datatype: "BYTES", shape: [2] }, "tensor_data_size"],
  ])("are refused %s", (_, body, rawInput, code) => {
    expect(refusal(() => raw(body, rawInput)).code).toBe(code);
  });

  test("hold the limit on the body", () => {
    const rawInput: RawInput = { name: "x", datatype: "FP32", shape: [-1] };
    expect(raw(floats, rawInput, { maxBodyBytes: 24 }).inputs).toHaveLength(1);
    expect(refusal(() => raw(floats, rawInput, { maxBodyBytes: 23 })).code).toBe("request_too_large");
  });
});

describe("encoding refuses", () => {
  const tensor = (datatype: Datatype, shape: number[], data: Uint8Array): Tensor => ({
    name: "x",
    datatype,
    shape,
    data,
  });
  const answer = (of: Tensor, binary: boolean): unknown =>
    encodeInferResponse({ modelName: "m", outputs: [{ tensor: of, binary }] });
  const floats = (value: number): Tensor => tensor("FP32", [1], new Uint8Array(Float32Array.of(value).buffer));

  test.each<[string, Tensor, string]>([
    ["NaN", floats(NaN), "value_not_json"],
    ["an infinity", floats(-Infinity), "value_not_json"],
    ["FP16", tensor("FP16", [1], new Uint8Array(2)), "datatype_needs_binary"],
    ["BF16", tensor("BF16", [1], new Uint8Array(2)), "datatype_needs_binary"],
    ["BYTES that are no text", tensor("BYTES", [1], packBytesElements([Uint8Array.of(0xff)])), "bytes_not_utf8"],
  ])("%s in JSON form, and sends it in binary form", (_, of, code) => {
    const error = refusal(() => answer(of, false));
    expect(error.code).toBe(code);
    expect(error.message).toContain('"x"');
    expect(error.hints.join()).toContain("binary");
    expect(answer(of, true)).toBeDefined();
  });

  test.each<[string, Tensor, string]>([
    ["bytes that are not the shape's", tensor("INT32", [2], new Uint8Array(7)), "tensor_data_size"],
    ["a negative axis", tensor("INT32", [-1], new Uint8Array(4)), "tensor_shape_invalid"],
    ["a BOOL of 7", tensor("BOOL", [1], Uint8Array.of(7)), "tensor_value_range"],
    ["BYTES that are not packed", tensor("BYTES", [1], Uint8Array.of(1)), "tensor_data_size"],
  ])("%s, in requests and answers", (_, of, code) => {
    expect(refusal(() => answer(of, true)).code).toBe(code);
    expect(refusal(() => answer(of, false)).code).toBe(code);
    expect(refusal(() => encodeInferRequest({ inputs: [of] })).code).toBe(code);
  });
});

describe("answers", () => {
  test("are read with fields that a newer server may add", () => {
    const text =
      '{"model_name":"m","new":{"a":[1,null,"x",true,{}]},"outputs":[{"name":"y","shape":[1],"datatype":"INT8","data":[3],"more":[]}]}';
    expect(parseInferResponse(utf8(text), undefined).outputs[0]?.data).toEqual(Uint8Array.of(3));
  });
  test.each([
    ["without a model", '{"outputs":[]}', "response_malformed"],
    ["without outputs", '{"model_name":"m"}', "request_malformed"],
    [
      "with a tensor twice",
      '{"model_name":"m","outputs":[{"name":"y","shape":[1],"datatype":"INT8","data":[3]},{"name":"y","shape":[1],"datatype":"INT8","data":[3]}]}',
      "tensor_duplicate",
    ],
    ["with a bad value in an unknown field", '{"model_name":"m","new":nul,"outputs":[]}', "request_malformed"],
    [
      "with an unknown field that is too deep",
      `{"model_name":"m","new":${"[".repeat(40)}${"]".repeat(40)},"outputs":[]}`,
      "request_malformed",
    ],
  ])("are refused %s", (_, text, code) => {
    expect(refusal(() => parseInferResponse(utf8(text), undefined)).code).toBe(code);
  });
});

describe("documents", () => {
  test("fit their schemas", () => {
    expect(serverMetadataSchema.parse(serverMetadata("assay", "1", ["receipts"])).extensions).toEqual([
      "binary_tensor_data",
      "receipts",
    ]);
    const axes = { name: "x", datatype: "FP32" as const, shape: [-1, 3] };
    const metadata = modelMetadata("m", ["1"], { inputs: [axes], outputs: [] });
    expect(modelMetadataSchema.parse(metadata).inputs).toEqual([axes]);
    expect(modelReadySchema.parse(modelReady("m", true))).toEqual({ name: "m", ready: true });
    const error = refusal(() => parse("{}"));
    expect(errorDocumentSchema.parse(errorDocument(error))).toEqual({
      error: "The request has no inputs.",
      code: "request_malformed",
    });
    const hinted = refusal(() => parse(input("FP16", "[1]", "[1]")));
    expect(errorDocument(hinted).hints).toEqual(hinted.hints);
  });

  test("an encoded body is one chunk as JSON and aligned when binary", () => {
    const x: Tensor = { name: "x", datatype: "INT8", shape: [1], data: Uint8Array.of(1) };
    const json = encodeInferRequest({ inputs: [x], binary: false });
    expect([json.contentType, json.chunks.length, json.headerLength]).toEqual(["application/json", 1, undefined]);
    const binary = encodeInferRequest({ inputs: [x] });
    expect(binary.contentType).toBe("application/octet-stream");
    expect(binary.chunks[1]).toBe(x.data);
    expect(joinBody(binary)).toHaveLength(binary.byteLength);
  });
});
