// Shows a page of MCP Apps as a host does: jsdom is the browser, the official bridge the host.
// In: {html, results, serverTools}; out: what the page did and shows, as one JSON line.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const modules = createRequire(join(process.argv[2], "x.js"));
const load = (name) => import(pathToFileURL(modules.resolve(name)));
const { JSDOM, VirtualConsole } = await load("jsdom");
const { AppBridge } = await load("@modelcontextprotocol/ext-apps/app-bridge");
const { html, results, serverTools } = JSON.parse(readFileSync(0, "utf8"));
const said = { calls: [], sizes: 0, faults: [] };

const browser = new VirtualConsole();
browser.on("jsdomError", (error) => said.faults.push(error.message));
const transport = {
  start: async () => {},
  close: async () => {},
  send: async (message) => {
    const event = new page.window.MessageEvent("message", { data: structuredClone(message) });
    Object.defineProperty(event, "source", { value: parent });
    page.window.dispatchEvent(event);
  },
};
const parent = { postMessage: (data) => setTimeout(() => transport.onmessage(structuredClone(data))) };
const bridge = new AppBridge(null, { name: "host", version: "1" }, serverTools ? { serverTools: {} } : {}, {
  hostContext: { theme: "dark", styles: { variables: { "--color-text-primary": "#123456" } } },
});
bridge.oncalltool = async (params) => {
  said.calls.push(params);
  return results[Math.min(said.calls.length, results.length - 1)];
};
bridge.addEventListener("sizechange", () => (said.sizes += 1));
const ready = new Promise((resolve) => bridge.addEventListener("initialized", resolve));
await bridge.connect(transport);
const page = new JSDOM(html, {
  runScripts: "dangerously",
  virtualConsole: browser,
  beforeParse(window) {
    Object.defineProperty(window, "parent", { value: parent });
    window.ResizeObserver = class { observe() {} };
    window.innerWidth = 600;
  },
});
const { document } = page.window;
const look = () => ({
  at: document.querySelector("#at").textContent,
  hidden: document.querySelector("#all").hidden,
  button: !document.querySelector("#again").hidden,
  tiles: [...document.querySelectorAll(".tile")].map((one) => one.textContent),
  bars: [...document.querySelectorAll("#speeds, #memory")].map((one) => one.textContent),
  rows: [...document.querySelectorAll("#runs tr")].map((row) => [...row.cells].map((cell) => cell.textContent)),
  elements: document.querySelectorAll("#runs td *").length,
  scheme: document.documentElement.style.colorScheme,
  colour: document.documentElement.style.getPropertyValue("--color-text-primary"),
});
const settled = () => new Promise((resolve) => setTimeout(resolve, 30));

await ready;
await bridge.sendToolInput({ arguments: {} });
await bridge.sendToolResult(results[0]);
await settled();
said.first = look();
document.querySelector("#again").click();
await settled();
said.second = look();
said.teardown = await bridge.teardownResource({});
document.querySelector("#again").click();
await settled();
console.log(JSON.stringify(said));
page.window.close();
process.exit(0);
