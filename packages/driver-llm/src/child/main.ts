import { serveChild } from "./serve.ts";
import { parseSettings } from "./settings.ts";

await serveChild(parseSettings(process.argv[2] ?? ""));
