// Draws the picture of the README from a verdict: `assay verify FILE … --json | node scripts/picture.mjs 'COMMAND'`
// writes docs/receipt-light.svg and docs/receipt-dark.svg. Every word in it but the labels comes from the verdict.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const [command] = process.argv.slice(2);
const verdict = JSON.parse(readFileSync(0, "utf8"));
if (command === undefined || !Array.isArray(verdict.checks)) {
  throw new Error("usage: assay verify FILE --json | node scripts/picture.mjs 'COMMAND'");
}

const THEMES = {
  light: { sheet: "#ffffff", line: "#e2e0d9", ink: "#1b211e", second: "#4c544f", third: "#676e6a", seal: "#00714f" },
  dark: { sheet: "#131816", line: "#2b322f", ink: "#eeede8", second: "#b3b3ad", third: "#8d8e88", seal: "#54d7a4" },
};
const WIDTH = 920;
const EDGE = 48;
const SANS = "'Instrument Sans', 'Helvetica Neue', Helvetica, Arial, sans-serif";
const MONO = "'Commit Mono', ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const SERIF = "Newsreader, 'Iowan Old Style', Palatino, Georgia, serif";

const SENTENCE = { verified: "Verified here.", failed: "This receipt does not hold.", inconclusive: "Not decided." };
const NAME = { "re-execution": "re-executed" };
const QUESTIONS = [
  ["Who acted", "whoActed"],
  ["Which model", "whichModel"],
  ["How to verify", "howToVerify"],
  ["Could it have been altered", "couldBeAltered"],
];

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const text = (x, y, words, { size = 13, font = SANS, fill, weight = 400, spacing = 0 }) =>
  `<text x="${x}" y="${y}" font-family="${font}" font-size="${size}" font-weight="${weight}"${
    spacing === 0 ? "" : ` letter-spacing="${spacing}"`
  } fill="${fill}">${escape(words)}</text>`;

function wrap(words, most) {
  const lines = [""];
  for (const word of words.split(" ")) {
    const line = lines.at(-1);
    if (line === "") lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length <= most) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** A capital to begin with, unless the first word is a name. */
const sentence = (words) => (/^[a-z]+ /.test(words) ? words.charAt(0).toUpperCase() + words.slice(1) : words);

/** State is shape first: a square for hardware, a diamond for proofs, a circle else; filled with a tick only when made. */
function mark({ check, status }, x, y, colours) {
  const made = status === "pass";
  const shape =
    {
      attestation: `<rect x="${x - 6.5}" y="${y - 6.5}" width="13" height="13" rx="1.5"`,
      proof: `<path d="M${x} ${y - 8}L${x + 8} ${y}L${x} ${y + 8}L${x - 8} ${y}Z"`,
    }[check] ?? `<circle cx="${x}" cy="${y}" r="7"`;
  const stroke = made ? colours.seal : colours.third;
  const dash = status === "inconclusive" ? ' stroke-dasharray="3 2.5"' : "";
  const outline = `${shape} fill="${made ? colours.seal : colours.sheet}" stroke="${stroke}" stroke-width="1.25"${dash}/>`;
  const sign = made
    ? `M${x - 3.1} ${y + 0.3}L${x - 0.9} ${y + 2.6}L${x + 3.3} ${y - 2.4}`
    : `M${x - 3} ${y - 3}L${x + 3} ${y + 3}M${x + 3} ${y - 3}L${x - 3} ${y + 3}`;
  return made || status === "fail"
    ? `${outline}<path d="${sign}" fill="none" stroke="${made ? colours.sheet : stroke}" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"/>`
    : outline;
}

function draw(colours) {
  const parts = [];
  let y = 58;
  parts.push(text(EDGE, y, "ASSAY RECEIPT", { size: 11, fill: colours.third, weight: 600, spacing: 1.6 }));
  parts.push(
    `<text x="${WIDTH - EDGE}" y="${y}" text-anchor="end" font-family="${MONO}" font-size="12" fill="${colours.third}">${verdict.receiptId}</text>`,
  );
  y += 56;
  parts.push(text(EDGE - 1, y, SENTENCE[verdict.status], { size: 38, font: SERIF, fill: colours.ink }));
  y += 30;
  const rule = () => `<path d="M${EDGE} ${y}H${WIDTH - EDGE}" stroke="${colours.line}"/>`;
  parts.push(rule());
  y += 34;
  const checks = verdict.checks;
  checks.forEach((row, i) => {
    const at = y + i * 30;
    const next = checks[i + 1];
    // The thread is solid only where the next check was made as well.
    if (next) {
      const solid = row.status === "pass" && next.status === "pass";
      parts.push(
        `<path d="M${EDGE + 8} ${at}V${at + 30}" stroke="${solid ? colours.seal : colours.line}" stroke-width="1.25"${solid ? "" : ' stroke-dasharray="1 3"'}/>`,
      );
    }
    const idle = row.status === "absent";
    parts.push(mark(row, EDGE + 8, at, colours));
    parts.push(
      text(EDGE + 34, at + 4.5, NAME[row.check] ?? row.check, {
        fill: idle ? colours.third : colours.ink,
        weight: idle ? 400 : 600,
      }),
      text(EDGE + 152, at + 4.5, row.message, { fill: idle ? colours.third : colours.second }),
    );
  });
  y += checks.length * 30;
  parts.push(rule());
  y += 34;
  const column = (WIDTH - 2 * EDGE - 40) / 2;
  const pairs = [
    ...QUESTIONS.map(([label, key]) => [label, verdict.answers[key]]),
    ["Proves", verdict.proves],
    ["Does not prove", verdict.doesNotProve],
  ];
  for (let i = 0; i < pairs.length; i += 2) {
    let tallest = 0;
    for (const [side, [label, words]] of pairs.slice(i, i + 2).entries()) {
      const x = EDGE + side * (column + 40);
      const lines = wrap(sentence(words), 54);
      parts.push(text(x, y, label, { size: 12, fill: colours.third }));
      lines.forEach((line, n) => parts.push(text(x, y + 21 + n * 19, line, { fill: colours.ink })));
      tallest = Math.max(tallest, lines.length);
    }
    y += 21 + tallest * 19 + 17;
  }
  y -= 6;
  parts.push(rule());
  y += 30;
  parts.push(text(EDGE, y, `$ ${command}`, { size: 12, font: MONO, fill: colours.second }));
  const height = y + 32;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="title">
<title id="title">${escape(`${SENTENCE[verdict.status]} ${checks.filter(({ status }) => status === "pass").length} checks of receipt ${verdict.receiptId} were made and held.`)}</title>
<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="10" fill="${colours.sheet}" stroke="${colours.line}"/>
${parts.join("\n")}
</svg>
`;
}

for (const [theme, colours] of Object.entries(THEMES)) {
  writeFileSync(fileURLToPath(new URL(`../docs/receipt-${theme}.svg`, import.meta.url)), draw(colours));
}
