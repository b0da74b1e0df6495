import { inspectNothing } from "./inspect.ts";
import { serveChild } from "./serve.ts";
import { parseSettings } from "./settings.ts";

await serveChild(parseSettings(process.argv[2] ?? ""), { inspect: inspectNothing });
