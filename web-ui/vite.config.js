// Built into the package that serves it. No inlined assets: the policy allows no data: addresses.
import { defineConfig } from "vite";

export default defineConfig({
  base: "/static/",
  publicDir: "public",
  build: {
    outDir: "../appliance/web/static/build",
    emptyOutDir: true,
    manifest: "manifest.json",
    assetsInlineLimit: 0,
    modulePreload: false,
    target: "es2022",
    rollupOptions: { input: "src/main.ts" },
  },
  worker: { format: "es" },
});
