import { llmError } from "../errors.ts";
import { CALL_ARGUMENTS, CALL_BEGIN, CALL_CLOSE, CALL_END, CALL_NAME } from "../tool-calls.ts";
import type { ResponseFormat, Tool, ToolChoice } from "@assay/protocol";
import { createBuilder } from "./expression.ts";
import type { Builder, Expression } from "./expression.ts";
import { jsonParts } from "./json.ts";
import { schemaExpression } from "./schema.ts";
import type { SchemaObject } from "./pointer.ts";

/** What of a request shapes its answer's form. */
export type AnswerForm = {
  readonly format: ResponseFormat;
  readonly tools: readonly Tool[];
  readonly choice: ToolChoice;
  readonly parallel: boolean;
};

/**
 * The grammar that answers of a form follow; undefined when any text will do. Throws `schema_unsupported` when a
 * schema cannot be enforced, naming the keyword and where it stands.
 */
export function answerGrammar({ format, tools, choice, parallel }: AnswerForm): Expression | undefined {
  const callable = choice === "none" ? [] : tools;
  if (format.type === "text" && callable.length === 0) return undefined;
  const builder = createBuilder();
  const json = formatExpression(builder, format);
  if (callable.length === 0) return json;
  const named =
    typeof choice === "object" ? callable.filter((tool) => tool.function.name === choice.function.name) : callable;
  // The mark itself is not part of it: in free text it is what ends the text.
  const call = builder.sequence(builder.choice(...named.map((tool) => callOf(builder, tool))), builder.text(CALL_END));
  const next = builder.sequence(builder.text(`\n${CALL_BEGIN}`), call);
  const calls = builder.sequence(call, builder.repeat(next, 0, parallel && typeof choice !== "object" ? Infinity : 0));
  const marked = builder.sequence(builder.text(CALL_BEGIN), calls);
  if (choice === "required" || typeof choice === "object") return marked;
  return json === undefined ? builder.sequence(builder.until(CALL_BEGIN), calls) : builder.choice(json, marked);
}

function formatExpression(builder: Builder, format: ResponseFormat): Expression | undefined {
  if (format.type === "text") return undefined;
  if (format.type === "json_object") return jsonParts(builder).object;
  return schemaExpression(builder, format.json_schema.schema);
}

function callOf(builder: Builder, tool: Tool): Expression {
  const { name, parameters } = tool.function;
  const where = `the parameters of ${name}#`;
  const given: SchemaObject =
    parameters !== undefined && Object.keys(parameters).length > 0 ? parameters : { type: "object" };
  if (given["type"] !== "object" && !(given["type"] === undefined && given["properties"] !== undefined)) {
    throw llmError(
      "schema_unsupported",
      `What ${name} takes is not described as an object: its type is not "object".`,
      [`The place is ${where}/type.`],
    );
  }
  const taken = schemaExpression(builder, given, where);
  return builder.sequence(builder.text(`${CALL_NAME}${name}${CALL_ARGUMENTS}`), taken, builder.text(CALL_CLOSE));
}
