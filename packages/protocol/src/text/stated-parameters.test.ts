import { expect, it } from "vitest";
import { statedParameters } from "./stated-parameters.ts";

it("states fractions as texts and integers as numbers, however deep", () => {
  expect(
    statedParameters({ temperature: 0.7, top_p: 1, seed: 7, logit_bias: { "5": -0.5, "6": 3 }, stop: ["a"] }),
  ).toEqual({ temperature: "0.7", top_p: 1, seed: 7, logit_bias: { "5": "-0.5", "6": 3 }, stop: ["a"] });
});

it("names tools and formats without what the caller wrote in them", () => {
  const stated = statedParameters({
    tools: [{ type: "function", function: { name: "weather", description: "secret" } }],
    response_format: { type: "json_schema", json_schema: { name: "city", schema: { title: "secret" } } },
    user: "secret",
    metadata: { a: "secret" },
    prediction: { type: "content", content: "secret" },
    safety_identifier: "secret",
  });
  expect(stated).toEqual({ tools: ["weather"], response_format: { type: "json_schema", name: "city" } });
  expect(JSON.stringify(stated)).not.toContain("secret");
});

it("leaves out what is absent", () => {
  expect(statedParameters({})).toEqual({});
  expect(statedParameters({ response_format: { type: "json_object" } })).toEqual({
    response_format: { type: "json_object" },
  });
  expect(statedParameters({ response_format: { type: "json_schema", json_schema: { schema: {} } } })).toEqual({
    response_format: { type: "json_schema" },
  });
});
