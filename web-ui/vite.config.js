// Built into the package that serves it. No inlined assets: the policy allows no data: addresses.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { initWasm, Resvg } from "@resvg/resvg-wasm";
import { defineConfig } from "vite";

const ICONS = [
  { file: "icon-192.png", size: 192 },
  { file: "icon-512.png", size: 512 },
  { file: "icon-180.png", size: 180, whole: true },
  { file: "icon-maskable-512.png", size: 512, whole: true },
];

/** Draws the icons of the installed app from the one SVG; a system that cuts its own shape gets a whole square. */
function icons() {
  return {
    name: "icons",
    async generateBundle() {
      const drawn = await readFile("public/icon.svg", "utf8");
      await initWasm(await readFile(createRequire(import.meta.url).resolve("@resvg/resvg-wasm/index_bg.wasm")));
      for (const { file, size, whole } of ICONS) {
        const svg = whole ? drawn.replace(' rx="7"', "") : drawn;
        const source = new Resvg(svg, { fitTo: { mode: "width", value: size } }).render().asPng();
        this.emitFile({ type: "asset", fileName: file, source });
      }
    },
  };
}

export default defineConfig({
  base: "/static/",
  publicDir: "public",
  plugins: [icons()],
  build: {
    outDir: "../appliance/web/static/build",
    emptyOutDir: true,
    manifest: "manifest.json",
    assetsInlineLimit: 0,
    modulePreload: false,
    target: "es2022",
    rollupOptions: {
      input: ["src/main.ts", "src/service-worker.ts"],
      // The service worker has one address for ever; what it holds is named by its content.
      output: {
        entryFileNames: ({ name }) => (name === "service-worker" ? "service-worker.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  worker: { format: "es" },
});
