import { inspectModel } from "./inspect.ts";
import { describePort } from "./engine.ts";
import { serveChild } from "./serve.ts";
import { parseSettings } from "./settings.ts";

await serveChild(parseSettings(process.argv[2] ?? ""), { inspect: inspectModel, describe: describePort });
