// `node scripts/docs.mjs` writes what documents repeat: the index of error pages from the pages themselves, and the table
// of environment variables from .env.example. Tests hold both to their sources.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const folder = fileURLToPath(new URL("../docs/errors", import.meta.url));
const operate = fileURLToPath(new URL("../docs/how-to/operate.md", import.meta.url));
const example = fileURLToPath(new URL("../.env.example", import.meta.url));

/** Every error page: its code, where the code is seen, what happened, and what to do. */
export function errorPages() {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".md") && name !== "README.md")
    .sort()
    .map((name) => {
      const [title = "", where = "", body = "", todo = ""] = readFileSync(join(folder, name), "utf8")
        .trimEnd()
        .split("\n\n");
      return { name, title, where, body, todo };
    });
}

/** The text of docs/errors/README.md. */
export function errorIndex() {
  const rows = errorPages().map(({ name, where, body }) => {
    const sentence = /^.*?[.:](?= |$)/s.exec(body)?.[0].replace(/:$/, ".") ?? body;
    return `| [${name.slice(0, -3)}](${name}) | ${where} | ${sentence} |`;
  });
  return `# Error codes

Every error has a code that stays the same, one sentence that says what was wrong with which thing, and hints. Answers of the gateway
carry it as \`{"error", "code", "hints", "docs"}\`, the command line as its last line, verdicts in the row of each check. Model checks
give a finding for each thing they see: \`refuse\` keeps a model from being released, a warning does not.

| code | where it is seen | what happened |
|---|---|---|
${rows.join("\n")}
`;
}

/** Rows of the table of environment variables, from a text in the form of .env.example. */
export function variableRows(text) {
  return [...text.matchAll(/((?:^# .*\n)+)^#([A-Z_]+)=(.*)$/gm)].map(
    ([, comment, name, value]) =>
      `| \`${name}\` | ${comment.replaceAll(/^# /gm, "").trim().replaceAll("\n", " ")} | \`${value}\` |`,
  );
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  writeFileSync(join(folder, "README.md"), errorIndex());
  const rows = `${variableRows(readFileSync(example, "utf8")).join("\n")}\n`;
  writeFileSync(
    operate,
    readFileSync(operate, "utf8").replace(/(?:^\| `[A-Z_]+` \|.*\n)+/m, () => rows),
  );
}
