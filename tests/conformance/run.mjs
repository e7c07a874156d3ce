// Runs the suite's command line several times in one process, one after another: starting it costs
// more than most scenarios do.
//
//     node run.mjs FILE < [["server", "--url", …], …]      prints [{"code": 0, "output": "…"}, …]

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

class Exited extends Error {}

const file = process.argv[2];
const calls = JSON.parse(readFileSync(0, "utf8"));
const write = process.stdout.write.bind(process.stdout);
const results = [];
let output = [];
let exited = () => {};

const note = (text) => (output.push(String(text)), true);
process.stdout.write = process.stderr.write = note;
for (const kind of ["log", "error", "warn", "info"]) {
  console[kind] = (...parts) => note(parts.join(" ") + "\n");
}
process.exit = (code) => {
  exited(code ?? process.exitCode ?? 0);
  throw new Exited();
};
process.on("unhandledRejection", (error) => {
  if (!(error instanceof Exited)) note(`${error?.stack ?? error}\n`), exited(70);
});

// The program that the file makes is kept in place of being run when it is loaded.
const { Command } = createRequire(file)("commander");
const parse = Command.prototype.parseAsync;
let program;
Command.prototype.parse = function () {
  return (program = this);
};
await import(pathToFileURL(file).href);

for (const args of calls) {
  output = [];
  const code = await new Promise((resolve) => {
    exited = resolve;
    parse.call(program, args, { from: "user" }).then(() => resolve(0), () => resolve(70));
  });
  results.push({ code, output: output.join("") });
}
write(JSON.stringify(results) + "\n", () => process.reallyExit(0));
