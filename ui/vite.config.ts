// How the console is built: hashed files, no source maps, nothing inline, so that the node can send
// it under a strict Content-Security-Policy. In development the API is asked of ATOLL_CONSOLE, by
// default of the mock server.
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const node = process.env.ATOLL_CONSOLE ?? 'http://127.0.0.1:4100';

export default defineConfig({
  plugins: [react()],
  build: {
    target: 'es2022',
    sourcemap: false,
    // Small files as data: URLs would need a wider policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: { '/v1': node, '/session': node },
  },
});
