// Starts the mock server by hand: `npm run mock`, then http://127.0.0.1:4100, token `mock-admin`.
import { start } from './server.mjs';

const port = Number(process.env.PORT ?? 4100);
const { url } = await start({ port });
console.log(`the mock server is at ${url}; tokens: mock-admin, mock-operator, mock-viewer`);
