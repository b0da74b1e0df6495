/**
 * The line that is added to the system turn when an answer must follow a JSON schema: this text, the schema as Python's
 * `json.dumps` writes it, and nothing more. Models that are trained on it know what is asked; the grammar makes sure.
 */
export const SCHEMA_INSTRUCTION = "Answer in JSON with this schema: ";
/** The line for `json_object`, where no schema is given. */
export const JSON_INSTRUCTION = "Answer in JSON.";
